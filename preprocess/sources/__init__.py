"""Where labelled photographs come from, one module per source."""
