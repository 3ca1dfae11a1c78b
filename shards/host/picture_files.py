"""Which files of a folder are pictures, and what systems and tools leave behind there, which is
nobody's data.
"""

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".heic",
    ".heif",
    ".hif",
    ".avif",
)
_LEFT_BEHIND = frozenset(  # in lower case; what starts with a dot needs no line here
    (
        "__macosx",  # in zip files made by macOS: a second tree, of files ._NAME that hold no image
        "_ds_store",
        "icon\r",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",  # thumbnails of network disks
        "@__thumb",
        "#recycle",
        "lost+found",
        "__pycache__",
    )
)


def is_image(name: str) -> bool:
    """Tell by its suffix whether a file is an image that may be read."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_junk(name: str) -> bool:
    """Tell whether a file or folder is hidden, or was left behind by a system: never an image,
    never a class.
    """
    return name.startswith(".") or name.lower() in _LEFT_BEHIND
