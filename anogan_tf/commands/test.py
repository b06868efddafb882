"""Tests a run on labelled images."""

from pathlib import Path

from anogan_tf import atomic, data, judging, plots, report
from anogan_tf.commands.settings import absolute, check_fingerprint, load_splits, preprocessing_of
from anogan_tf.diagnosis import shifted
from anogan_tf.runs import load_run, read_run


def run(run, source, out, *, threshold=None, pictures=100, data_dir=None):
    """Tests a run on labelled images, those that its training set aside where no `source` is named."""
    report.check_writable(out)
    description = read_run(run)
    scorer = load_run(run)
    judging.check_threshold(scorer, threshold)
    settings = description.get("settings", {}) | ({"data_dir": data_dir} if data_dir else {})
    if source is None and not settings:
        raise ValueError(f"{run} was saved from Python and names no source: anogan-tf test {run} SOURCE.")
    if source is None or absolute(source) == settings.get("source"):
        splits = load_splits(settings, scorer.image_shape[:2])
        check_fingerprint(run, description, splits)
        tested = splits.test
    else:
        normal = settings.get("normal") or None
        tested = data.load_labelled(source, preprocessing_of(description), normal=normal, data_dir=data_dir)
    if tested is None:
        raise ValueError(
            f"{source or settings['source']} has no anomalous images to test on: it is all normal. Name a labelled "
            f"source: anogan-tf test {run} SOURCE; or use anogan-tf score, which needs no labels."
        )
    searcher = scorer.inner
    with atomic.exclusive(out):
        if hasattr(searcher, "search_path"):
            _draw_search(searcher, scorer.examples(next(iter(tested))["image"].numpy()), out)
        result = judging.test(scorer, tested, threshold, results_dir=out, pictures=pictures, settings={"run": str(run)})
    for name in ("auroc", "average_precision", "accuracy", "balanced_accuracy", "f1", "pixel_auroc", "aupro"):
        value = getattr(result, name)
        print(f"{name.replace('_', ' '):20} {'undefined' if value is None else f'{value:.4f}'}")
    false_alarms, normal = result.confusion["fp"], result.confusion["fp"] + result.confusion["tn"]
    found = description.get("diagnosis", [])
    found += filter(None, [result.alpha and shifted(false_alarms, normal, result.alpha)])
    for sentence in found:
        print(f"Mind: {sentence}")
    print(f"threshold            {result.threshold:.4g} ({result.threshold_method})\nOpen {Path(out) / 'index.html'}.")
    return result


def _draw_search(scorer, images, out):
    """The search of a few images: the mapping loss, and G(z) along the way."""
    images = images[: scorer.chunk]
    path = scorer.search_path(images)
    steps = sorted({0, *(round(scorer.steps * part) for part in (0.04, 0.1, 0.2, 0.5, 1))})
    drawn = [scorer.gan.generator(path["z"][step], training=False).numpy() for step in steps]
    Path(out).mkdir(parents=True, exist_ok=True)
    plots.mapping_loss(path["loss"]).savefig(Path(out) / "mapping_loss.png", dpi=80)
    plots.search_path(images, drawn, steps).savefig(Path(out) / "search_path.png", dpi=80)
