"""Turn any source name into a sample key that is safe as a tar member's stem."""

import hashlib
import string

MAX_KEY_CHARS = 64
_HEAD_CHARS = 47  # head + "~" + 16 hex digits = MAX_KEY_CHARS
_PLAIN = frozenset((string.ascii_letters + string.digits + "_-").encode("ascii"))


def sample_key(name: str) -> str:
    """Return a short, dot-free ASCII key for `name`; different names get different keys.

    WebDataset splits a member's name at its first dot, and DALI at slashes too, so every UTF-8 byte
    outside [A-Za-z0-9_-] becomes %XX, which can be undone. What is then longer than 64 characters
    keeps its first 47 and gets "~" and 16 hex digits of the BLAKE2b of the full name: never cut
    silently ("~" occurs in no other key). Raises ValueError for the empty name.
    """
    if not name:
        raise ValueError("a sample needs a name, got ''; name the image file in the source")
    # for file names that are no UTF-8; the only injective handler
    raw = name.encode("utf-8", "surrogatepass")
    escaped = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if len(escaped) <= MAX_KEY_CHARS:
        return escaped
    return f"{escaped[:_HEAD_CHARS]}~{hashlib.blake2b(raw, digest_size=8).hexdigest()}"
