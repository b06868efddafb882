"""A list of files: a CSV file that names pictures, their labels, and perhaps masks, groups and parts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from anogan_tf.data.listing import Listing
from anogan_tf.data.reading import Reading, listed, need_known, need_normal, normal_of, part_of

LIST_COLUMNS = {
    "path": ("path", "image", "image_path", "file", "filename"), "label": ("label", "class"),
    "mask": ("mask", "mask_path"), "group": ("group",), "part": ("part", "split"),
}  # fmt: skip


def is_list(listing: Listing) -> bool:
    return not listing.pictures and [Path(path[-1]).suffix.lower() for path in listing.others] == [".csv"]


def read_list(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """A CSV file with the columns `path,label[,mask,group,part]`; paths are relative to its folder."""
    file = listing.file(listing.others[0])
    rows = _rows_of_list(file)
    classes = [row["label"] for row in rows]
    if "" in classes:
        raise ValueError(f"{file}: each image has a label. There is none for {rows[classes.index('')]['path']}.")
    known = normal_of(normal or (("0",) if "0" in classes else None), set(classes))
    need_known(normal or (), set(classes), file)
    labels = [int(name not in known) for name in classes]
    parts = [_part_of_row(row, label, testing, file) for row, label in zip(rows, labels, strict=True)]
    if not any(row.get("part") for row in rows):
        parts = ["test" if label or testing else "train" for label in labels]
    need_normal(file, ["train"] * len(rows), classes, labels, normal)
    missing = [row["path"] for row in rows if not (file.parent / row["path"]).is_file()]
    if missing:
        raise ValueError(f"{file} names {len(missing)} files that are not there: {listed(missing[:10])}.")
    return Reading(
        ids=[row["path"] for row in rows],
        files=[file.parent / row["path"] for row in rows],
        parts=parts,
        classes=classes,
        labels=labels,
        masks=[(file.parent / row["mask"],) if row.get("mask") else () for row in rows],
        groups=[row["group"] for row in rows] if "group" in rows[0] else None,
    )


def _rows_of_list(file):
    with open(file, newline="", encoding="utf-8-sig") as stream:
        first = stream.readline()
        stream.seek(0)
        delimiter = max(",;\t", key=first.count)
        rows = list(csv.DictReader(stream, delimiter=delimiter, skipinitialspace=True))
    names = {
        name: next((n for n in (rows[0] if rows else {}) if n and n.strip().lower() in called), None)
        for name, called in LIST_COLUMNS.items()
    }
    if not rows or names["path"] is None or names["label"] is None:
        raise ValueError(
            f"{file} is no list of images: it needs a line of column names, path,label and perhaps mask,group,part, "
            f"and a line an image. Its first line is: {first.strip()!r}."
        )
    return [{name: (row[column] or "").strip() for name, column in names.items() if column} for row in rows]


def _part_of_row(row, label, testing, file):
    name = row.get("part", "")
    if name and not part_of(name):
        raise ValueError(f"{file}: a part is train, validation or test. Received: {row['part']!r} for {row['path']}.")
    return part_of(name) or ("test" if label or testing else "train")
