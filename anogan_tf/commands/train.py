"""Trains a run: a GAN, an encoder where the settings need one, the reference, and the thresholds."""

import dataclasses
import math
from pathlib import Path

import keras

from anogan_tf import atomic, plots, report, wrapper
from anogan_tf.anogan import AnoGAN
from anogan_tf.callbacks import Checkpoint, Progress, SampleGrid, StopOnNaN
from anogan_tf.commands.settings import (
    check_fingerprint,
    description_of,
    differences,
    gan_kind,
    jsonable,
    load_splits,
    resolved,
    with_recipe,
)
from anogan_tf.comparison import kinds
from anogan_tf.diagnosis import LOOKED_AT, diagnose, few_images
from anogan_tf.fanogan import FAnoGAN
from anogan_tf.neighbours import LocalNeighbours
from anogan_tf.patches import Patched, examples
from anogan_tf.runs import FORMAT, GANS, load_run, read_run, save_run

PICTURE_SIDE = 256
RATES = {"dcgan": 1e-3, "wgan-gp": 3e-4}
MOMENTA = {"dcgan": {"beta_1": 0.5}, "wgan-gp": {"beta_1": 0.0, "beta_2": 0.9}}


def run(source, out, **settings):
    """Trains what scores the images of a source, and saves it as a run; goes on where a like run stopped.

    That is a GAN, after it an encoder where the settings need one, the reference, and the thresholds.

    Raises:
        ValueError: If `out` holds a run with other settings, or the data changed since it began.
    """
    out = Path(out)
    settings = resolved({"source": source, **settings})
    if Path(source).resolve() == out.resolve():
        raise ValueError(f"The run would lie among its own images: name another folder. Received: --out {out}.")
    report.check_writable(out)
    splits = load_splits(settings)
    splits.check()
    print(splits.describe())
    settings = with_recipe(settings, splits.preprocessing.image_shape[-1])
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
        if earlier.get("settings", {}) != jsonable(settings):
            raise ValueError(differences(out, earlier.get("settings", {}), jsonable(settings)))
        check_fingerprint(out, earlier, splits)
        if earlier["complete"]:
            print(f"{out} is trained already, with these settings.")
            return load_run(out)
    description = description_of(shown, settings)
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
    found = [] if settings["patches"] else diagnose(wrapper.unwrapped(scorer), *images)
    found += filter(None, [few_images(len(calibration.scores), settings["alpha"])])
    save_run(out, scorer, **description, diagnosis=found)
    for sentence in found:
        print(f"Mind: {sentence}")
    print(
        f"Threshold {calibration.threshold:.4g} from {len(calibration.scores)} normal validation images: about "
        f"{calibration.attained_alpha:.1%} of new normal images will exceed it. Saved to {out}."
    )
    return scorer


def _picture_size(splits):
    """The size in which local features are compared: four times the networks', up to `PICTURE_SIDE` pixels."""
    height, width = splits.preprocessing.image_shape[:2]
    factor = max(1, min(4, PICTURE_SIDE // max(height, width)))
    return height * factor, width * factor


def _gan_of(run, splits):
    check_fingerprint(run, read_run(run), splits)
    scorer = load_run(run)
    return wrapper.unwrapped(scorer).gan


def _train_gan(splits, out, settings):
    kind = gan_kind(settings)
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
    queries = examples(splits.validation, gan.image_shape)
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
