"""The numbers of an evaluation and their files."""
