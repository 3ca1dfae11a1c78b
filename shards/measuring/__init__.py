"""How fast a packed dataset is read, and where the time goes."""
