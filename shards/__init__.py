"""Bytes on disk, order, decode and delivery; knows nothing of training.

Public are the names in `__all__` of the modules beside this one: index, loader, dataset, sampler,
errors, commandline. Everything else is private, all folders too: what it holds may change in any
release.
"""
