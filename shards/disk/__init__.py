"""The format on disk and its writer."""
