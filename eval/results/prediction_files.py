"""Predictions as files for others: the PASCAL VOC server's, or one table as CSV or Parquet.

voc      results/VOC2012/Main/comp2_cls_val_aeroplane.txt, ...: a file per class, a line per image,
         `2008_000002 0.93` (identifier and confidence, the greater the surer), and all of them in
         comp2_cls_val.tar.gz, ready to upload. By the devkit comp1 is for systems trained on VOC's
         own trainval alone, comp2 for any data but the test set.
csv      predictions.csv: key, score_CLASS of every class, label_CLASS of every class: 1, 0, or
         empty where ignored
parquet  predictions.parquet: the same columns; scores float32, labels bool with nulls. Needs
         pyarrow.

Scores have nine digits, enough to give back the same float32: a ranking made from the files is that
of the report.
"""

import csv
import gzip
import io
import re
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import numpy as np

from eval.prediction.predictions import Predictions
from shards.disk.format import write_atomically
from shards.errors import DataError

Competition = Literal["comp1", "comp2"]
KINDS = ("voc", "csv", "parquet")
MAX_FILE_NAME_BYTES = 255  # of most file systems


def export_kinds(text: str) -> list[str]:
    """Read `voc,csv`; refuse what is not known, or what needs a package that is not installed."""
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise DataError(
                f"export is {kind!r}: give {', '.join(KINDS)}, or several separated by commas"
            )
    if "parquet" in kinds:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise DataError(
                "export parquet needs the package pyarrow: pip install 'tarmac-vision[parquet]', "
                "or give csv"
            ) from error
    return list(dict.fromkeys(kinds))


def check_voc_names(class_names: Sequence[str], keys: Sequence[str], split: str) -> None:
    """Refuse classes that cannot be part of a file's name, and keys that no longer tell the image's
    name.
    """
    room = MAX_FILE_NAME_BYTES - len(f"comp2_cls_{split}_.txt.tmp".encode())
    for name in class_names:
        if len(name.encode(errors="replace")) > room:
            raise DataError(
                f"export voc: class {name!r} is longer than the {room} bytes that a file's name "
                f"has; give csv"
            )
        if not name or name != Path(name).name or "\0" in name:
            raise DataError(f"export voc: class {name!r} cannot be part of a file's name; give csv")
    for key in keys:
        _image_id(key)


def write_export(
    kind: str,
    out: Path,
    predictions: Predictions,
    competition: Competition,
    packed_by: str,
    unread: Collection[str] = (),
) -> Path:
    """Write one kind of export into `out` and return the file to name; `packed_by` is the command
    of the dataset.

    Samples whose keys are `unread` have no score: none is made up for them.
    """
    if kind == "voc":
        return write_voc(out, predictions, competition, voc_year(packed_by), unread)
    path = out / f"predictions.{kind}"
    (write_csv if kind == "csv" else write_parquet)(path, predictions, unread)
    return path


def write_voc(
    out: Path,
    predictions: Predictions,
    competition: Competition,
    year: str,
    unread: Collection[str] = (),
) -> Path:
    """Write the VOC server's files under `out` and their archive, which is returned. Same content,
    same bytes.

    An unread image has no line: to the development kit its score is minus infinity.
    """
    ids = [None if key in unread else _image_id(key) for key in predictions.keys]
    folder = Path("results") / year / "Main"
    (out / folder).mkdir(parents=True, exist_ok=True)
    scores = predictions.scores.detach().cpu()
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for number, name in enumerate(predictions.class_names):
            path = folder / f"{competition}_cls_{predictions.split}_{name}.txt"
            lines = zip(ids, scores[:, number].tolist(), strict=True)
            text = "".join(
                f"{image} {score:.9g}\n" for image, score in lines if image is not None
            ).encode()
            write_atomically(out / path, text)
            member = tarfile.TarInfo(path.as_posix())
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    path = out / f"{competition}_cls_{predictions.split}.tar.gz"
    write_atomically(path, buffer.getvalue())
    return path


def voc_year(packed_by: str) -> str:
    """Tell the name of the challenge, which the server expects as a folder, from the command that
    packed the data.
    """
    found = re.findall(r"VOC20\d\d", packed_by)
    return found[-1] if found else "VOC2012"


def write_csv(path: Path, predictions: Predictions, unread: Collection[str] = ()) -> None:
    """Write a line per sample, in the index's order; what does not exist is left empty."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["key", *_column_names(predictions)])
    scores, labels, known = _arrays(predictions)
    for key, *row in zip(predictions.keys, scores, labels, known, strict=True):
        given, truth, counts = (values.tolist() for values in row)
        marks = [int(label) if there else "" for label, there in zip(truth, counts, strict=True)]
        writer.writerow(
            [key, *("" if key in unread else f"{score:.9g}" for score in given), *marks]
        )
    write_atomically(path, buffer.getvalue().encode(errors="backslashreplace"))


def write_parquet(path: Path, predictions: Predictions, unread: Collection[str] = ()) -> None:
    """Write the same table as Parquet."""
    import pyarrow
    import pyarrow.parquet

    scores, labels, known = _arrays(predictions)
    columns = [pyarrow.array(list(predictions.keys), pyarrow.string())]
    unscored = np.array([key in unread for key in predictions.keys], bool)
    columns += [pyarrow.array(column, mask=unscored) for column in scores.T]
    columns += [
        pyarrow.array(column, mask=~there) for column, there in zip(labels.T, known.T, strict=True)
    ]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(columns, ["key", *_column_names(predictions)]), buffer
    )
    write_atomically(path, buffer.getvalue())


def _column_names(predictions: Predictions) -> list[str]:
    return [f"{what}_{name}" for what in ("score", "label") for name in predictions.class_names]


def _arrays(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring scores float32, labels and known bool to the host: [N, K] each."""
    scores = predictions.scores.detach().float()
    labels = predictions.labels > 0
    known = predictions.known.bool()
    return scores.cpu().numpy(), labels.cpu().numpy(), known.cpu().numpy()


def _image_id(key: str) -> str:
    """Undo the escapes of a key: the image's name in its source, without the suffix."""
    name = unquote(key)
    if "~" in key or name.split() != [name]:
        raise DataError(
            f"export voc: key {key!r} does not tell an image identifier without spaces; give csv"
        )
    return name
