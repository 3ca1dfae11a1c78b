"""Galleries as PNGs for a paper: the ranked images in their places, framed by right and wrong."""

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from eval.prediction.predictions import Predictions
from eval.report.gallery import build_galleries
from eval.report.image_grids import CAPTION, CELL, COLUMNS, GAP, HEAD, grids
from eval.report.report_images import Thumbnails
from eval.results.files import write_plots
from shards.pages.palette import PAPER

NUM_SAMPLES = 90
SIZES = [(32, 32), (300, 200), (90, 500), (1, 1), (128, 128)]


def make(names=("dog", "cat")):
    generator = torch.Generator().manual_seed(5)
    labels = torch.rand((NUM_SAMPLES, len(names)), generator=generator) < 0.5
    scores = torch.sigmoid(torch.randn(labels.shape, generator=generator) + labels)
    known = torch.rand(labels.shape, generator=generator) < 0.9
    return Predictions(scores, labels, known, [f"k{i}" for i in range(NUM_SAMPLES)], names, "val")


def picture(sample):
    width, height = SIZES[sample % len(SIZES)]
    return np.full((height, width, 3), (2 * sample, 40, 90), np.uint8)


def thumbnails():
    return Thumbnails(picture, range(NUM_SAMPLES))


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("num_images", [50, 10, 7])
def test_every_place_shows_its_image_and_a_frame_that_tells_right_from_wrong(num_images):
    predictions = make()
    galleries = build_galleries(predictions, [0, 1], num_images)
    drawn = grids(predictions, [0, 1], galleries, thumbnails())
    assert list(drawn) == ["top-dog", "bottom-dog", "top-cat", "bottom-cat"]
    frames = {False: np.array(to_rgb(PAPER.first)) * 255, True: np.array(to_rgb(PAPER.bad)) * 255}
    rows = -(-num_images // COLUMNS)
    for number, name in enumerate(predictions.class_names):
        for prefix, shown, expected in (
            ("top", galleries[number].highest, True),
            ("bottom", galleries[number].lowest, False),
        ):
            pixels = opened(drawn[f"{prefix}-{name}"])
            assert pixels.shape == (
                HEAD + rows * (CELL + CAPTION + GAP),
                GAP + COLUMNS * (CELL + GAP),
                3,
            )
            assert len(shown) == num_images
            for place, (sample, _) in enumerate(shown):
                x, y = (
                    GAP + place % COLUMNS * (CELL + GAP),
                    HEAD + place // COLUMNS * (CELL + CAPTION + GAP),
                )
                assert pixels[y + CELL // 2, x + CELL // 2].tolist() == [2 * sample, 40, 90]
                wrong = bool(predictions.labels[sample, number]) != expected
                assert np.abs(pixels[y + CELL // 2, x] - frames[wrong]).max() < 90  # antialiased
                assert np.abs(pixels[y + CELL // 2, x] - frames[not wrong]).max() > 90
                # a score
                assert pixels[y + CELL + 4 : y + CELL + CAPTION, x : x + CELL].min() < 120
            assert pixels[:HEAD].min() < 60  # a title


def test_same_scores_same_bytes():
    predictions = make()
    galleries = build_galleries(predictions, [1], 12)
    assert grids(predictions, [1], galleries, thumbnails()) == grids(
        predictions, [1], galleries, thumbnails()
    )


def test_fewer_known_images_than_places():
    predictions = make()
    predictions.known[3:, 0] = False
    galleries = build_galleries(predictions, [0], 50)
    num_known = int(predictions.known[:, 0].sum())
    assert len(galleries[0].highest) == num_known
    assert (
        opened(grids(predictions, [0], galleries, thumbnails())["top-dog"]).shape[0]
        == HEAD + CELL + CAPTION + GAP
    )


def test_strangers_names_stay_in_the_folder_and_never_share_a_file(tmp_path):
    names = (
        "../../up",
        "a/b",
        "Dog",
        "dog",
        "nul\0",
        "x" * 300,
        "x" * 299 + "y",
        "$\\frac",
        "größe 犬",
    )
    predictions = make(names)
    chosen = list(range(len(names)))
    drawn = grids(predictions, chosen, build_galleries(predictions, chosen, 1), thumbnails())
    assert len({name.casefold() for name in drawn}) == 2 * len(names)
    write_plots(tmp_path / "plots", drawn)
    assert len(list((tmp_path / "plots").iterdir())) == 2 * len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["plots"]


def test_grids_of_an_earlier_choice_of_classes_go_other_plots_stay(tmp_path):
    write_plots(tmp_path, {"loss": b"1", "top-dog": b"2", "bottom-dog": b"3"})
    (tmp_path / "mine.png").write_bytes(b"4")
    write_plots(tmp_path, {"loss": b"5", "top-cat": b"6", "bottom-cat": b"7"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bottom-cat.png",
        "loss.png",
        "mine.png",
        "top-cat.png",
    ]


def test_a_picture_that_page_and_paper_show_is_decoded_once():
    asked = []

    def counted(sample):
        asked.append(sample)
        return picture(sample)

    predictions = make()
    galleries = build_galleries(predictions, [0, 1], 12)
    both = Thumbnails(counted, range(NUM_SAMPLES))
    both.fetch(range(NUM_SAMPLES))
    grids(predictions, [0, 1], galleries, both)
    assert sorted(asked) == list(range(NUM_SAMPLES))


def test_nothing_to_add_draws_no_bar(capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr("eval.report.report_images.tqdm", lambda *a, **k: drawn.append(a) or [])
    Thumbnails(picture, range(NUM_SAMPLES)).fetch([])
    assert drawn == []
