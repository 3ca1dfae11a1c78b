"""From a network and batches to the scores of every sample."""
