"""Damage bytes as disks and strangers do."""

import numpy as np

NUM_ODD_BYTES = 40


def mutated(rng: np.random.Generator, data: bytes, header_bytes: int) -> bytes:
    """Change up to four bytes, more often in the header; cut off, repeat or insert something now
    and then.
    """
    out = bytearray(data)
    for _ in range(rng.integers(0, 5)):
        at = int(rng.integers(0, min(header_bytes, len(out)) if rng.random() < 0.6 else len(out)))
        out[at] = int(
            rng.choice(
                [
                    0,
                    0xFF,
                    0xDA,
                    0xC4,
                    0xC0,
                    out[at] ^ (1 << int(rng.integers(8))),
                    rng.integers(256),
                ]
            )
        )
    kind = rng.random()
    at = int(rng.integers(0, len(out) + 1))
    if kind < 0.1:
        return bytes(out[:at])
    if kind < 0.15:
        return bytes(out[:at] + rng.bytes(int(rng.integers(1, NUM_ODD_BYTES))) + out[at:])
    if kind < 0.2:
        return bytes(out[:at] + out[max(0, at - NUM_ODD_BYTES) :])
    return bytes(out)
