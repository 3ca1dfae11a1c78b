"""From a source of labelled photographs to tar shards."""
