"""EXIF orientation: read from a file that Pillow opened, and undone."""

from PIL import Image

_ORIENTATION = 274
_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4}  # of one integer, in bytes, by its type in EXIF
_UPRIGHT = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for whatever is no such number: 0, 9, text, a
    fraction, several values.
    """
    try:
        exif = image.getexif()
        stored = getattr(exif, "_info", None)
        # bytes, until Pillow is first asked for the value
        encoded = getattr(stored, "_tagdata", {}).get(_ORIENTATION)
        kind = getattr(stored, "tagtype", {}).get(_ORIENTATION)
        if image.format != "TIFF" and encoded is not None and len(encoded) != _SIZES.get(kind or 0):
            exif[_ORIENTATION] = 1  # Pillow would take the first of several values
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to lose the photograph
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def turned(image: Image.Image, by: int) -> Image.Image:
    """Return the image upright, which its EXIF orientation says how to make."""
    return image.transpose(_UPRIGHT[by]) if by in _UPRIGHT else image
