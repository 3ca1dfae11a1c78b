"""Draw docs/tiles.svg: how a crop is cut out of a tiled JPEG. Run it again with `python
docs/draw_tiles.py`.

The numbers follow docs/format.md: a photograph of 512 x 384 pixels, MCUs of 16 x 16, 4 MCUs a tile.
"""

from pathlib import Path

WIDTH, HEIGHT = 512, 384
TILE_WIDTH, TILE_HEIGHT = 64, 16
CROP = (150, 112, 370, 290)  # left, top, right, bottom
MARGIN = 1  # pixels beside the crop that colour upsampling reads
SCALE = 0.5

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px; fill: #57606a }
.sky { fill: #cfe4f7 } .hill { fill: #8fb996 } .sun { fill: #f2c14e }
.grid { stroke: #24292f; stroke-opacity: .35; stroke-width: .5; fill: none }
.used { fill: #d4551f; fill-opacity: .75 } .unused { fill: #57606a; fill-opacity: .25 }
.crop { stroke: #d4551f; stroke-width: 2; fill: none } .arrow { stroke: #57606a; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9da7b3 }
  .sky { fill: #29435c } .hill { fill: #3f6b4a } .sun { fill: #c79a35 }
  .grid { stroke: #e6edf3 } .arrow { stroke: #9da7b3 } .unused { fill: #9da7b3 }
  .used { fill: #ff8a4c } .crop { stroke: #ff8a4c }
}
"""
SCENE = (
    '<rect class="sky" width="512" height="384"/><circle class="sun" cx="330" cy="160" r="46"/>'
    '<path class="hill" d="M0 300 Q130 130 260 260 T512 220 V384 H0Z"/>'
)


def needed_tiles() -> tuple[range, range]:
    """Return the columns and rows of tiles that the crop needs: its box, rounded outwards."""
    left, top, right, bottom = CROP
    columns = range((left - MARGIN) // TILE_WIDTH, -(-(right + MARGIN) // TILE_WIDTH))
    rows = range((top - MARGIN) // TILE_HEIGHT, -(-(bottom + MARGIN) // TILE_HEIGHT))
    return columns, rows


def photograph() -> str:
    """Draw the photograph with its tiles; those that the crop needs are coloured."""
    columns, rows = needed_tiles()
    used = rectangle(
        "used",
        columns[0] * TILE_WIDTH,
        rows[0] * TILE_HEIGHT,
        len(columns) * TILE_WIDTH,
        len(rows) * TILE_HEIGHT,
    )
    down = "".join(f"M{x} 0V{HEIGHT}" for x in range(0, WIDTH + 1, TILE_WIDTH))
    across = "".join(f"M0 {y}H{WIDTH}" for y in range(0, HEIGHT + 1, TILE_HEIGHT))
    left, top, right, bottom = CROP
    box = rectangle("crop", left, top, right - left, bottom - top)
    return f'{SCENE}<g opacity=".55">{used}</g><path class="grid" d="{down}{across}"/>{box}'


def compressed_file() -> str:
    """Draw the tiles in the file's order, one row of tiles a line: only the coloured bytes are
    read.
    """
    columns, rows = needed_tiles()
    return "".join(
        rectangle(
            "used" if column in columns and row in rows else "unused", column * 24, row * 8, 22, 6
        )
        for row in range(HEIGHT // TILE_HEIGHT)
        for column in range(WIDTH // TILE_WIDTH)
    )


def rectangle(kind: str, x: int, y: int, width: int, height: int) -> str:
    """Return one SVG rectangle of a class of STYLE."""
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>'


def arrow(x: int) -> str:
    """Draw an arrow to the right, from `x`."""
    return f'<path class="arrow" d="M{x} 136h36m-8 -6l8 6l-8 6"/>'


def drawing() -> str:
    """Return the whole SVG."""
    columns, rows = needed_tiles()
    num_used, num_tiles = len(columns) * len(rows), WIDTH * HEIGHT // (TILE_WIDTH * TILE_HEIGHT)
    left, top, right, bottom = CROP
    crop = f'<svg x="620" y="64" width="160" height="144" viewBox="{left} {top} {right - left} {bottom - top}"'
    texts = [
        (20, 26, "", "1. An image becomes tiles"),
        (
            20,
            252,
            "small",
            f"{WIDTH} x {HEIGHT} pixels: {num_tiles} tiles, each decodable by itself",
        ),
        (336, 26, "", "2. A crop is drawn first"),
        (336, 252, "small", f"its box needs {num_used} of {num_tiles} tiles:"),
        (336, 268, "small", "only these bytes are decoded"),
        (620, 26, "", "3. Pixels of the crop"),
        (620, 252, "small", "resized to 224 x 224"),
    ]
    labels = "".join(
        f'<text class="{kind}" x="{x}" y="{y}">{text}</text>' for x, y, kind, text in texts
    )
    body = (
        f'<g transform="translate(20 40) scale({SCALE})">{photograph()}</g>{arrow(288)}'
        f'<g transform="translate(336 42)">{compressed_file()}</g>{arrow(550)}'
        f'{crop} preserveAspectRatio="none">{SCENE}</svg>{rectangle("crop", 620, 64, 160, 144)}'
    )
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 284" role="img">'
    title = "<title>A JPEG is stored as tiles; a crop decodes only the tiles it covers</title>"
    return f"{head}{title}<style>{STYLE}</style>{labels}{body}</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_name("tiles.svg").write_text(drawing(), encoding="utf-8")
