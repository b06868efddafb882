"""Photographs for the demonstration: a dahlia, good and with painted defects, made of a picture of scikit-learn."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_sample_image

SIDE = 128  # pixels of a photograph
CENTRE, RADIUS = np.array([305.0, 222.0]), 138.0  # (x, y) of the blossom in the picture, in its pixels
GOOD = {"train": 100, "test": 20}
EACH = 8  # photographs of each defect
ATTRIBUTION = "flower.jpg of scikit-learn, by vultilion, CC BY 2.0\n"


def write(folder: str | Path, seed: int = 0) -> None:
    """Writes photographs of one flower in the layout of MVTec AD, with masks of the painted defects.

    In each the flower is a little moved, turned, nearer, brighter and of another tint, with the noise of a camera.

    Args:
        folder: Made whole or not at all, by several processes at once too; left as it is where it is there.
        seed: Of all that differs between the photographs.
    """
    folder = Path(folder)
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"partial-{folder.name}-", dir=folder.parent) as partial:
        made = Path(partial) / folder.name
        _write(made, np.random.default_rng(seed))
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first
                raise


def _write(folder, rng):
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    for part, count in GOOD.items():
        for number in range(count):
            _save(_lit(_seen(flower, _view(rng)), rng), folder / part / "good" / f"{number:03d}.png")
    for name, paint in DEFECTS.items():
        for number in range(EACH):
            (picture, mask), view = paint(flower, rng), _view(rng)
            mask = _seen(mask, view).point(lambda level: 255 * (level > 127))
            _save(_lit(_seen(picture, view), rng), folder / "test" / name / f"{number:03d}.png")
            _save(mask, folder / "ground_truth" / name / f"{number:03d}_mask.png")
    (folder / "ATTRIBUTION.txt").write_text(ATTRIBUTION)


def _save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _view(rng):
    """How a camera sees the blossom once, as Pillow's affine map of the photograph's pixels to the picture's."""
    scale = 2.15 * RADIUS / SIDE * rng.uniform(0.98, 1.02)  # pixels of the picture for one of the photograph
    angle = np.deg2rad(rng.uniform(-2, 2))
    turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corner = CENTRE + rng.uniform(-3, 3, 2) - turn @ np.full(2, SIDE / 2)
    return (*turn[0], corner[0], *turn[1], corner[1])


def _seen(picture, view):
    """The picture in a view, `SIDE` pixels a side."""
    soft = picture.filter(ImageFilter.GaussianBlur(0.9))  # as the transformation leaves out pixels in between
    return soft.transform((SIDE, SIDE), Image.Transform.AFFINE, view, Image.Resampling.BICUBIC)


def _lit(picture, rng):
    """The picture in another light, with noise."""
    levels = np.asarray(picture, np.float32) * rng.uniform(0.93, 1.07) * rng.uniform(0.98, 1.02, 3)
    levels += rng.normal(0, 2.5, levels.shape)
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _place(rng, within=0.75):
    """A point on the blossom, in the picture's pixels."""
    distance, angle = RADIUS * within * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return CENTRE + distance * np.array([np.cos(angle), np.sin(angle)])


def _blended(flower, other, mask):
    """The flower with another picture where the mask is, softly, and the mask."""
    return Image.composite(other, flower, mask.filter(ImageFilter.GaussianBlur(1.5))), mask


def _scratch(flower, rng):
    """A dark line."""
    mask, start = Image.new("L", flower.size), _place(rng, 0.5)
    direction = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 8))
    points = start + np.cumsum(9 * np.stack([np.cos(direction), np.sin(direction)], axis=1), axis=0)
    ImageDraw.Draw(mask).line([tuple(start), *map(tuple, points)], fill=255, width=5, joint="curve")
    return _blended(flower, Image.new("RGB", flower.size, (92, 38, 20)), mask)


def _rot(flower, rng):
    """A brown spot on a petal."""
    mask, (x, y) = Image.new("L", flower.size), _place(rng)
    for _ in range(6):
        radius, (dx, dy) = rng.uniform(7, 13), rng.normal(0, 6, 2)
        ImageDraw.Draw(mask).ellipse([x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius], fill=255)
    brown = Image.blend(flower, Image.new("RGB", flower.size, (88, 52, 24)), 0.75)
    return _blended(flower, brown, mask)


def _torn(flower, rng):
    """A petal torn out at the rim, where leaves show."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-direction[1], direction[0]])
    tip, wide = CENTRE + RADIUS * rng.uniform(0.6, 0.75) * direction, CENTRE + 1.05 * RADIUS * direction
    mask = Image.new("L", flower.size)
    ImageDraw.Draw(mask).polygon([tuple(tip), tuple(wide + 26 * across), tuple(wide - 26 * across)], fill=255)
    return _blended(flower, Image.new("RGB", flower.size, (10, 44, 52)), mask)


def _misgrown(flower, rng):
    """A patch of petals that grow the wrong way."""
    radius, (x, y) = rng.uniform(24, 32), np.rint(_place(rng, 0.65))
    box = [round(v) for v in (x - radius, y - radius, x + radius, y + radius)]
    turned = flower.copy()
    turned.paste(flower.crop(box).transpose(Image.Transpose.ROTATE_90), box[:2])
    mask = Image.new("L", flower.size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return _blended(flower, turned, mask)


DEFECTS = {"scratch": _scratch, "rot": _rot, "torn": _torn, "misgrown": _misgrown}
