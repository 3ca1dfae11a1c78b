"""The report in headless Chromium: all is there, nothing is fetched, nothing a stranger wrote comes alive."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.files import write_report
from eval.report import RunRecord, choose_classes, render
from eval.results import Predictions, measure
from eval.thumbnails import encode
from shards.errors import DataError

HOSTILE = "<script>alert(1)</script>"
NUM_SAMPLES = 40
HISTORY = [{"epoch": e, "train_loss": 1 / e, "val_loss": 1.2 / e, "val_mAP": 1 - 1 / e, "lr": 0.1} for e in range(1, 6)]


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(3)
    labels = torch.rand((NUM_SAMPLES, 3), generator=generator) < 0.4
    scores = torch.sigmoid(torch.randn(labels.shape, generator=generator) + 3 * labels - 1)
    known = torch.rand(labels.shape, generator=generator) < 0.9
    known[8:, 2] = False
    keys = [f'k"{i}<img src=x onerror=alert(2)>' for i in range(NUM_SAMPLES)]
    return Predictions(scores, labels, known, keys, [HOSTILE, "dog", "cat"], "val")


def picture(index):
    """A flat picture whose red says which sample it is."""
    return np.full((60, 90, 3), (index * 6, 120, 40), np.uint8)


def make_report(predictions, class_ids=(0, 1, 2), history=HISTORY, num_images=12, thumbnail=picture, **record):
    fields = {
        "title": "digits & <b>more</b>",
        "commands": ["python -m eval --ckpt 'a<b>'"],
        "config_yaml": "seed: 0\nnote: </pre><script>alert(3)</script>\n",
        "checkpoint": "runs/digits/best",
        "epoch": 4,
        "versions": {"torch": torch.__version__},
    }
    run = RunRecord(**{**fields, **record})
    return render(measure(predictions), predictions, run, history, class_ids, thumbnail, num_images)


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the PATH to open the report with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, predictions, tmp_path):
    """The report in a browser, with what it asked for and complained about."""
    path = Path(tmp_path) / "report.html"
    write_report(path, make_report(predictions))
    page = browser.new_page()
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("data:", "file:")) else trouble.append(request.url),
    )
    page.goto(path.as_uri(), wait_until="load")
    yield page, trouble
    page.close()


def test_a_browser_shows_it_without_error_request_or_script(opened):
    page, trouble = opened
    assert page.locator("h1").inner_text().startswith("0.")
    assert page.locator("script").count() == 0
    assert page.locator("#classes tbody tr").count() == 3
    assert HOSTILE in page.locator("#classes").inner_text()
    assert "</pre><script>" in page.locator("#repeat").inner_text()
    assert page.locator("svg.plot").count() == 3
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert trouble == []


def test_galleries_show_the_ranked_images(opened, predictions):
    page, _ = opened
    # 12 highest and 12 lowest of each class; of the last one only what is known of its 8 first samples.
    expected = [min(12, int(n)) for n in predictions.known.sum(0)]
    assert expected[2] < 12
    galleries = page.locator("details.gallery")
    assert [galleries.nth(i).locator("img").count() for i in range(6)] == [n for n in expected for _ in range(2)]
    images = "[...document.querySelectorAll('.tile img')]"
    assert page.evaluate(f"{images}.every(i => i.complete && i.naturalWidth == 90)")
    shown = page.evaluate(f"{images}.slice(0, 12).map(i => i.title)")
    scores = predictions.scores[:, 0].masked_fill(~predictions.known[:, 0], -1)
    assert shown == [predictions.keys[i] for i in scores.argsort(descending=True, stable=True)[:12]]


def test_wrong_images_are_marked_in_words(opened, predictions):
    page, _ = opened
    tiles = page.evaluate(
        "[...document.querySelectorAll('.class-gallery')].map(c => [...c.querySelectorAll('.gallery')].map("
        "g => [...g.querySelectorAll('.tile')].map(t => [t.querySelector('img').title,"
        " t.querySelector('.truth').innerText, t.classList.contains('wrong')])))"
    )
    for column, (highest, lowest) in enumerate(tiles):
        for expected, gallery in ((True, highest), (False, lowest)):
            for key, words, wrong in gallery:
                positive = bool(predictions.labels[predictions.keys.index(key), column])
                right = positive == expected
                assert words == f"{'✓' if right else '✗'} {'positive' if positive else 'negative'}"
                assert wrong is not right


@pytest.mark.parametrize("width", [340, 768, 1400])
def test_no_sideways_scrolling_on_any_screen(opened, width):
    page, _ = opened
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_differ_in_page_and_plots(opened):
    page, _ = opened
    colours = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.add(
            page.evaluate(
                "getComputedStyle(document.body).backgroundColor + "
                "getComputedStyle(document.querySelector('svg.plot text')).fill"
            )
        )
    assert len(colours) == 2


def test_each_picture_is_fetched_once_in_rising_order(predictions):
    asked = []

    def thumbnail(index):
        asked.append(index)
        return picture(index)

    html = make_report(predictions, thumbnail=thumbnail)
    assert asked == sorted(set(asked))
    uses = Counter(re.findall(r'src="(data:[^"]*)"', html))
    assert max(uses.values()) > 1


def test_same_input_same_page(predictions):
    assert make_report(predictions) == make_report(predictions)


def test_no_history_no_galleries_no_tail(predictions):
    low = Predictions(
        predictions.scores * 0.4,
        predictions.labels & False,
        predictions.known,
        predictions.keys,
        predictions.class_names,
        "test",
    )
    html = make_report(low, class_ids=(), history=[], epoch=None)
    assert "<svg" not in html
    assert "<img" not in html
    assert "there is no tail to measure" in html
    assert "epoch" not in html


def test_history_with_gaps_draws_what_it_has(predictions):
    history = [{"epoch": 1, "train_loss": 0.5, "val_mAP": None}, {"epoch": 2, "train_loss": 0.4}]
    assert make_report(predictions, history=history).count("<svg") == 2  # loss and tail accuracy


def test_thumbnails_are_small_and_never_enlarged():
    noise = np.random.default_rng(0).integers(0, 256, (500, 375, 3), dtype=np.uint8)
    assert len(encode(noise)) < 30_000
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], got float64"):
        encode(noise / 255)


def test_choose_classes():
    names = [f"c{i}" for i in range(30)]
    drawn = choose_classes(names, None, seed=0)
    assert drawn == choose_classes(names, None, seed=0)
    assert len(set(drawn)) == 5
    assert drawn != choose_classes(names, None, seed=1)
    assert choose_classes(names[:3], None, seed=0) == [0, 1, 2]
    assert choose_classes(names, ["c7", "c2", "c7"], seed=0) == [7, 2]
    with pytest.raises(DataError, match="no class named 'dog'; the classes are: c0, c1"):
        choose_classes(names, ["c1", "dog"], seed=0)
