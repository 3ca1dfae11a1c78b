"""The files of an evaluation, each written whole or not at all."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.results import Predictions
from shards.format import write_atomically


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json: strict JSON, so a NaN that slipped in is refused rather than written."""
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions.npz: scores float32 [N, K], labels and known bool [N, K], keys unicode [N].

    Same content, same bytes: `numpy.savez` dates every member 1980 and nothing else varies. No pickles.
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
    """Write per_class.csv, a line per class in their order; `ap` is empty without positives."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["class", "ap", "positives", "ignored"])
    for name, entry in metrics["per_class"].items():
        ap = "" if entry["ap"] is None else repr(entry["ap"])
        writer.writerow([name, ap, entry["positives"], entry["ignored"]])
    write_atomically(path, buffer.getvalue().encode())


def write_report(path: Path, html: str) -> None:
    """Write report.html as UTF-8."""
    write_atomically(path, html.encode())
