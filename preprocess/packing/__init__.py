"""Write a split: the pool, resuming, the index."""
