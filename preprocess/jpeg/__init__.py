"""Lossless rewriting of JPEGs into tiles."""
