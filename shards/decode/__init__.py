"""From the bytes of an image member to pixels."""
