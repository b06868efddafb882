"""Folders as people lay them out: parts, classes, pictures with masks, pictures alone, and several categories."""

from __future__ import annotations

import collections
import shlex
from collections.abc import Sequence

from anogan_tf.data.listing import Listing
from anogan_tf.data.masks import mark_anything, matched
from anogan_tf.data.reading import (
    CONTAINERS,
    Reading,
    ambiguity,
    classes_of,
    is_bad,
    is_good,
    listed,
    need_known,
    need_normal,
    normal_of,
    part_of,
    with_folders,
)


def has_parts(listing: Listing) -> bool:
    tops = {part_of(dirs[0]) for _, dirs in with_folders(listing) if dirs}
    return bool(tops & {"train", "test"})


def read_parts(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """`train/` and `test/`, perhaps `validation/`, with a folder a class, or masks that tell the anomalous ones."""
    within = with_folders(listing, normal)
    if testing and normal and not normal_of(normal, {name for _, dirs in within for name in dirs}):
        normal = None
    tops = collections.Counter(dirs[0] for _, dirs in within if dirs)
    _check_parts(listing, tops, testing)
    unknown = [top for top in tops if not part_of(top)]
    unused = [f"{top}/ with {tops[top]} pictures, neither train/, validation/ nor test/" for top in unknown]
    loose = sum(not dirs for _, dirs in within)
    unused += [f"{loose} pictures beside {'/, '.join(sorted(tops))}/"] if loose else []
    used = [(path, part_of(dirs[0]), dirs[1:]) for path, dirs in within if dirs and dirs[0] not in unknown]
    paths, parts = [path for path, _, _ in used], [part for _, part, _ in used]
    masks, stray = matched(listing, paths)
    classes, labels = [""] * len(used), [0] * len(used)
    for part in dict.fromkeys(parts):
        members = [i for i, name in enumerate(parts) if name == part]
        found = classes_of([_without_containers(used[i][2], used, part) for i in members], normal, listing.folder)
        for i, name in zip(members, found, strict=True):
            classes[i] = name
    known = normal_of(normal, set(classes))
    by_mask = _by_mask(listing, paths, classes, parts, masks)
    if not by_mask and any(name == "" and part == "test" for name, part in zip(classes, parts, strict=True)):
        test = next(top for top in tops if part_of(top) == "test")
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
        need_normal(listing.folder, parts, classes, labels, normal)
    return Reading.of(listing, paths, parts, classes, labels, masks, unused + stray, told)


def _check_parts(listing, tops, testing):
    named = collections.defaultdict(set)
    for top in tops:
        named[part_of(top)].add(top)
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
    return {path: int(mark_anything(listing, masks.get(path, ()))) for path in bare}


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
            f"The class {name} counts as anomalous, as only {listed(normal)} are named as normal; if it is normal, "
            f"name it too: --normal {shlex.quote(name)}."
        )


def has_class_folders(listing: Listing) -> bool:
    within = [dirs for _, dirs in with_folders(listing)]
    return len({dirs[:1] for dirs in within}) > 1 or any(
        dirs and (is_good(dirs[0]) or is_bad(dirs[0])) for dirs in within
    )


def read_classes(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """A folder a class, or a folder a day or a lot with a folder a class in each; masks beside or apart from them."""
    folder, within = listing.folder, with_folders(listing, normal)
    dirs = [dirs for _, dirs in within]
    paths = [path for path, _ in within]
    names = {name for path in dirs for name in path}
    if testing and (normal is None or not normal_of(normal, names)):
        normal = tuple(sorted(filter(is_good, names))) or normal or ("good",)
    alone = {path[:1] for path in dirs} == {dirs[0][:1]} and not any(map(is_bad, dirs[0][:1]))
    if normal is None and not alone:
        raise ValueError(ambiguity(folder, dirs))
    classes = classes_of(dirs, normal, folder) if normal else [""] * len(dirs)
    known = normal_of(normal, set(classes))
    if "" in classes and normal and "" not in known:
        raise ValueError(f"Images in {folder} lie in no class folder, such as good/ and defect/ in {folder.name}.")
    labels = [int(name not in known) for name in classes] if normal else [0] * len(classes)
    parts = ["test" if label or testing else "train" for label in labels]
    need_normal(folder, ["train" if testing else part for part in parts], classes, labels, normal)
    need_known(normal or (), set(classes), folder)
    masks, stray = matched(listing, paths)
    told = _told_of_good(normal, set(classes) - known) if normal else ()
    return Reading.of(listing, paths, parts, classes, labels, masks, stray, told)


def has_masks_alone(listing: Listing) -> bool:
    """Whether pictures in no class folder have masks, which then tell the anomalous ones."""
    in_good = any(is_good(name) for path in listing.pictures for name in path[:-1])
    if not listing.masks or not listing.pictures or in_good:
        return False
    masks, _ = matched(listing, listing.pictures)
    beside = all(path in masks and masks[path][0][:-1] == path[:-1] for path in listing.pictures)
    return beside or (bool(masks) and all(not dirs for _, dirs in with_folders(listing)))


def read_by_masks(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """Pictures with masks and without class folders: normal are those without a mask, or whose mask is all black."""
    if normal and not testing:
        return read_classes(listing, normal, testing)
    paths = list(listing.pictures)
    masks, stray = matched(listing, paths)
    labels = [int(mark_anything(listing, masks.get(path, ()))) for path in paths]
    classes = [_named("", label) for label in labels]
    parts = ["test" if label or testing else "train" for label in labels]
    told = ["Those pictures are anomalous whose mask marks something, as no class folders say which are."]
    need_normal(listing.folder, parts if not testing else ["train"] * len(parts), classes, labels, normal)
    return Reading.of(listing, paths, parts, classes, labels, masks, stray, told)


def has_pictures(listing: Listing) -> bool:
    return bool(listing.pictures)


def read_pictures(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    """Nothing but normal images."""
    if normal or testing:
        return read_classes(listing, normal, testing)
    paths = list(listing.pictures)
    masks, stray = matched(listing, paths)
    n = len(paths)
    return Reading.of(listing, paths, ["train"] * n, [""] * n, [0] * n, masks, stray)


def has_categories(listing: Listing) -> bool:
    within = [dirs for _, dirs in with_folders(listing) if dirs]
    if any(part_of(dirs[0]) in ("train", "test") for dirs in within):
        return False
    return bool(_category_names(within))


def _category_names(within):
    names = set()
    for dirs in within:
        ways = [name.lower() for name in dirs]
        if len(ways) > 1 and (part_of(ways[1]) == "train" or ways[1:3] == ["data", "images"]):
            names.add(dirs[0])
    return sorted(names)


def refuse_categories(listing: Listing, normal: Sequence[str] | None, testing: bool) -> Reading:
    within = with_folders(listing)
    names = _category_names([dirs for _, dirs in within])
    path, dirs = next((path, dirs) for path, dirs in within if dirs and dirs[0] == names[0])
    first = listing.folder.joinpath(*path[: len(path) - 1 - len(dirs)], names[0])
    raise ValueError(
        f"{listing.folder} holds {len(names)} categories, each with a training part of its own: {listed(names)}. Name "
        f"one of them: anogan-tf train {shlex.quote(str(first))}"
    )
