"""The report of a set with one label a sample, in headless Chromium: accuracy first, then what is
confused.
"""

import re

import numpy as np
import pytest
import torch

from eval.prediction.predictions import Predictions
from eval.report.examples import draw_examples
from eval.report.figures import draw_figures, figures
from eval.report.gallery import build_galleries, surest_mistakes
from eval.report.report import RunRecord, render_report
from eval.report.report_images import Thumbnails
from eval.results.class_curves import class_curves
from eval.results.measure import measure_predictions
from tests.eval.reports import HOSTILE, open_page

NAMES = [HOSTILE, *(f"kind {c}" for c in range(9))]
HISTORY = [
    {"epoch": e, "train_loss": 2 / e, "val_loss": 2.1 / e, "train_accuracy": 1 - 0.7 / e, "val_accuracy": 1 - 0.8 / e,
     "lr": 0.1}
    for e in range(1, 6)
]  # fmt: skip


@pytest.fixture(scope="module")
def predictions():
    generator = torch.Generator().manual_seed(4)
    targets = torch.randint(10, (200,), generator=generator)
    labels = torch.nn.functional.one_hot(targets, 10) > 0
    scores = (torch.randn(labels.shape, generator=generator) + 2 * labels).softmax(1)
    return Predictions(
        scores, labels, labels | True, [f"k{i}" for i in range(200)], NAMES, "test", "multiclass"
    )


def make(predictions, baseline=None):
    curves = class_curves(predictions)
    metrics = measure_predictions(predictions, curves=curves) | {
        "examples": draw_examples(predictions, 0)
    }
    metrics |= {"baseline": baseline} if baseline else {}
    run = RunRecord("cifar", ["python -m eval"], "seed: 0\n", "runs/cifar/best", 3)
    galleries = build_galleries(predictions, [1, 2], 12)
    picture = lambda sample: np.full((32, 32, 3), (sample, 90, 40), np.uint8)  # noqa: E731
    plots, _ = draw_figures(figures(metrics, predictions, curves, HISTORY))
    return metrics, render_report(
        metrics, predictions, run, plots, [1, 2], galleries, Thumbnails(picture)
    )


@pytest.fixture(scope="module")
def made(predictions):
    return make(predictions)


@pytest.fixture
def page(browser, made, tmp_path):
    page, trouble = open_page(browser, made[1], tmp_path)
    yield page
    assert trouble == []
    page.close()


def test_it_opens_with_accuracy_and_its_interval(page, made):
    metrics = made[0]
    assert page.inner_text("h1") == f"{metrics['accuracy']:.4f}\naccuracy"
    assert page.title().startswith(f"cifar: accuracy {metrics['accuracy']:.4f} on test")
    low, high = metrics["accuracy_interval"]
    assert f"95% interval {low:.4f} to {high:.4f}" in page.inner_text("header")
    facts = page.inner_text(".facts")
    assert f"Top-5 accuracy\n{metrics['top5_accuracy']:.4f}" in facts
    assert f"Mean average precision\n{metrics['mAP']:.4f}" in facts
    best = max(metrics["per_class"], key=lambda name: metrics["per_class"][name]["accuracy"])
    assert f"Best class\n{best}" in facts
    order = page.evaluate("[...document.querySelectorAll('section')].map(e => e.id)")
    assert order == [
        "repeat",
        "examples",
        "training",
        "classes",
        "labels",
        "curves",
        "scores",
        "images",
    ]
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(e => e.hash.slice(1))")
    assert links == order


def test_ten_images_tell_their_probabilities_and_mark_right_and_wrong(page, made, predictions):
    rows = page.locator("table.examples tbody tr")
    assert rows.count() == 10
    assert page.locator("table.examples thead th").all_inner_texts() == ["Image", "Class", *NAMES]
    for number, example in enumerate(made[0]["examples"]):
        row = rows.nth(number)
        cells = row.locator("td.number").all_inner_texts()
        assert [float(cell.strip("✓✗ ")) for cell in cells] == pytest.approx(
            example["probabilities"], abs=6e-4
        )
        assert [i for i, cell in enumerate(cells) if "✓" in cell] == [NAMES.index(example["class"])]
        missed = example["class"] != example["predicted"]
        assert [i for i, cell in enumerate(cells) if "✗" in cell] == (
            [NAMES.index(example["predicted"])] * missed
        )
        assert row.locator("img").get_attribute("alt") == example["key"]
        assert page.evaluate("e => e.naturalWidth", row.locator("img").element_handle()) == 32
        assert (row.get_attribute("class") == "missed") == missed


def test_classes_are_sorted_by_accuracy_and_confusion_and_curves_are_drawn(page, made):
    values = [
        float(v) for v in page.locator("table.classes tbody td:nth-child(2)").all_inner_texts()
    ]
    assert values == sorted(values, reverse=True)
    assert values == sorted(
        (round(e["accuracy"], 4) for e in made[0]["per_class"].values()), reverse=True
    )
    page.locator("table.classes thead th").nth(4).locator("button").click()
    values = [
        float(v) for v in page.locator("table.classes tbody td:nth-child(5)").all_inner_texts()
    ]
    assert values == sorted(
        (round(e["ap"], 4) for e in made[0]["per_class"].values()), reverse=True
    )
    labels = page.evaluate(
        "[...document.querySelectorAll('svg.plot')].map(e => e.getAttribute('aria-label'))"
    )
    assert sum("Accuracy per epoch" in label for label in labels) == 1
    assert page.locator("#labels svg").count() == 1
    assert "best 0.8400, epoch 5" in page.inner_text("#training")


def test_the_surest_mistakes_say_what_was_taken_for_what(page, predictions):
    tiles = page.locator("#images article").first.locator(".tile")
    found = surest_mistakes(predictions, 12)  # as many as the galleries hold
    assert tiles.count() == len(found)
    for number, (_, score, true, said) in list(enumerate(found))[:5]:
        words = " ".join(tiles.nth(number).inner_text().split())
        assert words == f"{score:.3f} ✗ {NAMES[true]}, taken for {NAMES[said]}"


@pytest.mark.parametrize("width", [340, 390, 768, 1400])
def test_no_sideways_scrolling(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_on_few_pages(page):
    assert 2 <= len(re.findall(rb"/Type\s*/Page[^s]", page.pdf(format="A4"))) <= 5


def test_the_baselines_accuracy_stands_before_its_map(browser, predictions, tmp_path):
    baseline = {
        "path": "runs/old", "split": "test", "num_samples": 200, "num_classes": 10, "mAP": 0.6, "baseline_mAP": 0.5,
        "difference": 0.1, "interval": None, "per_class": {},
        "accuracy": {"baseline": 0.7, "difference": -0.05, "interval": [-0.09, -0.01]},
    }  # fmt: skip
    page, trouble = open_page(browser, make(predictions, baseline)[1], tmp_path)
    first, second = page.inner_text("#baseline").split("\n")
    assert first.startswith(
        "\u22120.0500 against accuracy 0.7000 of runs/old interval of the difference \u22120.0900 "
        "to \u22120.0100"
    )
    assert second.startswith("+0.1000 against mAP 0.5000 of runs/old no interval")
    assert page.locator("#baseline b.bad").inner_text() == "\u22120.0500"
    assert trouble == []
    page.close()
