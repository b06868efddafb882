"""Folders as data sets are published: VisA, CelebA, LSUN."""

from __future__ import annotations

from collections.abc import Sequence

from anogan_tf.data import records
from anogan_tf.data.folder_layouts import read_classes
from anogan_tf.data.listing import Listing
from anogan_tf.data.reading import Reading, ambiguity, need_known, need_normal, normal_of

ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")


def is_visa(listing: Listing) -> bool:
    """`Data/Images/{Normal,Anomaly}` beside `Data/Masks/Anomaly`, as a category of VisA is downloaded."""
    ways = {tuple(name.lower() for name in path[:3]) for path in listing.pictures}
    return ("data", "images", "normal") in ways and {way[:2] for way in ways} == {("data", "images")}


def read_visa(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    return read_classes(listing, normal or ("Normal",), testing)


def is_celeba(listing: Listing) -> bool:
    return any(path[-1].lower() in ATTRIBUTES for path in listing.others) and bool(listing.pictures)


def read_celeba(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """Aligned pictures, `list_attr_celeba.txt`, and `list_eval_partition.txt` where it is there.

    Normal are the pictures with the attributes that `normal` names, such as `Eyeglasses=0`; without it all.
    """
    names, rows = _table(listing, ATTRIBUTES)
    wanted = [condition.partition("=")[::2] for condition in normal or ()]
    need_known([name for name, _ in wanted], names, listing.folder)
    paths = [path for path in listing.pictures if path[-1] in rows]
    values = [dict(zip(names, rows[path[-1]], strict=True)) for path in paths]
    abnormal = [[n for n, value in wanted if (v[n] == "1") != bool(int(value or 1))] for v in values]
    labels = [int(bool(found)) for found in abnormal]
    partition = _table(listing, PARTITION)[1] if any(path[-1].lower() in PARTITION for path in listing.others) else {}
    numbers = {"0": "train", "1": "validation", "2": "test"}
    parts = [numbers[partition[path[-1]][0]] if path[-1] in partition else "train" for path in paths]
    if not partition:
        parts = ["test" if label or testing else "train" for label in labels]
    elif testing:
        parts = [part if part == "test" else "" for part in parts]
    classes = [",".join(found) for found in abnormal]
    need_normal(listing.folder, ["train"] * len(parts) if testing else parts, classes, labels, normal)
    left = len(listing.pictures) - len(paths)
    unused = [f"{left} pictures that the list of attributes does not name"] if left else []
    return Reading.of(listing, paths, parts, classes, labels, {}, unused)


def _table(listing, names):
    """The columns and rows by file name of one of CelebA's lists, as `.txt` or `.csv`."""
    path = next(path for path in listing.others if path[-1].lower() in names)
    lines = listing.file(path).read_text().splitlines()
    separator = "," if path[-1].lower().endswith("csv") else None
    if separator:
        columns, lines = lines[0].split(",")[1:], lines[1:]
    elif len(lines[0].split()) == 1:
        columns, lines = lines[1].split(), lines[2:]
    else:
        columns = ["part"]
    cells = (line.split(separator) for line in lines if line.strip())
    return columns, {name: row for name, *row in cells}


def is_lsun(listing: Listing) -> bool:
    return not listing.pictures and any(path[-1] == "data.mdb" for path in listing.others)


def read_lsun(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """LMDB folders such as `bedroom_train_lmdb`: of one category all are normal, of several `normal` names which."""
    folders = sorted(listing.file(path).parent for path in listing.others if path[-1] == "data.mdb")
    found = [records.LsunName.of(folder) for folder in folders]
    categories = {name.category for name in found}
    if len(categories) > 1 and normal is None:
        raise ValueError(ambiguity(listing.folder, [(name.category,) for name in found]))
    known = normal_of(normal, categories) if normal else categories
    need_known(normal or (), categories, listing.folder)
    files = [(name, file) for name, folder in zip(found, folders, strict=True) for file in records.in_folder(folder)]
    labels = [int(name.category not in known) for name, _ in files]
    parts = ["test" if label or testing else name.part for label, (name, _) in zip(labels, files, strict=True)]
    return Reading(
        ids=[f"{file.folder.name}/{file.name}" for _, file in files],
        files=[file for _, file in files],
        parts=parts,
        classes=[name.category if len(categories) > 1 else "" for name, _ in files],
        labels=labels,
        masks=[()] * len(files),
    )
