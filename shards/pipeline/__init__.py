"""From sample numbers to whole batches in reused buffers."""
