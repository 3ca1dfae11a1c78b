"""What can be wrong with a user's data. Commands print these as one line and leave with status 2."""


class DataError(ValueError):
    """The data or the request cannot be used: the message names the value, the file, the key and the remedy."""


class FormatError(DataError):
    """A dataset on disk is not what its index says, or is of a version this code does not read."""


class SampleError(DataError):
    """One sample cannot be read or decoded; the message names shard and key."""


def one_line(error: BaseException) -> str:
    """Spell an exception for a message: its text without line breaks, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
