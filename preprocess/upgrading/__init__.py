"""From version 1 of the format to version 2."""
