"""Imported by the fork server, once, so that workers start with the code of lossless tiling."""

from preprocess.images.geometry import ImageOptions
from preprocess.images.preloading import get_ready

get_ready(ImageOptions())
