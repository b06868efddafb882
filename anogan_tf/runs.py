"""Runs from the command line: train one, test it, score with it."""

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np

from anogan_tf import data, plots, report, scoring
from anogan_tf.anogan import AnoGAN
from anogan_tf.callbacks import Checkpoint, Progress, SampleGrid, StopOnNaN
from anogan_tf.data.samples import Preprocessing
from anogan_tf.gan import DCGAN
from anogan_tf.weights import FORMAT, load_run, read_run, save_run

TRAINING_STEPS = 2000
SHOWN = 8


def train(source, out, **settings):
    """Trains a GAN on a source, fits the reference, calibrates, and saves the run; goes on where a like run stopped.

    Raises:
        ValueError: If `out` holds a run with other settings, or the data changed since it began.
    """
    out = Path(out)
    settings = {"source": _absolute(source), **settings}
    for name in ("data_dir", "cache"):
        if settings[name] not in (None, "auto", "memory"):
            settings[name] = str(Path(settings[name]).resolve())
    if Path(source).resolve() == out.resolve():
        raise ValueError(f"The run would lie among its own images: name another folder. Received: --out {out}.")
    report.check_writable(out)
    if (out / "run.json").exists():
        earlier = read_run(out).get("settings", {})
        if earlier != _jsonable(settings):
            raise ValueError(_differences(out, earlier, _jsonable(settings)))
    splits = load_splits(settings)
    description = _description(splits, settings)
    if (out / "run.json").exists():
        earlier = read_run(out)
        _check_fingerprint(out, earlier, splits)
        if earlier["complete"]:
            print(f"{out} is trained already, with these settings.")
            return load_run(out)
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(
        out / "run.json", {"format": FORMAT, "complete": False, "versions": report.versions(), **description}
    )

    gan = DCGAN(
        splits.preprocessing.image_shape,
        settings["latent_dim"],
        architecture=settings["architecture"],
        width=settings["width"],
        prior=settings["prior"],
        seed=settings["seed"],
    )
    optimizers = [keras.optimizers.Adam(settings["learning_rate"], beta_1=0.5) for _ in range(2)]
    gan.compile(*optimizers)
    epochs = settings["epochs"] or math.ceil(TRAINING_STEPS / len(splits.train))
    checkpoint = Checkpoint(out / "checkpoint.weights.h5")
    callbacks = [StopOnNaN(), checkpoint, SampleGrid(out / "samples", every=math.ceil(epochs / 10)), Progress()]
    print(f"Training on {len(splits.samples.part('train'))} normal images for {epochs} epochs.")
    gan.fit(splits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    plots.losses(checkpoint.logs).savefig(out / "losses.png", dpi=80)
    plots.samples(gan.generate(64), title="drawn by the generator").savefig(out / "samples.png", dpi=80)

    anogan = AnoGAN(
        gan,
        steps=settings["steps"],
        learning_rate=settings["search_rate"],
        feature_weight=settings["feature_weight"],
        distance=settings["distance"],
        score=settings["score_kind"],
        restarts=settings["restarts"],
        chunk=settings["chunk"],
        seed=settings["seed"],
    )
    anogan.fit_reference(splits.reference)
    anogan.calibrate(splits.validation, alpha=settings["alpha"])
    save_run(out, anogan, **description)
    calibration = anogan.calibration
    print(
        f"Threshold {calibration.threshold:.4g} from {len(calibration.scores)} normal validation images: about "
        f"{calibration.attained_alpha:.1%} of new normal images will exceed it. Saved to {out}."
    )
    return anogan


def test(run, source, out, *, threshold=None, pictures=100, data_dir=None):
    """Tests a run on labelled images, those that its training set aside where no `source` is named."""
    report.check_writable(out)
    description = read_run(run)
    scorer = load_run(run)
    scoring.check_threshold(scorer, threshold)
    settings = description.get("settings", {}) | ({"data_dir": data_dir} if data_dir else {})
    if source is None and not settings:
        raise ValueError(f"{run} was saved from Python and names no source: anogan-tf test {run} SOURCE.")
    if source is None or _absolute(source) == settings.get("source"):
        splits = load_splits(settings)
        _check_fingerprint(run, description, splits)
        tested = splits.test
    else:
        normal = settings.get("normal") or None
        tested = data.load_labelled(source, _preprocessing(description), normal=normal, data_dir=data_dir)
    if tested is None:
        raise ValueError(
            f"{source or settings['source']} has no anomalous images to test on: it is all normal. Name a labelled "
            f"source: anogan-tf test {run} SOURCE; or use anogan-tf score, which needs no labels."
        )
    _draw_search(scorer, next(iter(tested))["image"].numpy()[:SHOWN], out)
    result = scoring.test(scorer, tested, threshold, results_dir=out, pictures=pictures, settings={"run": str(run)})
    for name in ("auroc", "average_precision", "accuracy", "balanced_accuracy", "f1", "pixel_auroc", "aupro"):
        value = getattr(result, name)
        print(f"{name.replace('_', ' '):20} {'undefined' if value is None else f'{value:.4f}'}")
    print(f"threshold            {result.threshold:.4g} ({result.threshold_method})\nOpen {Path(out) / 'index.html'}.")
    return result


def score(run, paths, out, *, pictures=100):
    """Scores image files, and folders of them; a file that cannot be read is reported, and the others are scored."""
    report.check_writable(out)
    description = read_run(run)
    scorer = load_run(run)
    skipped = []
    batches = data.read_files(paths, _preprocessing(description), scorer.chunk, skipped)
    try:
        judged = scoring.judge(scorer, batches, pictures=pictures)
    finally:
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
    for name in ("mapping_loss.png", "search_path.png"):  # of an earlier test into the same folder
        (Path(out) / name).unlink(missing_ok=True)
    figures = {
        "threshold": judged.threshold,
        "threshold_method": judged.threshold_method,
        "alpha": scorer.calibration.attained_alpha,
        "n": len(judged.results),
        "skipped": len(skipped),
        "run": str(run),
    }
    scoring.write_report(scorer, judged, out, figures, skipped)
    anomalous = sum(result["prediction"] for result in judged.results)
    print(f"{anomalous} of {len(judged.results)} images look anomalous. Open {Path(out) / 'index.html'}.")
    return judged


def load_splits(settings):
    """The splits that a run's settings name."""
    keys = ("pattern", "group_by", "bits", "validation_fraction", "cache", "data_dir", "batch_size", "crop", "seed")
    channels = settings["channels"]
    shape = (*(settings["size"] or (None, None)), channels and int(channels))
    options = {key: settings[key] for key in keys}
    return data.load(settings["source"], image_shape=shape, normal=settings["normal"] or None, **options)


def _draw_search(scorer, images, out):
    """The search of a few images: the mapping loss, and G(z) along the way."""
    path = scorer.search_path(images[: scorer.chunk])
    steps = sorted({0, *(round(scorer.steps * part) for part in (0.04, 0.1, 0.2, 0.5, 1))})
    drawn = [scorer.gan.generator(path["z"][step], training=False).numpy() for step in steps]
    Path(out).mkdir(parents=True, exist_ok=True)
    plots.mapping_loss(path["loss"]).savefig(Path(out) / "mapping_loss.png", dpi=80)
    plots.search_path(images, drawn, steps).savefig(Path(out) / "search_path.png", dpi=80)


def _description(splits, settings):
    """What `run.json` tells of the data, and of how to train again."""
    parts, counts = np.unique(splits.samples.parts, return_counts=True)
    return {
        "settings": _jsonable(settings),
        "preprocessing": dataclasses.asdict(splits.preprocessing),
        "fingerprint": splits.fingerprint,
        "images": dict(zip(parts.tolist(), counts.tolist(), strict=True)),
    }


def _preprocessing(description):
    fields = description.get("preprocessing") or {"image_shape": description["gan"]["image_shape"]}
    fields = {"crop": None, "bits": 16} | fields
    crop = tuple(fields["crop"]) if isinstance(fields["crop"], list) else fields["crop"]
    return Preprocessing(tuple(fields["image_shape"]), crop, fields["bits"])


def _check_fingerprint(run, description, splits):
    if splits.fingerprint != description["fingerprint"]:
        raise ValueError(
            f"The images of {description['settings']['source']} changed since {run} was trained, so its split cannot "
            "be made again, and training images could be tested on. Bring them back, or test on another SOURCE."
        )


def _differences(out, earlier, settings):
    lines = [
        f"  {name}: {earlier.get(name)!r} there, {settings.get(name)!r} now"
        for name in sorted(set(earlier) | set(settings))
        if earlier.get(name) != settings.get(name)
    ]
    return f"{out} holds a run with other settings; name another folder, or give the same ones:\n" + "\n".join(lines)


def _jsonable(settings):
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _absolute(source):
    """A path made absolute, so that it means the same from any folder; a name, and that of a run, as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() and not (path / "run.json").exists() else source
