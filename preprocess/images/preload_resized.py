"""Imported by the fork server, once, so that workers start with the code of resizing JPEGs."""

from preprocess.images.geometry import ImageOptions
from preprocess.images.preloading import get_ready

get_ready(ImageOptions(short_side=32))
