"""Training: configuration, model, optimisation, checkpoints and the loop."""
