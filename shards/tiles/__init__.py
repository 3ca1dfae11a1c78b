"""A decoder for the crops of tiled JPEGs, compiled by numba: tiles in, training pixels out."""
