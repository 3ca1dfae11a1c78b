"""One module a road: how Tarmac and its peers read a set that is on a server.

`prepare(root, out)` writes what it reads; `Reader(place)` has `epoch(number)`, which yields the keys
of one batch after the other once their images are crops, and `state()` and `load(state)`.
"""
