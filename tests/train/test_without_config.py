"""Without --config the options are those of the digits: said once, where they are used."""

import subprocess
import sys


def said(*argv: str) -> list[str]:
    command = [sys.executable, "-m", "train", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr.splitlines()


def test_a_mistyped_flag_is_one_line():
    (line,) = said("--dta", "photos")
    assert line.startswith("error: no option --dta: did you mean --data?")


def test_other_data_than_the_digits_are_warned_of_their_size(tmp_path):
    note, error = said("--data", str(tmp_path))
    assert note == (
        "no --config: options that are not given are those of recipes/digits.yaml, made for "
        "digits (size 64); --config voc-fast is for photographs"
    )
    assert error.startswith(f"error: {tmp_path}: no split 'train'")
    (error,) = said("--config", "voc-fast", "--data", str(tmp_path))
    assert error.startswith(f"error: {tmp_path}: no split 'train'")
