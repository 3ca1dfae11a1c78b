"""What report.js does, in headless Chromium: the table sorts, the threshold moves, galleries open."""

import numpy as np
import pytest

from eval.results.measure import measure_predictions
from tests.eval.reports import ARTICLE, make_report, open_page


def test_a_script_that_is_not_the_reports_own_is_refused(browser, predictions, tmp_path):
    html = make_report(predictions).replace(
        "<main>", "<main><script>document.title = 'taken'</script>"
    )
    page, trouble = open_page(browser, html, tmp_path)
    assert "mAP" in page.title()
    assert any("Content Security Policy" in line for line in trouble)
    page.close()


@pytest.mark.parametrize(("column", "rising"), [(0, True), (1, False), (3, False), (7, False)])
def test_a_click_on_a_head_sorts_and_the_next_one_turns_round(opened, column, rising):
    page, _ = opened

    def values():
        cells = page.locator(f"#classes tbody tr > :nth-child({column + 1})").all_inner_texts()
        return cells if column == 0 else [float(cell.replace(",", "")) for cell in cells]

    head = page.locator("#classes thead th").nth(column)
    if column != 1:  # by AP it is sorted already
        before = values()
        head.locator("button").click()
        if column == 0:
            assert values() != before
    expected = sorted(values(), key=str.lower if column == 0 else None, reverse=not rising)
    assert values() == expected
    assert head.get_attribute("aria-sort") == ("ascending" if rising else "descending")
    head.locator("button").click()
    assert values() == expected[::-1]
    assert page.locator("#classes th[aria-sort]").count() == 1


def test_the_slider_moves_the_numbers_and_they_are_numpys(opened, predictions):
    page, trouble = opened
    scores = predictions.scores.double().numpy()
    seen = set()
    for number in (1, 0, 2):
        page.select_option("#class", str(number))
        known = predictions.known[:, number].numpy()
        labels = predictions.labels[known, number].numpy()
        for step in (0, 123, 500, 871, 1000):
            page.evaluate(
                "step => { const t = document.getElementById('t'); t.value = step;"
                " t.dispatchEvent(new Event('input')); }",
                step,
            )
            predicted = scores[known, number] >= step / 1000
            tp, fp = (predicted & labels).sum(), (predicted & ~labels).sum()
            fn, tn = (~predicted & labels).sum(), (~predicted & ~labels).sum()
            shown = {name: page.inner_text(f"#{name}") for name in ("tp", "fp", "fn", "tn")}
            assert shown == {"tp": str(tp), "fp": str(fp), "fn": str(fn), "tn": str(tn)}
            precision = "\u2013" if tp + fp == 0 else f"{tp / (tp + fp):.4f}"
            assert page.inner_text("#precision") == precision
            assert page.inner_text("#recall") == f"{tp / (tp + fn):.4f}"
            assert page.inner_text("#f1") == f"{2 * tp / (2 * tp + fp + fn):.4f}"
            assert page.inner_text("#t-value") == f"{step / 1000:.3f}"
            seen.add(tuple(shown.values()))
    assert len(seen) > 10
    assert page.evaluate("document.querySelectorAll('.chosen').length") == 2
    assert trouble == []


def test_keys_move_the_slider_and_best_f1_finds_its_place(opened, predictions):
    page, _ = opened
    page.select_option("#class", "1")
    page.focus("#t")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#t-value") == "0.501"
    best = measure_predictions(predictions)["per_class"]["dog"]
    page.click("#best")
    assert page.inner_text("#t-value") == f"{np.floor(best['best_f1_threshold'] * 1000) / 1000:.3f}"
    assert float(page.inner_text("#f1")) == pytest.approx(best["best_f1"], abs=0.05)
    dot = page.evaluate(
        "(() => { const c = document.querySelector('#curves circle'), b = c.closest('svg').dataset;"
        " return [(c.getAttribute('cx') - b.x0) / (b.x1 - b.x0), (c.getAttribute('cy') - b.y0) / "
        "(b.y1 - b.y0)]; })()"
    )
    assert dot == pytest.approx(
        [float(page.inner_text("#recall")), float(page.inner_text("#precision"))], abs=1e-4
    )


def test_the_gallery_of_another_class_opens_on_demand_as_if_it_had_been_chosen(
    browser, opened, predictions, tmp_path
):
    page, trouble = opened
    assert page.locator("#gallery-2").count() == 0
    page.select_option("#another", "2")
    page.wait_for_function(
        "[...document.querySelectorAll('#gallery-2 img')].every(i => i.complete)"
    )
    other, _ = open_page(browser, make_report(predictions, class_ids=(2,)), tmp_path)
    assert page.evaluate(ARTICLE, 2) == other.evaluate(ARTICLE, 2)
    words = "document.getElementById('gallery-2').innerText.replace(/\\s+/g, ' ')"
    assert page.evaluate(words) == other.evaluate(words)
    assert len(page.evaluate(ARTICLE, 2)[0]) == int(predictions.known[:, 2].sum())
    page.select_option("#another", "0")  # one that is there: it comes to the top, once
    assert page.locator("article").first.get_attribute("id") == "gallery-0"
    assert page.locator("article").count() == 3
    assert trouble == []
    other.close()


def test_without_javascript_all_but_slider_and_other_classes_is_there(
    browser, predictions, tmp_path
):
    page, _ = open_page(browser, make_report(predictions), tmp_path, java_script_enabled=False)
    assert page.locator("#classes tbody tr").count() == 3
    assert page.locator(".tile img").count() > 60
    assert page.locator("svg.plot").count() == 9
    assert not page.is_visible("#explorer")
    assert not page.is_visible("#more")
    page.close()
