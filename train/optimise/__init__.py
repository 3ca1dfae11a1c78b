"""Loss, mixing, optimiser and the step."""
