"""A contact sheet: a few pictures of each part and class with their masks, to see at a glance what was understood."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from anogan_tf.data import Splits
from anogan_tf.data import images as image_files

SIDE = 96  # pixels of a picture
GAP = 4
LINE = 16  # pixels of a line of text
MARK = (255, 40, 40)


def contact_sheet(splits: Splits, count: int = 8) -> Image.Image:
    """Up to `count` pictures of each row of `splits.plan`, evenly from the first to the last, as a Pillow image.

    Where they have masks, the same pictures lie below with what is marked in red; black where no mask is known.
    """
    strips = [_strip(splits, row, count) for row in splits.plan.rows]
    sheet = Image.new("RGB", (GAP + count * (SIDE + GAP), GAP + sum(strip.height for strip in strips)), "white")
    top = GAP
    for strip in strips:
        sheet.paste(strip, (GAP, top))
        top += strip.height
    return sheet


def _strip(splits, row, count):
    part, name, label, number, masks = row
    samples = splits.samples
    members = np.flatnonzero((samples.parts == part) & (samples.classes == name))
    picked = members[np.unique(np.linspace(0, len(members) - 1, count).round().astype(int))]
    lines = 2 if masks else 1
    strip = Image.new("RGB", (count * (SIDE + GAP), LINE + lines * (SIDE + GAP) + GAP), "white")
    title = f"{part}  {name or '-'}  {label}: {number} images" + (f", {masks} masks" if masks else "")
    ImageDraw.Draw(strip).text((0, 0), title, fill="black")
    for column, index in enumerate(picked):
        picture = _picture(samples, index, splits.preprocessing)
        left = column * (SIDE + GAP)
        strip.paste(picture, (left, LINE))
        if masks:
            strip.paste(_marked(samples, index, splits.preprocessing, picture), (left, LINE + SIDE + GAP))
    return strip


def _picture(samples, index, preprocessing):
    if samples.files is not None:
        crop, bits = preprocessing.crop, preprocessing.bits
        image, _ = image_files.read(samples.files[index], (SIDE, SIDE, 3), crop=crop, bits=bits)
    else:
        image, _ = samples.read(index, preprocessing)
    levels = np.rint((image + 1.0) * 127.5).astype(np.uint8)
    picture = Image.fromarray(levels.squeeze(-1) if levels.shape[-1] == 1 else levels).convert("RGB")
    return picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _marked(samples, index, preprocessing, picture):
    """The picture with what its mask marks in red."""
    if not samples.have_masks[index]:
        return Image.new("RGB", picture.size, "black")
    mask = samples.mask(index, preprocessing)
    if mask is None:
        return picture
    mask = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
    return Image.composite(Image.blend(picture, Image.new("RGB", picture.size, MARK), 0.6), picture, mask)
