"""A small report to open in a browser: class names, keys and texts of a stranger who means ill."""

from pathlib import Path

import numpy as np
import torch

from eval.prediction.predictions import Predictions
from eval.report.figures import draw_figures, figures
from eval.report.gallery import build_galleries
from eval.report.report import RunRecord, render_report
from eval.report.report_images import Thumbnails
from eval.results.class_curves import class_curves
from eval.results.files import write_report
from eval.results.measure import measure_predictions

HOSTILE = "</script><script>alert(1)</script>"
NUM_SAMPLES = 40
HISTORY = [
    {"epoch": e, "train_loss": 1 / e, "val_loss": 1.2 / e, "val_mAP": 1 - 1 / e, "lr": 0.1}
    for e in range(1, 6)
]
ARTICLE = (
    "id => [...document.querySelectorAll(`#gallery-${id} .gallery`)].map(g => "
    "[...g.querySelectorAll('.tile')].map(t => [t.querySelector('img').title, "
    "t.querySelector('img').naturalWidth, t.innerText, t.className]))"
)


def picture(index):
    """A flat picture whose red says which sample it is."""
    return np.full((60, 90, 3), (index * 6, 120, 40), np.uint8)


def make_report(
    predictions,
    class_ids=(0, 1),
    history=HISTORY,
    num_images=12,
    thumbnail=picture,
    baseline=None,
    **record,
):
    fields = {
        "title": "digits & <b>more</b>",
        "commands": ["python -m eval --ckpt 'a<b>'"],
        "config_yaml": "seed: 0\nnote: </pre><script>alert(3)</script>\n",
        "checkpoint": "runs/digits/best",
        "epoch": 4,
        "versions": {"torch": torch.__version__},
    }
    run = RunRecord(**{**fields, **record})
    curves = class_curves(predictions)
    metrics = measure_predictions(predictions, curves=curves) | (
        {"baseline": baseline} if baseline else {}
    )
    plots, _ = draw_figures(figures(metrics, predictions, curves, history))
    galleries = build_galleries(predictions, class_ids, num_images) if class_ids else []
    return render_report(
        metrics, predictions, run, plots, class_ids, galleries, Thumbnails(thumbnail)
    )


def open_page(browser, html, folder, **context):
    path = Path(folder) / "report.html"
    write_report(path, html)
    page = browser.new_page(**context)
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", "file:")) else trouble.append(request.url)
        ),
    )
    page.goto(path.as_uri(), wait_until="load")
    return page, trouble


def make_predictions():
    generator = torch.Generator().manual_seed(3)
    labels = torch.rand((NUM_SAMPLES, 3), generator=generator) < 0.4
    scores = torch.sigmoid(torch.randn(labels.shape, generator=generator) + 3 * labels - 1)
    known = torch.rand(labels.shape, generator=generator) < 0.9
    known[8:, 2] = False
    keys = [f'k"{i}<img src=x onerror=alert(2)></script>' for i in range(NUM_SAMPLES)]
    return Predictions(scores, labels, known, keys, [HOSTILE, "dog", "cat$x$"], "val")
