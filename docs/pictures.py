"""Makes the pictures of the documentation from results folders, with Chromium.

anogan-tf demo && anogan-tf test mvtec-bottle FOLDER --out bottle && python docs/pictures.py anogan-demo bottle
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from anogan_tf import page, plots

IMAGES = Path(__file__).parent / "images"
SCREENS = {  # name: width, height, colours, whether a picture is open
    "page": (1280, 800, "light", False),
    "page-large": (1280, 800, "dark", True),
    "page-phone": (390, 800, "light", True),
}


def screens(results: Path) -> None:
    """Photographs the page in three sizes."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, colours, is_open) in SCREENS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours)
            opened = context.new_page()
            opened.goto(f"file://{results.resolve()}/index.html")
            if is_open:
                opened.locator("#grid button").nth(5).click()
            opened.wait_for_timeout(500)
            opened.screenshot(path=IMAGES / f"{name}.jpg", type="jpeg", quality=80)
            context.close()
        browser.close()


def parts(results: Path, picture: str) -> None:
    """Draws one picture of a test: query, reconstruction, difference, outlined defect."""
    told = json.loads((results / "metrics.json").read_text())
    rows = (results / "scores.csv").read_text().splitlines()[1:]
    number = next(i for i, row in enumerate(rows, 1) if row.startswith(picture))
    query, _, reconstruction, _ = page.layer_names(number)
    image, drawn = (np.asarray(Image.open(results / name), np.float32) / 127.5 - 1 for name in (query, reconstruction))
    anomaly_map = np.asarray(Image.open(results / f"anomaly_map_{number:03d}.tiff"))
    figure = plots.result(image, drawn, anomaly_map, pixel_threshold=told["pixel_threshold"])
    figure.savefig(IMAGES / "bottle.jpg", dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    screens(Path(sys.argv[1]))
    parts(Path(sys.argv[2]), "test/broken_large/000")
