"""What deserves attention in a packed dataset."""
