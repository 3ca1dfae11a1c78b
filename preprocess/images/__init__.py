"""From the bytes of any photograph to the members of a sample."""
