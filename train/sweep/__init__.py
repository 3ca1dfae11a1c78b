"""Several runs, compared on one page."""
