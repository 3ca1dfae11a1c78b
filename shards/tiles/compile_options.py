"""How the tile decoder is compiled."""

from typing import Any

# No reference counts (_nrt): arrays are borrowed from the Python caller, nothing is allocated.
# Counting them at each call of a helper, atomically, made Huffman decoding 20 times as slow.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
# No contraction of products and sums to one rounding (fastmath's "contract"): which ones are joined
# depends on what the compiler has inlined and on the machine, and with it the last bit of a pixel.
# It costs 2% of the decoding.
INLINE: dict[str, Any] = {**OPTIONS, "forceinline": True}
