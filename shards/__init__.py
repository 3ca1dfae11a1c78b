"""Bytes on disk, order, decode and delivery; knows nothing of training."""
