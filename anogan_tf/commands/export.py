"""Writes a run as a model that needs no anogan_tf."""

from pathlib import Path

import numpy as np

from anogan_tf import exporting, published
from anogan_tf.runs import load_run


def run(run: str | Path, out: str | Path, *, format: str = "saved_model", search: bool = False) -> dict[str, float]:
    """Exports a run, see `exporting.export`, and tells how far it is from the run itself.

    Args:
        run: The folder of a run, or the name of a published one, whose golden pictures are then compared on, too.
        out: The folder of the export.
        format: A name of `formats.FORMATS`.
        search: Whether an AnoGAN searches z, and so draws.
    """
    scorer = load_run(run)
    pictures = [*exporting.example_pictures(scorer), *_golden(published.find(run))]
    differences = exporting.export(scorer, out, format=format, search=search, pictures=pictures)
    print(f"Exported to {out}. On {len(pictures)} pictures it differs from {run} by at most:")
    for name, value in differences.items():
        print(f"  {name:<16} {value:.1e}")
    return differences


def _golden(folder):
    """The golden pictures of a published run, and the first and the last in odd sizes."""
    file = folder / "golden.npz"
    if not file.is_file():
        return
    images = np.load(file)["images"]
    height, width = images.shape[1:3]
    for image in images:
        yield exporting.resized_picture(image, (height, width))
    yield exporting.resized_picture(images[0], (2 * height + 9, 3 * width - 1))
    yield exporting.resized_picture(images[-1], (5 * height // 2, 2 * width + 3))
