"""The files of an evaluation, each saved whole or not at all."""

import csv
import io
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.prediction.predictions import Predictions
from eval.results.baseline import METRICS_NAME, PREDICTIONS_NAME, read_baseline
from shards.disk.format import write_atomically
from shards.errors import DataError

NUMBER = r"(?:null|[-\d.eE+]+)"
# strings of JSON hold no newline
NUMBERS = re.compile(rf"\[\n\s*{NUMBER}(?:,\n\s*{NUMBER})*\n\s*\]")
ACCURACY_COLUMNS = ("accuracy", "precision")  # of sets with one label a sample
CSV_COLUMNS = (
    "ap",
    "positives",
    "ignored",
    "roc_auc",
    "f1",
    "best_f1",
    "best_f1_threshold",
    "ece",
    "ap_11_points",
    "ap_interpolated",
)


# what an evaluation always writes
WRITTEN = ("report.html", "plots", METRICS_NAME, PREDICTIONS_NAME, "per_class.csv")


def check_others(folder: Path) -> None:
    """Raise DataError where a folder has files under the names of ours that no evaluation wrote:
    they would be replaced. An evaluation writes its metrics.json first.
    """
    places = [folder / name for name in WRITTEN]
    found = [path for path in places if path.is_file()] + sorted((folder / "plots").glob("*.png"))
    if not found:
        return
    try:
        read_baseline(folder / METRICS_NAME)
    except (DataError, OSError) as error:
        raise DataError(
            f"{folder}: holds {found[0].relative_to(folder)}, which no evaluation wrote, and would "
            "replace it: give another --out, or move it away"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder for results and try to write a file. Raises OSError, before anything is
    computed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json: strict JSON, so a NaN that slipped in is refused rather than written.

    A list of numbers is on one line.
    """
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    text = NUMBERS.sub(
        lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text
    )
    write_atomically(path, (text + "\n").encode(errors="backslashreplace"))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions.npz: scores float32 [N, K], labels and known bool [N, K], keys unicode [N].

    Same content, same bytes: `numpy.savez` dates every member 1980 and nothing else varies. No
    pickles.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        scores=predictions.scores.detach().to("cpu", torch.float32).numpy(),
        labels=(predictions.labels > 0).cpu().numpy(),
        known=predictions.known.bool().cpu().numpy(),
        keys=np.array(list(predictions.keys), dtype=np.str_),
    )
    write_atomically(path, buffer.getvalue())


def write_per_class(path: Path, metrics: dict[str, Any]) -> None:
    """Write per_class.csv, a line per class in their order; a number that does not exist is left
    empty.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [*(ACCURACY_COLUMNS if metrics["task"] == "multiclass" else ()), *CSV_COLUMNS]
    writer.writerow(["class", *columns])
    for name, entry in metrics["per_class"].items():
        writer.writerow(
            [name, *("" if entry[key] is None else repr(entry[key]) for key in columns)]
        )
    write_atomically(path, buffer.getvalue().encode(errors="backslashreplace"))


def write_report(path: Path, html: str) -> None:
    """Write report.html as UTF-8; bytes of a path that are not UTF-8 are escaped."""
    write_atomically(path, html.encode(errors="backslashreplace"))


def write_plots(folder: Path, plots: Mapping[str, bytes]) -> None:
    """Write each plot as NAME.png into `folder`, which is made.

    Grids of images that an earlier evaluation left of other classes go: they are of other scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*folder.glob("top-*.png"), *folder.glob("bottom-*.png")):
        if path.stem not in plots:
            path.unlink()
    for name, png in plots.items():
        write_atomically(folder / f"{name}.png", png)
