"""Make docs/report.png: a picture of a report, as a browser shows it. Needs chromium.

python benchmarks/picture.py runs/digits/eval-val/report.html
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parents[1] / "docs" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1200, 1500  # pixels of the window
NUM_COLORS = 128  # enough for plots and grey digits; a quarter of the bytes


def main(report: Path) -> None:
    """Open the report in a headless browser and save what its window shows."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed: install one")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "report.png"
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        url = report.resolve(strict=True).as_uri()
        subprocess.run([browser, *flags, f"--screenshot={whole}", url], check=True, timeout=300)
        shrink(whole)


def shrink(whole: Path) -> None:
    """Save a picture with few colours as docs/report.png."""
    with Image.open(whole) as picture:
        picture.convert("RGB").quantize(NUM_COLORS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/picture.py REPORT.html")
    main(Path(sys.argv[1]))
