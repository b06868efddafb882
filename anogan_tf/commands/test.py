"""Tests a run on labelled images."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from anogan_tf import atomic, data, judging, plots, published, report, scoring
from anogan_tf.commands import seen
from anogan_tf.commands.settings import (
    absolute,
    at_rate,
    check_apart,
    check_fingerprint,
    load_splits,
    pattern_of,
)
from anogan_tf.diagnosis import shifted
from anogan_tf.runs import load_run, preprocessing_of, read_run

PRINTED = ("auroc", "average_precision", "accuracy", "balanced_accuracy", "f1", "pixel_auroc", "aupro")
SEARCH = ("mapping_loss", "search_path")  # figures


def run(
    run: str | Path,
    source: str | None,
    out: str | Path,
    *,
    alpha: float | None = None,
    threshold: float | str | None = None,
    normal: Sequence[str] = (),
    masks: bool = False,
    pictures: int = 100,
    pattern: str | None = None,
    data_dir: str | Path | None = None,
) -> judging.TestResult:
    """Tests a run on labelled images that it did not learn from, wherever they lie.

    Args:
        run: The folder of a run, or the name of a published one.
        source: As of `data.load`; None for the images that the run's training set aside.
        out: Folder of the results.
        alpha: Another rate of false alarms than the run's; None for that.
        threshold: A number, `"f1"` or `"midpoint"`; None for the calibrated one.
        normal: Names of the normal classes of `source`; none for those of the training, or what the layout says.
        masks: Whether to write the pixels of regions as PNG files.
        pictures: Images to draw at most, the most anomalous first.
        pattern: Which files of a folder are taken; None for the pattern of the training.
        data_dir: Folder of prepared TensorFlow Datasets.

    Raises:
        ValueError: If nothing is left to test on, the images of the training changed, or `out` lies among them.
        OSError: If `out` cannot be written into, or holds files that no report wrote.
    """
    description = read_run(run)
    settings = description.get("settings", {}) | ({"data_dir": data_dir} if data_dir else {})
    check_apart(out, source or settings.get("source"))
    report.check(out, *SEARCH)
    scorer = at_rate(load_run(run), alpha, threshold)
    judging.check_threshold(scorer, threshold)
    if source is None and not settings:
        raise ValueError(f"{run} was saved from Python and names no source: anogan-tf test {run} SOURCE.")
    tested = _labelled(run, description, settings, scorer, source, pattern, tuple(normal))
    if tested is None:
        raise ValueError(
            f"{source or settings['source']} has no anomalous images to test on: it is all normal. Name a labelled "
            f"source: anogan-tf test {run} SOURCE; or use anogan-tf score, which needs no labels."
        )
    told = {"run": str(run), "mind": description.get("diagnosis", [])}
    told |= {name: description[name] for name in ("drawing",) if name in description}
    with atomic.exclusive(out):
        options = {"results_dir": out, "pictures": pictures, "settings": told, "masks": masks}
        result = judging.test(scorer, tested, threshold, figures=_search(scorer, tested), **options)
    for name in PRINTED:
        value = getattr(result, name)
        print(f"{name.replace('_', ' '):20} {'undefined' if value is None else f'{value:.4f}'}")
    for sentence in [*description.get("diagnosis", []), *_shifted(scorer, result)]:
        print(f"Mind: {sentence}")
    print(f"threshold            {result.threshold:.4g} ({result.threshold_method})\nOpen {Path(out) / 'index.html'}.")
    return result


def _labelled(run, description, settings, scorer, source, pattern, normal):
    """The images to test on: of the run's own source those that it set aside, of another the labelled ones."""
    unseen = functools.partial(seen.unseen, published.find(run))
    own = source is None or absolute(source) == settings.get("source")
    if own and pattern in (None, settings.get("pattern")) and normal in ((), tuple(settings.get("normal") or ())):
        splits = load_splits(settings, scorer.image_shape)
        check_fingerprint(run, description, splits)
        test = splits.samples.part("test")
        return dataclasses.replace(splits, samples=unseen(test)).test if len(test) else None
    return data.load_labelled(
        source or settings["source"],
        preprocessing_of(description),
        normal=normal or settings.get("normal") or None,
        data_dir=settings.get("data_dir"),
        pattern=pattern_of(description, pattern),
        keep=unseen,
    )


def _shifted(scorer, result):
    """What is to be said of the false alarms among the normal images of a test by the calibrated threshold."""
    if result.threshold_method != "conformal":
        return []
    false_alarms, normal = result.confusion["fp"], result.confusion["fp"] + result.confusion["tn"]
    found = shifted(false_alarms, normal, scorer.calibration.alpha, len(scorer.calibration.scores))
    return [found] if found else []


def _search(scorer, tested) -> dict[str, Figure]:
    """The search of a few images, where there is one: the mapping loss, and G(z) along the way."""
    searcher = scoring.unwrapped(scorer)
    if not getattr(searcher, "steps", 0):  # a method without a search, or one that stays where it starts
        return {}
    images = scorer.examples(next(iter(tested))["image"].numpy())[: searcher.chunk]
    path = searcher.search_path(images)
    steps = sorted({0, *(round(searcher.steps * part) for part in (0.04, 0.1, 0.2, 0.5, 1))})
    drawn = [searcher.gan.generator(path["z"][step], training=False).numpy() for step in steps]
    figures = plots.mapping_loss(path["loss"]), plots.search_path(images, drawn, steps)
    return dict(zip(SEARCH, figures, strict=True))
