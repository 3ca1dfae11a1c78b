"""Random numbers by hashing, crops and augmentations."""
