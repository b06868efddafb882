"""Shows what a source is taken for, without training: a table, and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anogan_tf import atomic
from anogan_tf.commands.settings import load_splits
from anogan_tf.data import Splits
from anogan_tf.data.sheet import contact_sheet

MARK = ("Software", "anogan-tf data")  # in the file of a sheet


def run(source: str, out: str | Path = "data.png", **settings: Any) -> Splits:
    """Prints the parts, classes, counts and masks of a source, and draws some pictures of each.

    Args:
        source: As in `data.load`.
        out: Image file of the contact sheet; its folder is made where it is missing.
        **settings: Those of the source, as `anogan-tf train` takes them.

    Returns:
        The `Splits`.

    Raises:
        ValueError: If the sheet would lie among the pictures, or replace another file.
    """
    out = Path(out)
    if out.exists() and not _is_sheet(out):
        raise ValueError(f"{out} is there, and no contact sheet: name another file with --out.")
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise ValueError(f"The contact sheet would lie among the pictures: name another file. Received: --out {out}.")
    splits = load_splits({"source": source, "batch_size": None, **settings})
    print(splits.describe())
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(out) as partial:
        mark = PngInfo()
        mark.add_text(*MARK)
        contact_sheet(splits).save(partial, format="png", pnginfo=mark)
    print(f"Pictures of each: {out}")
    return splits


def _is_sheet(path):
    """Whether a file is one that this wrote."""
    try:
        with Image.open(path) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except OSError:
        return False
