"""Trains a run: a GAN, an encoder where the settings need one, the reference, and the thresholds."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras

from anogan_tf import atomic, kinds, plots, replicas, report, scoring, stages
from anogan_tf.anogan import AnoGAN
from anogan_tf.augmentation import widest_move
from anogan_tf.callbacks import Checkpoint, Progress, SampleGrid, StopOnNaN
from anogan_tf.commands import calibrate, seen
from anogan_tf.commands.settings import (
    ENCODER_CHECKPOINT,
    GAN_CHECKPOINT,
    check_apart,
    check_bound,
    check_fingerprint,
    description_of,
    gan_name,
    load_splits,
    needs_encoder,
    resolved,
    with_recipe,
)
from anogan_tf.diagnosis import LOOKED_AT, examine, few_images
from anogan_tf.fanogan import FAnoGAN
from anogan_tf.joint import JointNeighbours
from anogan_tf.neighbours import LocalNeighbours
from anogan_tf.patches import Patched
from anogan_tf.runs import FORMAT, GANS, load_run, read_run, save_run
from anogan_tf.scoring import Scorer

LARGER, PIXELS = 4, 3 * 256**2 // 2  # how much larger pictures are whose local features are compared; their pixels
ADAPTED_TO = 2000  # images, at most
RATES = {"dcgan": 1e-3, "wgan-gp": 3e-4}
MOMENTA = {"dcgan": {"beta_1": 0.5}, "wgan-gp": {"beta_1": 0.0, "beta_2": 0.9}}


def run(source: str, out: str | Path, *, workers: str | None = None, **settings: Any) -> Scorer | None:
    """Trains what scores the images of a source, and saves it as a run; goes on where a like run stopped.

    That is a GAN, after it an encoder where the settings need one, the reference, and the thresholds. All of it is
    built before the training begins, so that what does not fit together is refused then.

    With `workers="auto"` the networks are trained on all GPUs, or by all workers that `TF_CONFIG` lists, see
    `replicas`; the chief of these does all else, and the others return None when it has.

    Raises:
        ValueError: If settings do not fit together or there are too few images; if `out` lies in the source, or holds
            a run with other settings; if the data changed since that began.
        ConnectionError: If another worker was lost.
    """
    strategy = replicas.strategy() if workers else None  # before TensorFlow computes anything
    out = Path(out)
    settings = resolved({"source": source, **settings})
    check_apart(out, source)
    report.check_writable(out)
    if settings["score_kind"] == "neighbours" and settings["patches"]:
        raise ValueError("--score neighbours compares whole pictures: with --patches give another, such as features.")
    if settings["score_kind"] not in (None, "neighbours"):
        kinds.of_score(settings["score_kind"])
    splits = load_splits(settings, _shape_of_earlier(out, settings))
    splits.check()
    print(splits.describe())
    settings = with_recipe(settings, splits.preprocessing.image_shape)
    splits = dataclasses.replace(splits, batch_size=settings["batch_size"])
    neighbours = settings["score_kind"] == "neighbours"
    if settings.get("calibration") == "cross" and not neighbours:
        raise ValueError(
            "--calibration cross is for --score neighbours, which is learned in seconds: networks that were trained on "
            f"an image may not judge it as new. Received: --score {settings['score_kind']}."
        )
    if settings.get("features") and not neighbours:
        raise ValueError(
            f"--features are for --score neighbours, which compares them. Received: --score {settings['score_kind']}."
        )
    pictures = load_splits(settings, _picture_size(splits)) if neighbours else splits
    if (out / "run.json").exists():
        earlier = read_run(out)
        check_bound(out, earlier, settings)
        check_fingerprint(out, earlier, splits)
        if earlier["complete"]:
            print(f"{out} is trained already, with these settings.")
            return load_run(out)
    models = _build(settings, splits, pictures)
    if strategy is None:
        with atomic.exclusive(out):
            return _train(out, settings, splits, pictures, *models)
    replicas.check_batch(strategy, settings["batch_size"])
    with replicas.together():
        return _train_together(strategy, out, settings, splits, pictures, models)


def _train_together(strategy, out, settings, splits, pictures, models):
    """Trains the networks by all workers; the chief goes on from their checkpoints as if it had trained alone."""
    if not replicas.is_chief(strategy):
        _train_networks(strategy, out, settings, splits)
        replicas.wait(strategy)
        return None
    with atomic.exclusive(out):
        _begin(out, settings, pictures)
        _train_networks(strategy, out, settings, splits)
        scorer = _train(out, settings, splits, pictures, *models)
    replicas.wait(strategy)
    return scorer


def _train_networks(strategy, out, settings, splits):
    """The GAN and the encoder, each phase from where the chief's checkpoint is, which all read.

    Only what makes variables is within the strategy's scope: Keras makes some when it saves, and only the chief saves.
    """
    with strategy.scope():
        gan, fanogan = _networks(settings, splits)
        if not settings["encoder_only"] or _is_joint(settings):
            _compile_gan(gan, splits, settings)
        if fanogan:
            _compile_encoder(fanogan, splits, settings)
    if not settings["encoder_only"]:
        _fit_together(strategy, gan, splits, _epochs(settings, "epochs", splits), out / GAN_CHECKPOINT)
    if fanogan:
        epochs = _epochs(settings, "encoder_epochs", splits)
        _fit_together(strategy, fanogan, splits, epochs, out / ENCODER_CHECKPOINT)


def _fit_together(strategy, model, splits, epochs, path):
    """One phase by all workers, which end it with the chief's weights: moving statistics are of each worker's own."""
    chief = replicas.is_chief(strategy)
    checkpoint = Checkpoint(path, saves=chief)
    callbacks = [StopOnNaN(), checkpoint, *([Progress()] if chief else [])]
    model.fit(splits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    replicas.wait(strategy)
    if not path.exists():
        raise FileNotFoundError(f"{path}, of the chief, is not here: --out is a folder that all workers share.")
    checkpoint.restore()


def _build(settings, splits, pictures):
    """The GAN, what trains an encoder for it, or None, and the scorer of both, none of them trained yet."""
    gan, fanogan = _networks(settings, splits)
    scorer = fanogan if settings["method"] == "f-anogan" else _anogan(gan, fanogan and fanogan.encoder, settings)
    neighbours = settings["score_kind"] == "neighbours"
    if settings["patches"]:
        return gan, fanogan, Patched(scorer, overlap=settings["overlap"])
    factor = pictures.preprocessing.image_shape[0] // splits.preprocessing.image_shape[0]
    if not neighbours:
        return gan, fanogan, scorer
    if settings.get("features"):
        return gan, fanogan, JointNeighbours(scorer, factor=factor, features=settings["features"])
    return gan, fanogan, LocalNeighbours(scorer, factor=factor)


def _networks(settings, splits):
    """The GAN, and what trains an encoder for it, or None."""
    gan = _gan_of(settings["encoder_only"], splits) if settings["encoder_only"] else _gan(splits, settings)
    return gan, _fanogan(gan, settings, splits) if needs_encoder(settings) else None


def _begin(out, settings, pictures):
    """Writes what the run will be; returns what it tells of data and settings."""
    description = description_of(pictures, settings)
    begun = {"format": FORMAT, "complete": False, "versions": report.versions(), **description}
    report.write_json(out / "run.json", begun)
    return description


def _train(out, settings, splits, pictures, gan, fanogan, scorer):
    """Trains on `splits`; what is compared with is of `pictures`, the same images in the size that decides."""
    description = _begin(out, settings, pictures)
    if not settings["encoder_only"] or _is_joint(settings):
        _compile_gan(gan, splits, settings)
    if not settings["encoder_only"]:
        _train_gan(gan, splits, out, settings)
    if fanogan:
        _train_encoder(fanogan, splits, out, settings)
    plots.samples(gan.generate(64), title="drawn by the generator").savefig(out / "samples.png", dpi=80)
    calibrate.from_splits(scorer, pictures, settings["alpha"], _calibration(settings))
    calibration = scorer.calibration
    images = (_images(part) for part in (splits.reference, splits.validation))
    networks = scoring.unwrapped(scorer)
    measured, found = ({}, []) if settings["patches"] else examine(networks, *images, shown=scorer is not networks)
    found += filter(None, [few_images(len(calibration.scores), settings["alpha"])])
    seen.save(out, splits.samples)
    save_run(out, scorer, **description, drawing=measured, diagnosis=found, looks=seen.looks(pictures.reference))
    for sentence in found:
        print(f"Mind: {sentence}")
    calibrate.tell(scorer, out)
    return scorer


def _calibration(settings):
    """How thresholds are set: `"cross"` where local features decide, unless another way is asked for."""
    return settings.get("calibration") or ("cross" if settings["score_kind"] == "neighbours" else "split")


def _picture_size(splits):
    """The shape in which local features are compared: up to `LARGER` times the networks', and `PIXELS`."""
    height, width, channels = splits.preprocessing.image_shape
    factor = max(1, min(LARGER, math.isqrt(PIXELS // (height * width))))
    return height * factor, width * factor, channels


def _shape_of_earlier(out, settings):
    """The shape of images of a run that is gone on with, or whose GAN is taken; None for a new one."""
    earlier = settings["encoder_only"] or ((out / "run.json").exists() and out)
    description = read_run(earlier) if earlier else {}
    if "preprocessing" not in description:
        return None
    height, width, channels = description["preprocessing"]["image_shape"]
    factor = LARGER if description.get("settings", {}).get("score_kind") == "neighbours" else 1
    return (*(settings["size"] or (height // factor, width // factor)), int(settings["channels"] or channels))


def _gan_of(run, splits):
    check_fingerprint(run, read_run(run), splits)
    scorer = load_run(run)
    return scorer.gan


def _gan(splits, settings):
    gan = GANS[gan_name(settings)](
        splits.preprocessing.image_shape,
        settings["latent_dim"],
        architecture=settings["architecture"],
        width=settings["width"],
        prior=settings["prior"],
        self_supervision=settings["self_supervision"] or None,
        augment=settings["augment"] or None,
        seed=settings["seed"],
    )
    if gan.deviations is not None:
        images = _patches(splits) if settings["patches"] else _images(splits.reference, ADAPTED_TO)
        gan.adapt(images)
    return gan


def _train_gan(gan, splits, out, settings):
    epochs = _epochs(settings, "epochs", splits)
    samples = SampleGrid(out / "samples", every=math.ceil(epochs / 10))
    _fit(gan, splits, out, epochs, GAN_CHECKPOINT, "losses.png", samples)


def _compile_gan(gan, splits, settings):
    """Sets the GAN's optimizers, of a rate that decays over all the steps that it will take."""
    name, rate = gan_name(settings), settings["learning_rate"]
    rate = RATES[name] if rate is None else rate
    if name == "dcgan":
        phases = [] if settings["encoder_only"] else ["epochs"]
        phases += ["encoder_epochs"] if _is_joint(settings) else []
        epochs = sum(_epochs(settings, phase, splits) for phase in phases)
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * len(splits.train))
    average = {"use_ema": True, "ema_momentum": settings["ema"]} if settings["ema"] else {}
    optimizers = (keras.optimizers.Adam(rate, **MOMENTA[name], **some) for some in (average, {}))
    gan.compile(*optimizers, task_weight=settings["task_weight"], views=settings["views"])


def _is_joint(settings):
    return needs_encoder(settings) and settings["mode"] == "joint"


def _fanogan(gan, settings, splits):
    options = _given(settings, "mode", "variational", "kl_weight", "seed", "chunk")
    if _is_joint(settings) and not settings["patches"]:
        options["moves"] = widest_move(_images(splits.reference))
    if settings["method"] == "f-anogan":
        options |= _given(settings, "feature_weight", "distance") | {"score": _drawing_score(settings)}
    return FAnoGAN(gan, **options)


def _compile_encoder(fanogan, splits, settings):
    """Sets the encoder's optimizer, of a rate that decays over all the steps that it will take."""
    steps = _epochs(settings, "encoder_epochs", splits) * len(splits.train)
    fanogan.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings["encoder_rate"], steps)))


def _train_encoder(fanogan, splits, out, settings):
    _compile_encoder(fanogan, splits, settings)
    epochs = _epochs(settings, "encoder_epochs", splits)
    _fit(fanogan, splits, out, epochs, ENCODER_CHECKPOINT, "encoder_losses.png")
    around = Patched(fanogan) if settings["patches"] else fanogan
    queries = around.examples(next(iter(splits.validation))["image"].numpy())
    plots.reconstructions(queries, fanogan.reconstruct(queries)).savefig(out / "reconstructions.png", dpi=80)


def _fit(model, splits, out, epochs, checkpoint_name, losses_name, *callbacks):
    """One phase of a training, each with a checkpoint of its own; a phase that is done only restores it."""
    checkpoint = Checkpoint(out / checkpoint_name)
    print(f"Training {model.name} on {len(splits.samples.part('train'))} normal images for {epochs} epochs.")
    callbacks = [StopOnNaN(), checkpoint, *callbacks, Progress()]
    with stages.stage(f"Training {model.name}"):
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
    if settings[name] is not None:
        return settings[name]
    part = settings["encoder_part"] if name == "encoder_epochs" else 1.0
    return math.ceil(part * settings["training_steps"] / len(splits.train))


def _drawing_score(settings):
    """The score of a scorer of a GAN, which learns nothing where local features decide."""
    return "paper" if settings["score_kind"] == "neighbours" else settings["score_kind"]


def _images(dataset, most=LOOKED_AT):
    """The first images of a part, by default as many as a diagnosis looks at."""
    return next(iter(dataset.unbatch().batch(most)))["image"].numpy()


def _patches(splits):
    """The first patches that networks are trained on."""
    return next(iter(splits.train.unbatch().batch(ADAPTED_TO)))[0].numpy()


def _given(settings, *names):
    """Those of the settings that are not left to the class."""
    return {name: settings[name] for name in names if settings[name] is not None}
