"""Runs from the command line: train one, test it, score with it."""

import dataclasses
import hashlib
import math
import os
from pathlib import Path

import keras
import numpy as np

from anogan_tf import atomic, data, plots, published, report, scoring, table
from anogan_tf.anogan import AnoGAN
from anogan_tf.callbacks import Checkpoint, Progress, SampleGrid, StopOnNaN
from anogan_tf.comparison import PLAIN, kinds
from anogan_tf.data.samples import Preprocessing
from anogan_tf.diagnosis import LOOKED_AT, diagnose, few_images, shifted
from anogan_tf.fanogan import FAnoGAN
from anogan_tf.neighbours import LocalNeighbours
from anogan_tf.patches import Patched, grid, tiles
from anogan_tf.runs import FORMAT, GANS, load_run, read_run, save_run

RECIPES = {  # what a kind of images gets where an option is not given, see docs/quality.md
    "shapes": {
        "self_supervision": ("rotation", "shift"),
        "score_kind": "features+transformations",
        "width": 32,
        "batch_size": 16,
        "training_steps": 4000,
    },
    "photos": {
        "self_supervision": ("rotation", "shift"),
        "score_kind": "transformations",
        "width": 48,
        "batch_size": 16,
        "training_steps": 5000,
        "learning_rate": 2e-3,
    },
    "parts": {
        "self_supervision": (),
        "score_kind": "neighbours",
        "width": 32,
        "batch_size": 32,
        "training_steps": 1000,
    },
}
BATCH_SIZE = 32  # where nothing is trained
SHOWN = 8
PICTURE_SIDE = 256
GAN_OF = {"anogan": "dcgan", "f-anogan": "wgan-gp"}
OF_ENCODER_AND_SCORE = (
    "method", "start", "encoder_only", "mode", "variational", "kl_weight", "encoder_epochs", "encoder_rate",
    "score_kind", "steps", "search_rate", "feature_weight", "distance", "restarts", "chunk", "alpha", "overlap",
)  # fmt: skip
RATES = {"dcgan": 1e-3, "wgan-gp": 3e-4}
MOMENTA = {"dcgan": {"beta_1": 0.5}, "wgan-gp": {"beta_1": 0.0, "beta_2": 0.9}}


def train(source, out, **settings):
    """Trains what scores the images of a source, and saves it as a run; goes on where a like run stopped.

    That is a GAN, after it an encoder where the settings need one, the reference, and the thresholds.

    Raises:
        ValueError: If `out` holds a run with other settings, or the data changed since it began.
    """
    out = Path(out)
    settings = _resolved({"source": source, **settings})
    if Path(source).resolve() == out.resolve():
        raise ValueError(f"The run would lie among its own images: name another folder. Received: --out {out}.")
    report.check_writable(out)
    splits = load_splits(settings)
    settings = _with_recipe(settings, splits.preprocessing.image_shape[-1])
    splits = dataclasses.replace(splits, batch_size=settings["batch_size"])
    neighbours = settings["score_kind"] == "neighbours"
    if not neighbours:
        kinds(settings["score_kind"])
    elif settings["patches"]:
        raise ValueError("--score neighbours compares whole pictures: with --patches give another, such as features.")
    shown = load_splits(settings, _picture_size(splits)) if neighbours else splits
    with atomic.exclusive(out):
        return _train(out, settings, splits, shown)


def _train(out, settings, splits, shown):
    """Trains on `splits`; what is compared with is of `shown`, the same images in the size that decides."""
    if (out / "run.json").exists():
        earlier = read_run(out)
        if earlier.get("settings", {}) != _jsonable(settings):
            raise ValueError(_differences(out, earlier.get("settings", {}), _jsonable(settings)))
        _check_fingerprint(out, earlier, splits)
        if earlier["complete"]:
            print(f"{out} is trained already, with these settings.")
            return load_run(out)
    description = _description(shown, settings)
    report.write_json(
        out / "run.json", {"format": FORMAT, "complete": False, "versions": report.versions(), **description}
    )

    gan = _gan_of(settings["encoder_only"], splits) if settings["encoder_only"] else _train_gan(splits, out, settings)
    needs_encoder = settings["method"] == "f-anogan" or settings["start"] == "encoder"
    fanogan = _train_encoder(gan, splits, out, settings) if needs_encoder else None
    scorer = fanogan if settings["method"] == "f-anogan" else _anogan(gan, fanogan and fanogan.encoder, settings)
    scorer = Patched(scorer, overlap=settings["overlap"]) if settings["patches"] else scorer
    if settings["score_kind"] == "neighbours":
        factor = shown.preprocessing.image_shape[0] // splits.preprocessing.image_shape[0]
        scorer = LocalNeighbours(scorer, factor=factor)
    scorer.fit_reference(shown.reference)
    scorer.calibrate(shown.validation, alpha=settings["alpha"])
    calibration = scorer.calibration
    images = (_images(part) for part in (splits.reference, splits.validation))
    found = [] if settings["patches"] else diagnose(scoring.unwrapped(scorer), *images)
    found += filter(None, [few_images(len(calibration.scores), settings["alpha"])])
    save_run(out, scorer, **description, diagnosis=found)
    for sentence in found:
        print(f"Mind: {sentence}")
    print(
        f"Threshold {calibration.threshold:.4g} from {len(calibration.scores)} normal validation images: about "
        f"{calibration.attained_alpha:.1%} of new normal images will exceed it. Saved to {out}."
    )
    return scorer


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
        splits = load_splits(settings, scorer.image_shape[:2])
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
    searcher = scoring.unwrapped(scorer)
    with atomic.exclusive(out):
        if isinstance(searcher, AnoGAN):
            examples = _examples(tested, scorer.image_shape)
            _draw_search(searcher, scorer.smaller(examples) if isinstance(scorer, LocalNeighbours) else examples, out)
        result = scoring.test(scorer, tested, threshold, results_dir=out, pictures=pictures, settings={"run": str(run)})
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


def score(run, paths, out, *, pictures=100):
    """Scores image files, and folders of them; a file that cannot be read is reported, and the others are scored.

    Interrupted, it goes on where it stopped, if neither the run nor a file has changed.

    Returns:
        The folder of the results.
    """
    report.check_writable(out)
    description = read_run(run)
    scorer = load_run(run)
    files, preprocessing, skipped = data.list_files(paths), _preprocessing(description), []
    try:
        with atomic.exclusive(out), table.ScoreTable(out, _key(run, files)) as rows:
            left = (file for file in files if table.text(file) not in rows.ids)
            for results, regions in scoring.decided_chunks(scorer, _batches(left, preprocessing, scorer, skipped)):
                rows.add(results, regions)
            if not rows.ids:
                raise ValueError("There are no images to score.")
            rows.finish(skipped)
            _show_scores(run, scorer, out, files, preprocessing, skipped, pictures)
    finally:
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
    return Path(out)


def _show_scores(run, scorer, out, files, preprocessing, skipped, pictures):
    """The report of a finished table; the pictures to draw are scored once more, as no maps were kept."""
    for name in ("mapping_loss.png", "search_path.png"):  # of an earlier test into the same folder
        (Path(out) / name).unlink(missing_ok=True)
    predictions = [row["prediction"] for row in table.scored_rows(out)]
    rows = {row["id"]: row for row in table.most_anomalous(out, pictures)}
    files = [file for file in files if table.text(file) in rows]
    drawable = scoring.drawable(scorer, _batches(files, preprocessing, scorer, []))
    drawn = ((rows[table.text(name)], image) for name, image in drawable)
    figures = {
        "threshold": scorer.calibration.threshold,
        "threshold_method": "conformal",
        "alpha": scorer.calibration.attained_alpha,
        "n": len(predictions),
        "skipped": len(skipped),
        "run": str(run),
        **scoring.provenance(scorer),
    }
    report.show(out, drawn, figures, figures["pixel_threshold"], skipped)
    print(f"{sum(predictions)} of {len(predictions)} images look anomalous. Open {Path(out) / 'index.html'}.")


def _batches(files, preprocessing, scorer, skipped):
    return data.read_files(files, preprocessing, scorer.chunk, skipped)


def _key(run, files):
    """A hash of a run and of files by name, size and time, by which a table is gone on with."""
    digest = hashlib.sha256((published.find(run) / "run.json").read_bytes())
    for file in files:
        status = os.stat(file)
        digest.update(repr((os.path.abspath(file), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def settings_of_gan(run, given):
    """The settings of a run's data and GAN, with those of an encoder to train for it, from `given` options.

    Args:
        run: The run whose GAN is taken.
        given: Options that were set explicitly; those of the data and the GAN must be the run's.

    Raises:
        ValueError: If they are not, or the run is not from the command line.
    """
    earlier = read_run(run).get("settings")
    if not earlier:
        raise ValueError(f"{run} was saved from Python, so its data are not known: use FAnoGAN(load_run(path).gan).")
    taken = {name: value for name, value in earlier.items() if name not in OF_ENCODER_AND_SCORE}
    given = _jsonable(_resolved(given))
    changed = {name: value for name, value in given.items() if name in taken and value != taken[name]}
    if changed:
        raise ValueError(f"The data and the GAN are those of {run}: {taken}. Received: {changed}.")
    return taken


def _with_recipe(settings, channels):
    """The settings, those that are None filled in with the recipe's: that of the images, if none is named."""
    by_channels = "shapes" if channels == 1 else "photos"
    auto = "parts" if Path(settings["source"]).is_dir() else by_channels
    settings = settings | {"recipe": settings["recipe"] or auto}
    recipe = {name: value for name, value in RECIPES[settings["recipe"]].items() if settings.get(name) is None}
    if _gan_kind(settings) != "dcgan":
        recipe.pop("learning_rate", None)  # a WGAN-GP's is lower
    filled = settings | recipe
    if filled["score_kind"] in PLAIN and settings["self_supervision"] is None:
        filled["self_supervision"] = ()  # the papers' methods as they are
    if filled["patches"] and settings["score_kind"] is None and filled["score_kind"] == "neighbours":
        filled["score_kind"] = "features"
    tasks = filled["self_supervision"]
    return filled | {"self_supervision": () if tasks == ("none",) else tuple(tasks)}


def load_splits(settings, size=None):
    """The splits that a run's settings name, images of `size` `(height, width)` if it is given."""
    keys = (
        "patches", "scale", "pattern", "group_by", "bits", "crop", "validation_fraction", "cache", "data_dir",
        "seed",
    )  # fmt: skip
    channels = settings["channels"]
    shape = (*(size or settings["size"] or (None, None)), channels and int(channels))
    options = {key: settings[key] for key in keys}
    options["batch_size"] = settings["batch_size"] or BATCH_SIZE
    return data.load(settings["source"], image_shape=shape, normal=settings["normal"] or None, **options)


def _picture_size(splits):
    """The size in which local features are compared: four times the networks', up to `PICTURE_SIDE` pixels."""
    height, width = splits.preprocessing.image_shape[:2]
    factor = max(1, min(4, PICTURE_SIDE // max(height, width)))
    return height * factor, width * factor


def _gan_of(run, splits):
    _check_fingerprint(run, read_run(run), splits)
    scorer = load_run(run)
    return scoring.unwrapped(scorer).gan


def _gan_kind(settings):
    return settings["gan"] or GAN_OF[settings["method"]]


def _train_gan(splits, out, settings):
    kind = _gan_kind(settings)
    gan = GANS[kind](
        splits.preprocessing.image_shape,
        settings["latent_dim"],
        architecture=settings["architecture"],
        width=settings["width"],
        prior=settings["prior"],
        self_supervision=settings["self_supervision"] or None,
        seed=settings["seed"],
    )
    epochs = _epochs(settings, "epochs", splits)
    rate = settings["learning_rate"] or RATES[kind]
    if kind == "dcgan":
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * len(splits.train))
    gan.compile(*(keras.optimizers.Adam(rate, **MOMENTA[kind]) for _ in range(2)))
    samples = SampleGrid(out / "samples", every=math.ceil(epochs / 10))
    _fit(gan, splits, out, epochs, "checkpoint.weights.h5", "losses.png", samples)
    plots.samples(gan.generate(64), title="drawn by the generator").savefig(out / "samples.png", dpi=80)
    return gan


def _train_encoder(gan, splits, out, settings):
    options = _given(settings, "mode", "variational", "kl_weight", "seed", "chunk")
    if settings["method"] == "f-anogan":
        options |= _given(settings, "feature_weight", "distance") | {"score": _drawing_score(settings)}
    fanogan = FAnoGAN(gan, **options)
    epochs = _epochs(settings, "encoder_epochs", splits)
    schedule = keras.optimizers.schedules.CosineDecay(settings["encoder_rate"], epochs * len(splits.train))
    fanogan.compile(keras.optimizers.Adam(schedule))
    _fit(fanogan, splits, out, epochs, "encoder-checkpoint.weights.h5", "encoder_losses.png")
    queries = _examples(splits.validation, gan.image_shape)
    plots.reconstructions(queries, fanogan.reconstruct(queries)).savefig(out / "reconstructions.png", dpi=80)
    return fanogan


def _fit(model, splits, out, epochs, checkpoint_name, losses_name, *callbacks):
    """One phase of a training, each with a checkpoint of its own; a phase that is done only restores it."""
    checkpoint = Checkpoint(out / checkpoint_name)
    print(f"Training {model.name} on {len(splits.samples.part('train'))} normal images for {epochs} epochs.")
    callbacks = [StopOnNaN(), checkpoint, *callbacks, Progress()]
    model.fit(splits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    plots.losses(checkpoint.logs).savefig(out / losses_name, dpi=80)


def _anogan(gan, encoder, settings):
    names = ("steps", "feature_weight", "distance", "restarts", "chunk", "seed")
    return AnoGAN(
        gan,
        encoder=encoder,
        learning_rate=settings["search_rate"],
        score=_drawing_score(settings),
        **_given(settings, *names),
    )


def _epochs(settings, name, splits):
    """As many epochs as are asked for, or as make the recipe's number of steps."""
    return settings[name] or math.ceil(settings["training_steps"] / len(splits.train))


def _drawing_score(settings):
    """The score of a scorer of a GAN, which learns nothing where local features decide."""
    return "paper" if settings["score_kind"] == "neighbours" else settings["score_kind"]


def _images(dataset):
    """As many images of a part as a diagnosis looks at."""
    return next(iter(dataset.unbatch().batch(LOOKED_AT)))["image"].numpy()


def _given(settings, *names):
    """Those of the settings that are not left to the class."""
    return {name: settings[name] for name in names if settings[name] is not None}


def _examples(dataset, image_shape):
    """A few images that the networks take: the first of the first batch, or tiles of its large image."""
    images = next(iter(dataset))["image"].numpy()
    if images.shape[1:] == image_shape:
        return images[:SHOWN]
    corners = grid(images.shape[1:3], image_shape)
    return np.stack(list(tiles(images[0], corners[:: math.ceil(len(corners) / SHOWN)], image_shape)))


def _draw_search(scorer, images, out):
    """The search of a few images: the mapping loss, and G(z) along the way."""
    images = images[: scorer.chunk]
    path = scorer.search_path(images)
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
    height, width, channels = description["gan"]["image_shape"]
    factor = description["scorer"].get("factor", 1)
    fields = description.get("preprocessing") or {"image_shape": (height * factor, width * factor, channels)}
    fields = {"crop": None, "bits": 16, "scale": None} | fields
    crop = tuple(fields["crop"]) if isinstance(fields["crop"], list) else fields["crop"]
    return Preprocessing(tuple(fields["image_shape"]), crop, fields["bits"], fields["scale"])


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


def _resolved(settings):
    """The settings with their paths made absolute."""
    paths = {
        name: str(Path(settings[name]).resolve())
        for name in ("data_dir", "cache", "encoder_only")
        if settings.get(name) not in (None, "auto", "memory")
    }
    return settings | paths | ({"source": _absolute(settings["source"])} if "source" in settings else {})


def _absolute(source):
    """A path made absolute, so that it means the same from any folder; a name, and that of a run, as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() and not (path / "run.json").exists() else source
