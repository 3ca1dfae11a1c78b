"""How numbers and names are spelled on terminals and pages."""

import unicodedata


def number(value: float | None) -> str:
    """Format a score to four digits; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def plain(text: str) -> str:
    """Replace control characters, which a stranger's class name could use to rewrite the terminal."""
    return "".join("?" if unicodedata.category(char).startswith("C") else char for char in text)


def is_text(name: str) -> bool:
    """Tell what can be written as UTF-8: of a folder's name that is in another encoding Python
    makes odd characters.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
