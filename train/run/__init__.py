"""A run's folder, checkpoints, ranks and progress."""
