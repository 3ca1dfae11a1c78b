"""How the tile decoder is compiled."""

from typing import Any

# No reference counts (_nrt): arrays are borrowed from the Python caller, nothing is allocated. Counting them at each
# call of a helper, atomically, made Huffman decoding 20 times as slow.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
# A product and a sum may be rounded once instead of twice: machines without such an instruction differ in the last bit.
ARITHMETIC: dict[str, Any] = {**OPTIONS, "fastmath": {"contract"}}
INLINE: dict[str, Any] = {**OPTIONS, "forceinline": True}
