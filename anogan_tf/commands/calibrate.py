"""Sets a run's thresholds: when it is trained, and from more good images later on."""

import itertools
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from anogan_tf import atomic, data, published, report
from anogan_tf.commands import seen
from anogan_tf.commands.settings import (
    check_apart,
    check_fingerprint,
    load_splits,
    pattern_of,
)
from anogan_tf.data.layouts import check_good
from anogan_tf.diagnosis import exceeds_chance, few_images, unkept
from anogan_tf.neighbours import LocalNeighbours
from anogan_tf.runs import load_run, preprocessing_of, read_run, save_run
from anogan_tf.scoring import Scorer


def run(
    run: str | Path,
    paths: Sequence[str | Path] = (),
    *,
    alpha: float | None = None,
    learn: bool = False,
    out: str | Path | None = None,
    pattern: str | None = None,
) -> Scorer:
    """Adds good images to a run's calibration, or sets another rate of false alarms, without any training.

    The run is replaced file by file, its description last; a crash leaves the run as it was, or as it becomes.

    Args:
        run: The folder of a run, or the name of a published one, which takes an `out`.
        paths: Files of good images, and folders of them; what the run has seen already is left out. None for another
            rate alone, for which nothing is scored.
        alpha: The rate of false alarms; None for the run's.
        learn: Whether the local features of these images are remembered, too, for which the run's own are read again.
        out: The folder of a new run to write; None to change this one.
        pattern: Which files of a folder are taken; None for the pattern of the training.

    Raises:
        ValueError: If there is nothing to do, or the run cannot be calibrated as asked for; if folders hold images of
            other classes than good ones, or if far more images than chance allows raise an alarm and no `out` is named.
    """
    if not paths and (learn or alpha is None):
        raise ValueError("Name good images to add, or another rate of false alarms with --alpha.")
    folder, description, scorer = published.find(run), read_run(run), load_run(run)
    _check(run, folder, scorer, learn, out)
    check_apart(out or folder, *paths)
    report.check_writable(out or folder)
    pattern = pattern_of(description, pattern) if paths else None
    for path in filter(os.path.isdir, paths):
        check_good(path, pattern, description.get("settings", {}).get("normal"))
    skipped = []
    given = data.list_files(paths, pattern) if paths else []
    files, hashes = seen.new_files(folder, given)
    more = list(data.read_files(files, preprocessing_of(description), scorer.chunk, skipped))
    for name, reason in skipped:
        print(f"Skipped {name}: {reason}")
    n = sum(len(batch["image"]) for batch in more)
    if paths and not n:
        raise ValueError("There are no new images: the run has seen all of them, or none can be read.")
    alpha = scorer.calibration.alpha if alpha is None else alpha
    if paths:
        added = _scored(scorer, alpha, more)
        _check_like(scorer.calibration, added, out)
    if learn:
        _learn_again(run, description, scorer, alpha, more)
    elif paths:
        scorer.calibration = scorer.calibration.joined(added.scores, added.peaks).at(alpha)
    else:
        scorer.recalibrate(alpha)
    found = [few_images(len(scorer.calibration.scores), alpha)]
    kept = {"diagnosis": list(filter(None, found)), "added": description.get("added", 0) + n}
    with atomic.exclusive(out or folder):
        seen.add(folder, out or folder, hashes)
        save_run(out or folder, scorer, **kept)
    tell(scorer, out or folder)
    return scorer


def from_splits(scorer: Scorer, splits: data.Splits, alpha: float, method: str, more: Sequence[dict] = ()) -> None:
    """Learns the reference and sets the thresholds, of the training and the validation images, and of more.

    Args:
        scorer: The scorer.
        splits: The images.
        alpha: The rate of false alarms.
        method: `"split"`, or `"cross"` for `LocalNeighbours.cross_calibrate`.
        more: Batches of other good images, to be remembered.
    """
    if method == "split":
        scorer.fit_reference(itertools.chain(splits.reference, more))
        scorer.calibrate(splits.validation, alpha=alpha)
        return
    parts = [splits.samples.part(part) for part in ("train", "validation")]
    images = itertools.chain(splits.reference, splits.validation if len(parts[1]) else (), more)
    scorer.cross_calibrate(images, alpha, groups=_groups(parts, more))


def tell(scorer: Scorer, folder: str | Path) -> None:
    """Prints the thresholds of a run that was saved, and with what places are compared where they are."""
    if compared_with := getattr(scorer.reference, "in_words", None):
        print(f"Each place of a picture is compared with {compared_with}.")
    calibration = scorer.calibration
    images = "normal images, each held out in turn" if calibration.method == "cross" else "normal validation images"
    strict, rate = calibration.strict
    print(
        f"Threshold {calibration.threshold:.4g} from {len(calibration.scores)} {images}: about "
        f"{calibration.attained_alpha:.1%} of new normal images will exceed it. What exceeds {strict:.4g}, as about "
        f"{rate:.1%} will, is anomalous and not only suspicious. Saved to {folder}."
    )
    if sentence := unkept(len(calibration.scores), calibration.alpha):
        print(f"Mind: {sentence}")


def _check(run, folder, scorer, learn, out):
    """Raises a ValueError where a run cannot be calibrated as asked for."""
    if scorer.calibration is None:
        raise ValueError(f"{run} has no calibration to add to: it was saved from Python without one.")
    if learn and not isinstance(scorer, LocalNeighbours):
        raise ValueError(
            f"--learn is for runs that local features decide (--score neighbours); others would be trained on the "
            f"images. Received: a run of {type(scorer).__name__}. Without --learn they calibrate it."
        )
    if out is None and (learn or Path(run) != folder):
        what = "--learn makes another run" if learn else f"{run} is a published run"
        raise ValueError(f"{what}: name its folder with --out.")
    if out is not None and (Path(out) / "run.json").exists():
        raise ValueError(f"{out} holds a run already: name another folder with --out.")


def _scored(scorer, alpha, more):
    """What more images alone would calibrate."""
    before = scorer.calibration
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # these alone may be few
        scorer.calibrate(more, alpha)
    added, scorer.calibration = scorer.calibration, before
    return added


def _check_like(calibration, added, out):
    """Says if images to be added are hardly like the good ones of before; a ValueError where no `out` is named."""
    alarms, n = int(np.sum(np.array(added.scores) > calibration.threshold)), len(added.scores)
    if not exceeds_chance(alarms, n, calibration.alpha, len(calibration.scores)):
        return
    sentence = (
        f"{alarms} of {n} images to be added exceed the threshold of {calibration.threshold:.4g}, where about "
        f"{calibration.attained_alpha:.1%} were expected. Thresholds made of what is not good find nothing."
    )
    if out is None:
        raise ValueError(f"{sentence} The run is left as it was: if all are good, name another one with --out.")
    print(f"Mind: {sentence}")


def _learn_again(run, description, scorer, alpha, more):
    settings = description.get("settings")
    if not settings:
        raise ValueError(f"{run} was saved from Python, so the images that it remembers are not known: fit it again.")
    splits = load_splits(settings, scorer.image_shape)
    check_fingerprint(run, description, splits)
    from_splits(scorer, splits, alpha, scorer.calibration.method, more)


def _groups(parts, more: Iterable[dict]):
    """The group of each image, where there are groups; each of the others is on its own."""
    if any(part.groups is None for part in parts):
        return None
    n = sum(len(batch["image"]) for batch in more)
    return np.concatenate([*(part.groups for part in parts), [f"added {i}" for i in range(n)]])
