"""HEIC and AVIF, as phones write them: which of the two some bytes are, and what reads them.

Both say how they are turned in the file's own boxes. libheif turns HEIC while decoding, and the
plugin then resets EXIF's orientation; Pillow passes AVIF's on as EXIF's. So either is turned once.
"""

from functools import cache

from PIL import features

from shards.errors import DataError

_AVIF = frozenset((b"avif", b"avis"))
_HEIF = frozenset(
    (
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
        *(b"mif1", b"mif2", b"msf1"),
    )
)
_MAX_BRANDS = 64


class MissingDecoder(DataError):
    """A package has to be installed: no fault of the image, so packing stops at the first one."""


def heif_format(data: bytes) -> str | None:
    """Return Pillow's name of the format, AVIF or HEIF; None where the bytes are neither.

    Raises MissingDecoder where nothing is installed that reads it.
    """
    brands = _brands(data)
    is_avif = any(brand in _AVIF for brand in brands)
    if not is_avif and not any(brand in _HEIF for brand in brands):
        return None
    if is_avif and brands[0] not in _HEIF - {b"mif1", b"mif2", b"msf1"}:
        if not features.check("avif"):
            raise MissingDecoder(
                "AVIF needs Pillow 11.3 or later: pip install 'tarmac-vision[heic]'"
            )
        _use_one_thread()
        return "AVIF"
    if not _register():
        raise MissingDecoder(
            "HEIC needs the package pillow-heif: pip install 'tarmac-vision[heic]'"
        )
    return "HEIF"


def _brands(data: bytes) -> list[bytes]:
    """List the brands in the first box of the file, the major one first."""
    if data[4:8] != b"ftyp":
        return []
    length = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS)
    return [data[8:12], *(data[at : at + 4] for at in range(16, length, 4))]


@cache
def _use_one_thread() -> None:
    """Let libavif decode in one thread: there is a packing process for each core."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


@cache
def _register() -> bool:
    """Let Pillow open HEIC files; return whether it can."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(decode_threads=1, aux_images=False, depth_images=False)
    return True
