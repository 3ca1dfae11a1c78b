"""What the pages share: pictures that are small, a policy that fetches nothing, figures that follow
the colours.
"""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from shards.pages.html import LONG_SIDE, content_policy, data_uri, environment, stylesheet
from shards.pages.palette import PAPER, add_legend, empty_figure, fix_layout, png, svg


def decoded(uri):
    assert uri.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("shape", [(500, 375, 3), (375, 500, 3), (2000, 3, 3), (40, 60, 3)])
def test_pictures_are_shrunk_in_proportion_and_never_enlarged(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    small = decoded(data_uri(image))
    scale = min(1, LONG_SIDE / max(shape))
    assert small.shape == (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)), 3)
    assert len(data_uri(image)) < 20_000


def test_pictures_keep_their_colours():
    image = np.full((300, 200, 3), (220, 120, 40), np.uint8)
    assert np.abs(decoded(data_uri(image)).astype(int) - (220, 120, 40)).max() < 8


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], got float64"):
        data_uri(np.zeros((4, 4, 3)))


def test_the_stylesheet_closes_no_element_and_fetches_nothing():
    text = stylesheet()
    assert "<" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_allows_only_the_named_scripts():
    assert "script-src" not in content_policy()  # so default-src 'none' holds for them
    assert content_policy(["sha256-abc"]).endswith("; script-src 'sha256-abc'")
    assert content_policy().startswith("default-src 'none'")


def test_templates_escape():
    assert environment("eval.report").from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"


def test_a_figure_on_the_page_has_no_colour_of_its_own_and_says_where_its_axes_lie():
    figure = empty_figure(PAPER, "x", "y <axis>")
    axes = figure.axes[0]
    axes.plot([0, 1], [0, 1], color=PAPER.first)
    axes.set_xlim(0, 2)
    axes.set_ylim(0, 1)
    text = svg(figure, "one", 'a "title"')
    assert set(re.findall(r"#[0-9a-f]{6}", text)) == set()
    assert {"var(--first)", "var(--muted)", "var(--line)"} <= set(re.findall(r"var\(--\w+\)", text))
    assert text.startswith(
        '<svg class="plot" role="img" aria-label="a &quot;title&quot;" data-x0="'
    )
    assert "<axis>" not in text
    x0, x1, y0, y1 = (
        float(re.search(rf'data-{name}="([-\d.]+)"', text)[1]) for name in ("x0", "x1", "y0", "y1")
    )
    line = re.search(
        r'd="M ([\d.]+) ([\d.]+)\s+L ([\d.]+) ([\d.]+)\s+"[^>]*stroke: var\(--first\)', text
    )
    assert [float(v) for v in line.groups()] == pytest.approx([x0, y0, x1, y1], abs=0.01)


def test_same_figure_same_bytes():
    def draw():
        figure = empty_figure(PAPER, "x", "y")
        figure.axes[0].plot([0, 1], [0, 1])
        return figure

    assert png(draw()) == png(draw())
    assert svg(draw(), "a", "") == svg(draw(), "a", "")


def test_a_figure_whose_layout_is_fixed_is_drawn_once_by_each_output(monkeypatch):
    figures = [empty_figure(PAPER, "score", "images") for _ in range(2)]
    for figure in figures:
        figure.axes[0].plot([0.1, 0.7], [0.2, 0.9], color=PAPER.first, label="mean")
        add_legend(figure.axes[0], PAPER, loc="upper left")
    fix_layout(figures[0])
    figures[1].get_layout_engine().execute(figures[1])
    figures[1].set_layout_engine("none")  # draws twice, the first time for nothing
    outputs = [(svg(figure, "a", "A"), png(figure)) for figure in figures]
    assert outputs[0] == outputs[1]
    drawn = []
    monkeypatch.setattr(
        type(figures[0].axes[0]), "draw", lambda axes, renderer: drawn.append(renderer)
    )
    svg(figures[0], "a", "A")
    png(figures[0])
    assert len(drawn) == 2
