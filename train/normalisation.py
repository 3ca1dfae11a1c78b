"""What a run may be given for the mean and std of its pixels."""

from shards.errors import DataError


def check_normalisation(normalize: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise DataError where `mean` and `std` do not go with `normalize` or with each other."""
    if normalize != "own":
        if mean or std:
            raise DataError(
                f"mean and std are given, but normalize is {normalize}: give --normalize own"
            )
        return
    if not mean or len(mean) != len(std):
        raise DataError(
            f"normalize is own, with {len(mean)} numbers for mean and {len(std)} for "
            "std: give as many of each as images have channels, such as --mean "
            "[0.46,0.44,0.40]"
        )
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        raise DataError(
            f"mean is {list(mean)}, std is {list(std)}: give shares of 255, mean "
            f"from 0 to 1, std above 0"
        )
