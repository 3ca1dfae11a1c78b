"""Make docs/report.png: the head of a report and the start of its galleries, as a browser shows
them. Needs chromium.

python docs/draw_report.py runs/digits/eval-val/report.html
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "docs" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1200  # pixels of the window
# which part of the page -> how many pixels of it, from its top
PARTS = {"body": 402, "#images": 800}
NUM_COLORS = 128  # enough for numbers and small photographs; a quarter of the bytes


def main(report: Path) -> None:
    """Open the report in a headless browser and save what it shows of PARTS, one below the other."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed: install one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.goto(report.resolve(strict=True).as_uri())
        boxes = {part: page.locator(part).bounding_box() for part in PARTS}
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        browser.close()
    tops = {part: round(box["y"]) for part, box in boxes.items() if box is not None}
    save(
        [whole.crop((0, tops[part], WIDTH, tops[part] + height)) for part, height in PARTS.items()]
    )


def save(shots: list[Image.Image]) -> None:
    """Save pictures, one below the other and with few colours, as docs/report.png."""
    whole = Image.new("RGB", (WIDTH, sum(shot.height for shot in shots)))
    top = 0
    for shot in shots:
        whole.paste(shot, (0, top))
        top += shot.height
    whole.quantize(NUM_COLORS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/draw_report.py REPORT.html")
    main(Path(sys.argv[1]))
