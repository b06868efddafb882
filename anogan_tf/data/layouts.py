"""Folders as people and publishers lay them out: one table of layouts, each of which knows its own and reads it.

The first layout in `LAYOUTS` that recognises what lies in a folder reads it. To add one, write a function that
recognises a `Listing` and one that makes a `Reading` of it, and name both in a line of the table.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import fnmatch
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from anogan_tf.data import images as image_files
from anogan_tf.data import records
from anogan_tf.data.listing import Listing, list_folder, without_mask_words

PARTS = {"train": "train", "val": "validation", "test": "test"}
PART = re.compile(
    r"(?:(train)(?:ing)?|(val)(?:id|idation)?|(test)(?:ing)?)(?:[_\- ]?(?:set|data|images|imgs|public))?", re.IGNORECASE
)
FILLERS = re.compile(r"(?:images?|imgs?|samples?|parts?|pictures?|pics?|products?|items?|data)$")
GOOD = (
    "good", "ok", "okay", "normal", "pass", "passed", "intact", "io", "defectfree", "nodefect", "nondefective",
    "undamaged", "faultless", "flawless", "anomalyfree", "nonanomalous",
)  # fmt: skip
BAD = (
    "bad", "ng", "nok", "notok", "ko", "nio", "notgood", "nogood", "abnormal", "anomaly", "anomalies", "anomalous",
    "defect", "defects", "defective", "fail", "failed", "faulty", "reject", "rejected", "damaged", "broken",
)  # fmt: skip
CONTAINERS = ("images", "image", "imgs", "img", "rgb", "data", "pictures")
ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
LIST_COLUMNS = {
    "path": ("path", "image", "image_path", "file", "filename"), "label": ("label", "class"),
    "mask": ("mask", "mask_path"), "group": ("group",), "part": ("part", "split"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a layout made of a folder, a value a picture in each list.

    Attributes:
        ids: Paths relative to the folder.
        files: The files.
        parts: `"train"`, `"validation"`, `"test"`, or `""` for nothing.
        classes: The folder, or whatever else names the class of a picture; `""` for none.
        labels: 0 normal, 1 anomalous.
        masks: Tuples of mask files, empty without any.
        groups: What must not be split, or None.
        unused: What was found and is not used, in words.
        told: What the user should know, in sentences.
        layout: The name of the layout.
    """

    ids: list
    files: list
    parts: list
    classes: list
    labels: list
    masks: list
    groups: list | None = None
    unused: tuple = ()
    told: tuple = ()
    layout: str = ""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to lay out a folder.

    Args:
        name: What people call it.
        recognises: Whether a `Listing` is laid out so.
        read: Function of a `Listing`, the names of normal classes or None, and whether all labelled pictures are for
            testing, to a `Reading`.
    """

    name: str
    recognises: Callable
    read: Callable


def read(
    source: str | os.PathLike, *, normal: Sequence[str] | None = None, pattern: str | None = None, testing: bool = False
) -> Reading:
    """Reads a folder, or a list of files, by the first layout that recognises it.

    Args:
        source: Path.
        normal: Names of the normal classes, or glob patterns of such; None where the layout says which they are.
        pattern: Glob pattern of file names; None for all image files.
        testing: Whether all that is labelled is for testing, where the layout has no training part.

    Returns:
        A `Reading`.

    Raises:
        ValueError: For a folder that no layout understands; it says what it found and what would be right.
    """
    source = Path(source)
    listing = list_folder(source, pattern) if source.is_dir() else Listing(source.parent, (), (), ((source.name,),), ())
    layout = next((layout for layout in LAYOUTS if layout.recognises(listing)), None)
    if layout is None:
        listing.check(pattern)
    reading = layout.read(listing, normal, testing)
    suffixes = collections.Counter(Path(path[-1]).suffix.lower() or "no suffix" for path in listing.others)
    unused = [*listing.left_out, *reading.unused]
    if suffixes and source.is_dir():
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))
        unused.append(f"files of other suffixes ({counts})")
    return dataclasses.replace(reading, layout=layout.name, unused=tuple(unused))


def is_good(name: str) -> bool:
    """Whether a class is called what only normal images are called, in any letter case and spelling."""
    return _letters(name) in GOOD


def is_bad(name: str) -> bool:
    """Whether a class is called what only anomalous images are called."""
    return _letters(name) in BAD


def _letters(name):
    """The letters of a name in lower case, without a last word such as `images`."""
    return FILLERS.sub("", re.sub(r"[^a-z]", "", name.lower()))


def _part(name):
    """The part that a folder's name says; None for other names."""
    found = PART.fullmatch(name)
    return PARTS[next(filter(None, found.groups())).lower()] if found else None


# Parts: train/, test/ and masks


def _has_parts(listing):
    tops = {_part(dirs[0]) for _, dirs in _within(listing) if dirs}
    return bool(tops & {"train", "test"})


def _read_parts(listing, normal, testing):
    """`train/` and `test/`, perhaps `validation/`, with a folder a class, or masks that tell the anomalous ones."""
    within = _within(listing, normal)
    if testing and normal and not _normal(normal, {name for _, dirs in within for name in dirs}):
        normal = None
    tops = collections.Counter(dirs[0] for _, dirs in within if dirs)
    _check_parts(listing, tops, testing)
    unknown = [top for top in tops if not _part(top)]
    unused = [f"{top}/ with {tops[top]} pictures, neither train/, validation/ nor test/" for top in unknown]
    loose = sum(not dirs for _, dirs in within)
    unused += [f"{loose} pictures beside {'/, '.join(sorted(tops))}/"] if loose else []
    used = [(path, _part(dirs[0]), dirs[1:]) for path, dirs in within if dirs and dirs[0] not in unknown]
    paths, parts = [path for path, _, _ in used], [part for _, part, _ in used]
    masks, stray = _matched(listing, paths)
    classes, labels = [""] * len(used), [0] * len(used)
    for part in dict.fromkeys(parts):
        members = [i for i, name in enumerate(parts) if name == part]
        found = _classes([_without_containers(used[i][2], used, part) for i in members], normal, listing.folder)
        for i, name in zip(members, found, strict=True):
            classes[i] = name
    known = _normal(normal, set(classes))
    by_mask = _by_mask(listing, paths, classes, parts, masks)
    if not by_mask and any(name == "" and part == "test" for name, part in zip(classes, parts, strict=True)):
        test = next(top for top in tops if _part(top) == "test")
        raise ValueError(
            f"Images in {listing.folder / test} lie in no class folder, such as good/ and defect/ in {test}, and have "
            "no masks that tell the anomalous ones."
        )
    for i, name in enumerate(classes):
        labels[i] = by_mask[paths[i]] if paths[i] in by_mask else int(name != "" and name not in known)
    told = [*_told_of_good(normal, set(classes) - known), *_told_of_test(parts, labels, testing)]
    aside = sum(label == 1 and part != "test" for label, part in zip(labels, parts, strict=True))
    unused += [f"{aside} anomalous pictures of the training or validation part"] if aside else []
    classes = [_named(name, by_mask.get(path)) for name, path in zip(classes, paths, strict=True)]
    if testing:
        parts = [part if part == "test" else "" for part in parts]
    else:
        _need_normal(listing.folder, parts, classes, labels, normal)
    return _reading(listing, paths, parts, classes, labels, masks, unused + stray, told)


def _check_parts(listing, tops, testing):
    named = collections.defaultdict(set)
    for top in tops:
        named[_part(top)].add(top)
    if len({name.lower() for name in named["validation"]}) > 1:
        val, validation = sorted(named["validation"])[:2]
        raise ValueError(
            f"{listing.folder} has {val}/ and {validation}/, which mean the same; there can be only one of them."
        )
    if not named["train"] and not testing:
        raise ValueError(
            f"{listing.folder} has {sorted(named['test'])[0]}/ and no train/ beside it, so there is nothing to train "
            "on: name the folder that holds both, or the one of the normal images."
        )


def _without_containers(dirs, used, part):
    """The folders of a picture within its part, without one such as `images/` that all of the part lies in."""
    tops = {other[0].lower() if other else "" for _, of, other in used if of == part}
    return dirs[1:] if len(tops) == 1 and dirs and dirs[0].lower() in CONTAINERS else dirs


def _by_mask(listing, paths, classes, parts, masks):
    """Path to label of the pictures in no class folder, where masks tell which are anomalous: those not all black."""
    bare = [path for path, name, part in zip(paths, classes, parts, strict=True) if name == "" and part != "validation"]
    in_test = any(name == "" and part in ("test", "") for name, part in zip(classes, parts, strict=True))
    if not in_test or not any(masks.get(path) for path in bare):
        return {}
    return {path: int(_marks(listing, masks.get(path, ()))) for path in bare}


def _marks(listing, masks):
    """Whether masks mark anything; those that cannot be read do, as nothing says that the picture is normal."""
    try:
        return bool(masks) and bool(image_files.read_mask(*map(listing.file, masks), size=(256, 256)).any())
    except ValueError:
        return True


def _named(name, label):
    return name if label is None else ("normal", "anomalous")[label]


def _told_of_test(parts, labels, testing):
    tested = {label for label, part in zip(labels, parts, strict=True) if part == "test"}
    if tested == {1} and not testing:
        yield "The test part has no normal images, so some of the training part are held out for it."
    if tested == {0}:
        yield "The test part has no anomalous images, so no test can tell how well they are found."


def _told_of_good(normal, others):
    for name in sorted(name for name in others if is_good(name)):
        yield (
            f"The class {name} counts as anomalous, as only {_listed(normal)} are named as normal; if it is normal, "
            f"name it too: --normal {shlex.quote(name)}."
        )


# Class folders


def _has_class_folders(listing):
    within = [dirs for _, dirs in _within(listing)]
    return len({dirs[:1] for dirs in within}) > 1 or any(
        dirs and (is_good(dirs[0]) or is_bad(dirs[0])) for dirs in within
    )


def _read_classes(listing, normal, testing):
    """A folder a class, or a folder a day or a lot with a folder a class in each; masks beside or apart from them."""
    folder, within = listing.folder, _within(listing, normal)
    dirs = [dirs for _, dirs in within]
    paths = [path for path, _ in within]
    names = {name for path in dirs for name in path}
    if testing and (normal is None or not _normal(normal, names)):
        normal = tuple(sorted(filter(is_good, names))) or normal or ("good",)
    alone = {path[:1] for path in dirs} == {dirs[0][:1]} and not any(map(is_bad, dirs[0][:1]))
    if normal is None and not alone:
        raise ValueError(_ambiguous(folder, dirs))
    classes = _classes(dirs, normal, folder) if normal else [""] * len(dirs)
    known = _normal(normal, set(classes))
    if "" in classes and normal and "" not in known:
        raise ValueError(f"Images in {folder} lie in no class folder, such as good/ and defect/ in {folder.name}.")
    labels = [int(name not in known) for name in classes] if normal else [0] * len(classes)
    parts = ["test" if label or testing else "train" for label in labels]
    _need_normal(folder, ["train" if testing else part for part in parts], classes, labels, normal)
    _need_known(normal or (), set(classes), folder)
    masks, stray = _matched(listing, paths)
    told = _told_of_good(normal, set(classes) - known) if normal else ()
    return _reading(listing, paths, parts, classes, labels, masks, stray, told)


def _is_visa(listing):
    """`Data/Images/{Normal,Anomaly}` beside `Data/Masks/Anomaly`, as a category of VisA is downloaded."""
    ways = {tuple(name.lower() for name in path[:3]) for path in listing.pictures}
    return ("data", "images", "normal") in ways and {way[:2] for way in ways} == {("data", "images")}


def _read_visa(listing, normal, testing):
    return _read_classes(listing, normal or ("Normal",), testing)


def _ambiguous(folder, dirs):
    """Why class folders are refused, and what to do."""
    try:
        classes = collections.Counter(_classes(dirs, None, folder))
    except ValueError:
        classes = collections.Counter(path[0] if path else "" for path in dirs)
    loose = classes.pop("", 0)
    if set(classes) <= {path[0] for path in dirs if path} and all(map(is_bad, classes)) and not loose:
        return f"{folder} has only {_listed(classes)} images: an AnoGAN is trained on normal ones."
    counts = ", ".join(f"{name!r} ({count} images)" for name, count in sorted(classes.items())[:20])
    counts += f" and {len(classes) - 20} more" if len(classes) > 20 else ""
    first = next(iter(sorted(classes, key=lambda name: (not is_good(name), is_bad(name), -classes[name]))), "good")
    beside = f", and {loose} images beside them" if loose else ""
    named = any(is_good(name) or is_bad(name) for name in classes)
    everything = "" if named else ", or normal='*' (--normal '*') if all of them are"
    return (
        f"{folder} has class folders: {counts}{beside}. Say which are normal: normal={first!r}{everything}. On the "
        f"command line: anogan-tf train {shlex.quote(str(folder))} --normal {shlex.quote(first)}"
    )


# One folder of pictures


def _has_masks_alone(listing):
    """Whether pictures in no class folder have masks, which then tell the anomalous ones."""
    in_good = any(is_good(name) for path in listing.pictures for name in path[:-1])
    if not listing.masks or not listing.pictures or in_good:
        return False
    masks, _ = _matched(listing, listing.pictures)
    beside = all(path in masks and masks[path][0][:-1] == path[:-1] for path in listing.pictures)
    return beside or (bool(masks) and all(not dirs for _, dirs in _within(listing)))


def _read_by_masks(listing, normal, testing):
    """Pictures with masks and without class folders: normal are those without a mask, or whose mask is all black."""
    if normal and not testing:
        return _read_classes(listing, normal, testing)
    paths = list(listing.pictures)
    masks, stray = _matched(listing, paths)
    labels = [int(_marks(listing, masks.get(path, ()))) for path in paths]
    classes = [_named("", label) for label in labels]
    parts = ["test" if label or testing else "train" for label in labels]
    told = ["Those pictures are anomalous whose mask marks something, as no class folders say which are."]
    _need_normal(listing.folder, parts if not testing else ["train"] * len(parts), classes, labels, normal)
    return _reading(listing, paths, parts, classes, labels, masks, stray, told)


def _has_pictures(listing):
    return bool(listing.pictures)


def _read_pictures(listing, normal, testing):
    """Nothing but normal images."""
    if normal or testing:
        return _read_classes(listing, normal, testing)
    paths = list(listing.pictures)
    masks, stray = _matched(listing, paths)
    n = len(paths)
    return _reading(listing, paths, ["train"] * n, [""] * n, [0] * n, masks, stray)


# Several categories


def _has_categories(listing):
    within = [dirs for _, dirs in _within(listing) if dirs]
    if any(_part(dirs[0]) in ("train", "test") for dirs in within):
        return False
    return bool(_category_names(within))


def _category_names(within):
    names = set()
    for dirs in within:
        ways = [name.lower() for name in dirs]
        if len(ways) > 1 and (_part(ways[1]) == "train" or ways[1:3] == ["data", "images"]):
            names.add(dirs[0])
    return sorted(names)


def _refuse_categories(listing, normal, testing):
    within = _within(listing)
    names = _category_names([dirs for _, dirs in within])
    path, dirs = next((path, dirs) for path, dirs in within if dirs and dirs[0] == names[0])
    first = listing.folder.joinpath(*path[: len(path) - 1 - len(dirs)], names[0])
    raise ValueError(
        f"{listing.folder} holds {len(names)} categories, each with a training part of its own: {_listed(names)}. Name "
        f"one of them: anogan-tf train {shlex.quote(str(first))}"
    )


# CelebA, LSUN, lists of files


def _is_celeba(listing):
    return any(path[-1].lower() in ATTRIBUTES for path in listing.others) and bool(listing.pictures)


def _read_celeba(listing, normal, testing):
    """Aligned pictures, `list_attr_celeba.txt`, and `list_eval_partition.txt` where it is there.

    Normal are the pictures with the attributes that `normal` names, such as `Eyeglasses=0`; without it all.
    """
    names, rows = _table(listing, ATTRIBUTES)
    wanted = [condition.partition("=")[::2] for condition in normal or ()]
    _need_known([name for name, _ in wanted], names, listing.folder)
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
    _need_normal(listing.folder, ["train"] * len(parts) if testing else parts, classes, labels, normal)
    left = len(listing.pictures) - len(paths)
    unused = [f"{left} pictures that the list of attributes does not name"] if left else []
    return _reading(listing, paths, parts, classes, labels, {}, unused)


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


def _is_lsun(listing):
    return not listing.pictures and any(path[-1] == "data.mdb" for path in listing.others)


def _read_lsun(listing, normal, testing):
    """LMDB folders such as `bedroom_train_lmdb`: of one category all are normal, of several `normal` names which."""
    folders = sorted(listing.file(path).parent for path in listing.others if path[-1] == "data.mdb")
    found = [records.LsunName.of(folder) for folder in folders]
    categories = {name.category for name in found}
    if len(categories) > 1 and normal is None:
        raise ValueError(_ambiguous(listing.folder, [(name.category,) for name in found]))
    known = _normal(normal, categories) if normal else categories
    _need_known(normal or (), categories, listing.folder)
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


def _is_list(listing):
    return not listing.pictures and [Path(path[-1]).suffix.lower() for path in listing.others] == [".csv"]


def _read_list(listing, normal, testing):
    """A CSV file with the columns `path,label[,mask,group,part]`; paths are relative to its folder."""
    file = listing.file(listing.others[0])
    rows = _rows_of_list(file)
    classes = [row["label"] for row in rows]
    if "" in classes:
        raise ValueError(f"{file}: each image has a label. There is none for {rows[classes.index('')]['path']}.")
    known = _normal(normal or (("0",) if "0" in classes else None), set(classes))
    _need_known(normal or (), set(classes), file)
    labels = [int(name not in known) for name in classes]
    parts = [_part_of_row(row, label, testing, file) for row, label in zip(rows, labels, strict=True)]
    if not any(row.get("part") for row in rows):
        parts = ["test" if label or testing else "train" for label in labels]
    _need_normal(file, ["train"] * len(rows), classes, labels, normal)
    missing = [row["path"] for row in rows if not (file.parent / row["path"]).is_file()]
    if missing:
        raise ValueError(f"{file} names {len(missing)} files that are not there: {_listed(missing[:10])}.")
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
    if name and not _part(name):
        raise ValueError(f"{file}: a part is train, validation or test. Received: {row['part']!r} for {row['path']}.")
    return _part(name) or ("test" if label or testing else "train")


# What the readers share


def _within(listing, normal=None):
    """Pairs of a picture's path and the folders it lies in, but for a way into the folder that is the same for all."""
    ways = [path[:-1] for path in listing.pictures]
    depth = 0
    while ways and all(len(way) > depth and way[depth] == ways[0][depth] for way in ways):
        name = ways[0][depth]
        if _part(name) or is_good(name) or is_bad(name) or _normal(normal or ("",), {name}):
            break
        depth += 1
    return [(path, path[depth:-1]) for path in listing.pictures]


def _classes(dirs, normal, where):
    """The class of each picture: its folder at the depth where the folders of normal ones lie, or the first."""
    known = _normal(normal, {name for path in dirs for name in path})
    depths = [depth for path in dirs for depth, name in enumerate(path) if name in known]
    level = min(depths, default=0)
    for path in dirs:
        if len(path) > level and path[level] not in known and known & set(path):
            raise ValueError(
                f"{where} has folders of normal images at different depths, one of them {'/'.join(path)}/, so that it "
                "is not clear which folders are the classes. Bring them to one depth."
            )
    return [path[level] if len(path) > level else "" for path in dirs]


def _normal(normal, classes):
    """Those of the classes that are normal: what `normal` names, by any letter case if by none as it is written."""
    if normal is None:
        return set(filter(is_good, classes))
    found = set()
    for name in normal:
        exact = {c for c in classes if _matches(c, (name,))}
        found |= exact or {c for c in classes if c.lower() == name.lower()}
    return found


def _matches(name, patterns):
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ())


def _need_normal(where, parts, classes, labels, normal):
    if not any(part == "train" and label == 0 for part, label in zip(parts, labels, strict=True)):
        classes = {name for name, part in zip(classes, parts, strict=True) if part == "train"} or set(classes)
        raise ValueError(
            f"{where}: no images of the normal class {_listed(normal or ('good',))} to train on. There are: "
            f"{_listed(sorted(classes))}. Name the normal class with normal= (--normal)."
        )


def _need_known(names, known, where):
    missing = [name for name in names if not _normal((name,), known)]
    if missing:
        raise ValueError(f"{where}: no class {_listed(missing)}. There are: {_listed(sorted(known))}.")


def _matched(listing, paths):
    """The masks of pictures, path to paths, and a sentence on those that fit none.

    A mask fits where it has the picture's name, or one that adds `_mask` and the like, and lies in like folders, those
    that say that they hold masks, pictures or a part left out; also in a folder with the picture's name.
    """
    by_place = collections.defaultdict(list)
    for mask in listing.masks:
        part, dirs = _place(mask)
        stem = Path(mask[-1]).stem.lower()
        for name in dict.fromkeys((stem, without_mask_words(stem))):
            by_place[part, (*dirs, name)].append(mask)
        by_place[part, (*dirs, None)].append(mask)
    found = {}
    for path in paths:
        part, dirs = _place(path)
        stem = Path(path[-1]).stem.lower()
        keys = [(*dirs, stem), (*dirs, stem, None)]
        places = [(p, key) for p in dict.fromkeys((part, None if part in (None, "test") else part)) for key in keys]
        masks = next((by_place[place] for place in places if place in by_place), [])
        if masks:
            found[path] = tuple(masks)
    taken = {mask for masks in found.values() for mask in masks}
    found |= _matched_by_name(
        [path for path in paths if path not in found], [m for m in listing.masks if m not in taken]
    )
    taken |= {mask for masks in found.values() for mask in masks}
    left = len(listing.masks) - len(taken)
    return found, ([f"{left} of {len(listing.masks)} masks, which fit no picture"] if left else [])


def _matched_by_name(paths, masks):
    """Masks that lie in no class folder, by their names alone, where only one picture is called so."""
    stems = collections.defaultdict(list)
    for path in paths:
        stems[Path(path[-1]).stem.lower()].append(path)
    found = collections.defaultdict(tuple)
    for mask in masks:
        part, dirs = _place(mask)
        called = stems.get(without_mask_words(Path(mask[-1]).stem.lower()), [])
        called = [path for path in called if part in (None, _place(path)[0])]
        if not dirs and len(called) == 1:
            found[called[0]] += (mask,)
    return dict(found)


def _place(path):
    """The part of a picture or mask, None without one, and the folders that tell it from others."""
    names = [without_mask_words(name).lower() for name in path[:-1]]
    part = next(filter(None, map(_part, names)), None)
    return part, tuple(name for name in names if name and not _part(name) and name not in CONTAINERS)


def _reading(listing, paths, parts, classes, labels, masks, unused=(), told=()):
    return Reading(
        ids=["/".join(path) for path in paths],
        files=[listing.file(path) for path in paths],
        parts=list(parts),
        classes=list(classes),
        labels=list(labels),
        masks=[tuple(listing.file(mask) for mask in masks.get(path, ())) for path in paths],
        unused=tuple(unused),
        told=tuple(told),
    )


def _listed(names):
    names = list(names)
    return ", ".join(repr(str(name)) for name in names[:20]) + (
        f" and {len(names) - 20} more" if len(names) > 20 else ""
    )


LAYOUTS = (
    Layout("list of files", _is_list, _read_list),
    Layout("LSUN", _is_lsun, _read_lsun),
    Layout("CelebA", _is_celeba, _read_celeba),
    Layout("VisA", _is_visa, _read_visa),
    Layout("several categories", _has_categories, _refuse_categories),
    Layout("training and test folders", _has_parts, _read_parts),
    Layout("pictures with masks", _has_masks_alone, _read_by_masks),
    Layout("class folders", _has_class_folders, _read_classes),
    Layout("pictures", _has_pictures, _read_pictures),
)
