"""The report in headless Chromium: all is there, nothing is fetched, nothing a stranger wrote comes
alive.
"""

import json
import re
from collections import Counter

import pytest
import torch
from markupsafe import escape

from eval.prediction.predictions import Predictions
from shards.errors import SampleError
from tests.eval.reports import ARTICLE, HOSTILE, NUM_SAMPLES, make_report, open_page, picture


def test_a_browser_shows_it_without_error_or_request_and_runs_no_strangers_script(opened):
    page, trouble = opened
    assert page.locator("h1").inner_text().startswith("0.")
    assert "95% interval 0." in page.locator("header").inner_text()
    assert page.locator("#classes tbody tr").count() == 3
    assert HOSTILE in page.locator("#classes").inner_text()
    assert HOSTILE in page.locator("#class").inner_text()
    assert "</pre><script>" in page.locator("#repeat").inner_text()
    assert page.locator("svg.plot").count() == 9
    assert page.locator("script").count() == 3
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert trouble == []


def test_galleries_show_the_ranked_images(opened, predictions):
    page, _ = opened
    images = "[...document.querySelectorAll('.tile img')]"
    assert page.evaluate(f"{images}.every(i => i.complete && i.naturalWidth == 90)")
    for number in (0, 1):
        highest, lowest, false_positives, false_negatives = page.evaluate(ARTICLE, number)
        scores, known = predictions.scores[:, number], predictions.known[:, number]
        positive = predictions.labels[:, number] & known

        def keys(values, keep, falling):
            order = values.argsort(descending=falling, stable=True).tolist()
            return [predictions.keys[i] for i in order if keep[i]][:12]

        assert [tile[0] for tile in highest] == keys(scores, known, True)
        assert [tile[0] for tile in lowest] == keys(scores, known, False)
        assert [tile[0] for tile in false_positives] == keys(scores, known & ~positive, True)
        assert [tile[0] for tile in false_negatives] == keys(scores, positive, False)
        for shown, expected in (
            (highest, True),
            (lowest, False),
            (false_positives, True),
            (false_negatives, False),
        ):
            for key, _, words, names in shown:
                row = predictions.keys.index(key)
                right = bool(positive[row]) == expected
                assert words.split()[1] == ("✓" if right else "✗")
                assert names == ("tile" if right else "tile wrong")
                labels = (predictions.labels & predictions.known)[row]
                true = [
                    name
                    for name, shows in zip(predictions.class_names, labels, strict=True)
                    if shows
                ]
                assert words.endswith(", ".join(true) or "no label")


@pytest.mark.parametrize("width", [340, 390, 768, 1400])
def test_no_sideways_scrolling_on_any_screen(opened, width):
    page, _ = opened
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_differ_in_page_and_plots_but_paper_is_always_light(opened):
    page, _ = opened
    colours = {"screen": set(), "print": set()}
    for media, seen in colours.items():
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, media=media)
            seen.add(
                page.evaluate(
                    "getComputedStyle(document.body).backgroundColor + "
                    "getComputedStyle(document.querySelector('svg.plot text')).fill"
                )
            )
    assert len(colours["screen"]) == 2
    assert len(colours["print"]) == 1
    assert "rgb(255, 255, 255)" in colours["print"].pop()


@pytest.mark.parametrize("num_classes", [3, 20, 80])
def test_it_prints_on_two_to_five_pages_without_controls(browser, tmp_path, num_classes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand((300, num_classes), generator=generator) < 0.2
    scores = torch.sigmoid(torch.randn(labels.shape, generator=generator) + 2 * labels - 2)
    names = [f"a kind of thing {c}" for c in range(num_classes)]
    many = Predictions(scores, labels, labels | True, [f"k{i}" for i in range(300)], names, "val")
    config = "\n".join(f"option_{i}: {i}" for i in range(45))
    html = make_report(
        many,
        range(min(5, num_classes)),
        num_images=50,
        thumbnail=lambda i: picture(i % 40),
        config_yaml=config,
    )
    page, _ = open_page(browser, html, tmp_path)
    pdf = page.pdf(format="A4")
    assert 2 <= len(re.findall(rb"/Type\s*/Page[^s]", pdf)) <= 5
    page.emulate_media(media="print")
    assert not page.is_visible("#explorer")
    assert page.locator("#classes tbody tr:visible").count() == min(num_classes, 40)
    page.close()


def test_the_baseline_is_named_with_its_difference_and_tone(browser, predictions, tmp_path):
    baseline = {
        "path": "runs/<old>",
        "split": "test",
        "num_samples": 7,
        "num_classes": 2,
        "mAP": 0.7,
        "baseline_mAP": 0.65,
        "difference": 0.05,
        "interval": [0.01, 0.09],
        "per_class": {
            "dog": {"difference": -0.1, "interval": [-0.2, -0.05]},
            HOSTILE: {"difference": 0.2, "interval": [-0.1, 0.3]},
        },
    }
    page, trouble = open_page(browser, make_report(predictions, baseline=baseline), tmp_path)
    words = page.inner_text("#baseline")
    assert words.startswith(
        "+0.0500 against 0.6500 of runs/<old> interval of the difference +0.0100 to +0.0900, paired"
    )
    assert "over the 2 classes that both have" in words
    assert "measured on test, 7 images" in words
    cells = page.locator("#classes tbody tr > :nth-child(4)")
    shown = dict(
        zip(
            page.locator("#classes tbody th").all_inner_texts(),
            cells.all_inner_texts(),
            strict=True,
        )
    )
    assert shown == {"dog": "\u22120.1000", HOSTILE: "+0.2000", "cat$x$": "\u2013"}
    assert page.locator("#classes td.bad").all_inner_texts() == ["\u22120.1000"]
    assert page.locator("#classes td.good").count() == 0
    page.locator("#classes thead th").nth(3).locator("button").click()
    assert cells.all_inner_texts() == ["+0.2000", "\u22120.1000", "\u2013"]
    assert trouble == []
    page.close()


@pytest.mark.slow
def test_each_picture_is_fetched_once(predictions):
    asked = []

    def thumbnail(index):
        asked.append(index)
        return picture(index)

    html = make_report(predictions, thumbnail=thumbnail)
    assert len(asked) == len(set(asked))
    static = Counter(re.findall(r'src="(data:[^"]*)"', html))
    assert max(static.values()) > 1
    held = json.loads(re.search(r'id="pictures">(.*?)</script>', html)[1])
    # what stands on the page is not held again
    assert set(held["pictures"].values()).isdisjoint(static)
    assert len(held["pictures"]) + len(static) == len(asked)


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded_whole_is_grey_and_named_once(predictions, capsys):
    def thumbnail(index):
        if index == 0:
            raise SampleError("damaged outside its centre crop")
        return picture(index)

    html = make_report(predictions, thumbnail=thumbnail, num_images=40)
    said = f"1 sample could not be decoded whole, which its centre crop did not need: {predictions.keys[0]};"
    assert html.count(f"<dt>grey here</dt><dd>{escape(said)}") == 1
    assert capsys.readouterr().err.count(said) == 1
    assert make_report(predictions).count("grey here") == 0


def test_no_history_no_galleries_no_tail(browser, predictions, tmp_path):
    low = Predictions(
        predictions.scores * 0.4,
        predictions.labels & False,
        predictions.known,
        predictions.keys,
        predictions.class_names,
        "test",
    )
    html = make_report(low, class_ids=(), history=[], epoch=None)
    assert html.count("<svg") == 3  # confusion, scores and calibration
    assert "<img" not in html
    assert "there is no tail to measure" in html
    assert "epoch" not in html
    page, trouble = open_page(browser, html, tmp_path)
    assert page.inner_text("#tn") == str(int(predictions.known[:, 0].sum()))
    assert trouble == []
    page.close()


def test_one_label_a_sample_shows_no_pairs_of_labels(browser, predictions, tmp_path):
    labels = torch.nn.functional.one_hot(torch.arange(NUM_SAMPLES) % 3, 3) > 0
    single = Predictions(
        predictions.scores,
        labels,
        labels | True,
        predictions.keys,
        ["a", "b", "c"],
        "val",
        "multiclass",
    )
    page, trouble = open_page(browser, make_report(single), tmp_path)
    assert page.locator("#labels svg").count() == 1
    assert "Most frequent confusions" in page.inner_text("#labels")
    assert trouble == []
    page.close()


def test_history_with_gaps_draws_what_it_has(predictions):
    history = [{"epoch": 1, "train_loss": 0.5, "val_mAP": None}, {"epoch": 2, "train_loss": 0.4}]
    html = make_report(predictions, history=history)
    assert 'aria-label="Loss per epoch"' in html
    assert "Validation mAP per epoch" not in html


@pytest.mark.slow
def test_galleries_that_are_shortened_say_so(predictions, monkeypatch):
    assert "more than one page holds" not in make_report(predictions, class_ids=(0,))
    monkeypatch.setattr("eval.report.gallery.MAX_PICTURES", 1)
    assert "a class that is chosen here no image is shown" in make_report(
        predictions, class_ids=(0,)
    )
