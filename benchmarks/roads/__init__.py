"""The roads from photographs to batches, a module each.

`batches(reading)` opens one: every iteration of the result is an epoch of (images uint8 [B, 3,
size, size], labels float32 [B, C]). `prepare(root, out, variant)`, where there is one, writes the
road's own data from a folder in VOC's layout. A module imports its peer at the top, so only that
peer's environment can import it (environments.py).
"""
