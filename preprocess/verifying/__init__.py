"""Check a packed split and repair it."""
