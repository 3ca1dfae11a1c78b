"""Exact multi-label evaluation: metrics, rankings and the report."""
