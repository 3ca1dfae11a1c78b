"""The page of an inspection: pictures are drawn fairly, it opens in Chromium, no stranger's text
comes alive.
"""

import base64
import io
import re
from itertools import combinations

import pytest
from PIL import Image

from preprocess.inspecting.inspection_page import class_galleries, render_inspection
from preprocess.inspecting.thumbnails import decode_small, thumbnails
from preprocess.record import Record
from shards.index import open_split
from shards.pages.html import LONG_SIDE
from shards.pipeline.reader import ShardReader
from tests.conftest import jpeg
from tests.preprocess.conftest import HOSTILE, NAMES, pack, scene


def test_galleries_draw_from_the_class_and_by_the_seed(things):
    indexes = [open_split(things, split) for split in ("train", "val")]
    galleries = class_galleries(indexes, 5, 0)
    assert [gallery.name for gallery in galleries] == list(NAMES)
    for number, gallery in enumerate(galleries):
        total = sum(int(index.labels()[:, number].sum()) for index in indexes)
        assert gallery.num_images == total
        assert len(gallery.tiles) == min(5, total) == len({tile.sample for tile in gallery.tiles})
        for tile in gallery.tiles:
            index = indexes[tile.sample[0]]
            assert index.labels()[tile.sample[1], number]
            assert (tile.split, tile.key) == (index.split, index.key(tile.sample[1]))
    assert class_galleries(indexes, 5, 0) == galleries
    assert class_galleries(indexes, 5, 1) != galleries


def test_each_picture_is_made_once_and_small(inspection, monkeypatch):
    made = []
    monkeypatch.setattr(
        "preprocess.inspecting.thumbnails.data_uri",
        lambda image: made.append(image.shape) or "data:,",
    )
    page = render_inspection(inspection, 12, 0, 1)
    assert len(made) == len(set(re.findall(r'title="((?:train|val) [^"]*)"', page)))
    assert len(made) < page.count("<img ")
    assert {shape[2] for shape in made} == {3}


def test_pictures_are_decoded_small(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "large.jpg").write_bytes(jpeg(scene(0, (2400, 1200))))
    pack(
        tmp_path / "data",
        "train",
        [Record("large", folder / "large.jpg", "large.jpg", (0,), ())],
        ("a",),
    )
    index = open_split(tmp_path / "data", "train")
    assert decode_small(ShardReader(index), 0, 128, 64, "RGB").shape == (150, 300, 3)
    (uri,) = thumbnails([index], [(0, 0), (0, 0)], 1).values()
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.size == (LONG_SIDE, LONG_SIDE // 2)


def test_many_classes_share_the_pictures_of_a_page(inspection, monkeypatch):
    monkeypatch.setattr("preprocess.inspecting.inspection_page.MAX_PICTURES", 6)
    monkeypatch.setattr("preprocess.inspecting.inspection_page.MATRIX_CLASSES", 4)
    assert [len(gallery.tiles) for gallery in class_galleries(inspection.indexes, 12, 0)] == [1] * 6
    page = render_inspection(inspection, 12, 0, 1)
    assert "Only the first 6 classes are shown." in page
    assert "the 4 commonest classes" in page


@pytest.fixture
def opened(browser, inspection, tmp_path):
    """The page in a browser, with what it asked for and complained about."""
    path = tmp_path / "inspect.html"
    path.write_text(render_inspection(inspection, 12, 0, 1), encoding="utf-8")
    page = browser.new_page()
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
    yield page, trouble
    page.close()


def test_a_browser_shows_it_without_error_request_or_script(opened, inspection):
    page, trouble = opened
    assert page.locator("h1").inner_text().startswith("111")
    assert page.locator("script").count() == 0
    assert page.locator(".findings li").count() == len(inspection.findings)
    assert page.locator(".findings .serious").count() == 3
    assert HOSTILE in page.locator("table.classes").first.inner_text()
    assert page.locator("table.classes").first.locator("tbody tr").count() == len(NAMES)
    assert page.locator(".matrix tbody tr").count() == len(NAMES)
    assert page.locator(".pair").count() == 5
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    missing = page.evaluate(
        "[...document.querySelectorAll('nav a')].filter(a => "
        "!document.querySelector(a.hash)).map(a => a.hash)"
    )
    assert missing == []
    assert trouble == []


def test_co_occurrence_cells_say_the_share(opened, inspection):
    page, _ = opened
    counts = sum(split.together for split in inspection.splits)
    cells = page.evaluate(
        "[...document.querySelectorAll('.matrix tbody tr')].map(row => "
        "[...row.querySelectorAll('td')].map(cell => cell.innerText))"
    )
    for a, b in combinations(range(9), 2):
        share = 100 * counts[a, b] / counts[a, a]
        assert cells[a][b] == ("" if not counts[a, b] else f"{share:.0f}")


@pytest.mark.parametrize("width", [340, 390, 768, 1400])
def test_no_sideways_scrolling_on_any_screen(opened, width):
    page, _ = opened
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_differ(opened):
    page, _ = opened
    colours = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
