"""The settings of a run from the command line: recipes, the data that they name, what else they were."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anogan_tf import data
from anogan_tf.commands import recipes
from anogan_tf.data.sources import is_files
from anogan_tf.kinds import KINDS
from anogan_tf.runs import read_run
from anogan_tf.scoring import Scorer

BATCH_SIZE = 32  # where nothing is trained
GAN_CHECKPOINT, ENCODER_CHECKPOINT = "checkpoint.weights.h5", "encoder-checkpoint.weights.h5"
GAN_OF = {"anogan": "dcgan", "f-anogan": "wgan-gp"}
OF_ENCODER = (
    "method", "encoder_only", "mode", "variational", "kl_weight", "encoder_part", "encoder_epochs", "encoder_rate",
    "feature_weight", "distance",
)  # fmt: skip
OF_Z = ("encoder_part", "start", "mode", "steps", "search_rate", "feature_weight", "distance")
OF_ENCODER_AND_SCORE = (
    "method", "start", "encoder_only", "mode", "variational", "kl_weight", "encoder_part", "encoder_epochs",
    "encoder_rate", "score_kind", "steps", "search_rate", "feature_weight", "distance", "restarts", "chunk", "alpha",
    "overlap", "calibration", "features",
)  # fmt: skip


def settings_of_gan(run: str | Path, given: dict) -> dict:
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
    if given.get("quality", "standard") != "standard":
        raise ValueError(f"--quality is of a GAN's training, and {run} has one: give --encoder-epochs.")
    taken = {name: value for name, value in earlier.items() if name not in OF_ENCODER_AND_SCORE}
    given = jsonable(resolved(given))
    changed = {name: value for name, value in given.items() if name in taken and value != taken[name]}
    if changed:
        raise ValueError(f"The data and the GAN are those of {run}: {taken}. Received: {changed}.")
    return taken


def with_recipe(settings: dict, image_shape: Sequence[int]) -> dict:
    """The settings, those that are None filled in with the recipe's: that of the images, if none is named.

    Where z is asked to be found as in the papers, all of how it is found is theirs, and so are networks but of parts.
    The quality is not kept, but the training steps that it makes of the recipe's.

    Raises:
        ValueError: If a high quality is asked for and the training steps are given.
    """
    times = recipes.QUALITIES[settings.get("quality", "standard")]
    settings = {name: value for name, value in settings.items() if name != "quality"}
    given = [name for name in ("epochs", "training_steps") if settings.get(name) is not None]
    if times > 1 and given:
        raise ValueError(f"--quality is of the recipe's steps. Received: {given[0]}={settings[given[0]]} too.")
    chosen = settings["recipe"] or recipes.of_source(is_files(settings["source"]), image_shape[2])
    settings = settings | {"recipe": chosen}
    recipe = recipes.PAPERS | recipes.RECIPES[chosen]
    recipe["training_steps"] *= times
    recipe["width"] = recipes.width_of(recipe["width"], image_shape) if chosen == "parts" else recipe["width"]
    if settings["method"] == "f-anogan" or settings["start"] == "prior":
        names = ("architecture", "latent_dim", "task_weight", "views", "augment")
        networks = () if chosen == "parts" else names  # of few parts a GAN learns no others
        recipe |= {name: recipes.PAPERS[name] for name in (*OF_Z, *networks)}
    if gan_name(settings) != "dcgan":
        recipe.pop("learning_rate", None)  # a WGAN-GP's is lower
    filled = settings | {name: value for name, value in recipe.items() if settings.get(name) is None}
    if filled["mode"] != "joint":
        filled["epochs"] = settings["epochs"]  # only a joint training goes on with the GAN
    names = filled["score_kind"].split("+")
    if settings["score_kind"] is None and settings["self_supervision"] == ("none",):  # then nothing is told
        names = [name for name in names if name not in ("tasks", "transformations")]
        filled["score_kind"] = "+".join(names)
    if all(name in KINDS and KINDS[name].of_reconstruction for name in names) and settings["self_supervision"] is None:
        filled["self_supervision"] = ()  # the papers' methods as they are
    if filled["score_kind"] == "paper":
        filled["feature_weight"] = settings["feature_weight"]  # A(x) has D, whatever the recipe draws by
    if filled["patches"] and settings["score_kind"] is None and filled["score_kind"] == "neighbours":
        filled["score_kind"] = "features"
    several = {name: filled[name] for name in ("self_supervision", "augment")}
    return filled | {name: () if values == ("none",) else tuple(values) for name, values in several.items()}


def load_splits(settings: dict, size: Sequence[int | None] | None = None) -> data.Splits:
    """The splits that a run's settings name, images of `size` if given: `(height, width)`, or with channels too."""
    keys = (
        "patches", "scale", "pattern", "group_by", "bits", "crop", "validation_fraction", "cache", "data_dir",
        "seed",
    )  # fmt: skip
    height, width, *channels = size or settings["size"] or (None, None)
    shape = (height, width, *(channels or [settings["channels"] and int(settings["channels"])]))
    options = {key: settings[key] for key in keys}
    batch_size = settings["batch_size"]
    options["batch_size"] = BATCH_SIZE if batch_size is None else batch_size
    options["skip_unreadable"] = settings.get("skip_unreadable", False)  # which older runs do not have
    return data.load(settings["source"], image_shape=shape, normal=settings["normal"] or None, **options)


def gan_name(settings: dict) -> str:
    """The name of the GAN in `runs.GANS`: the one asked for, else that of the method."""
    return settings["gan"] or GAN_OF[settings["method"]]


def needs_encoder(settings: dict) -> bool:
    """Whether an encoder is trained after the GAN."""
    return settings["method"] == "f-anogan" or settings["start"] == "encoder"


def description_of(splits: data.Splits, settings: dict) -> dict:
    """What `run.json` tells of the data, and of how to train again."""
    parts, counts = np.unique(splits.samples.parts, return_counts=True)
    return {
        "settings": jsonable(settings),
        "preprocessing": dataclasses.asdict(splits.preprocessing),
        "fingerprint": splits.fingerprint,
        "images": dict(zip(parts.tolist(), counts.tolist(), strict=True)),
    }


def pattern_of(description: dict, given: str | None = None) -> str | None:
    """Which files of a folder are taken: the pattern given, else that of the training, of which the user is told."""
    pattern = given or description.get("settings", {}).get("pattern")
    if pattern and not given:
        print(f"Of folders the files named {pattern}, as in the training; --pattern names others.")
    return pattern


def check_apart(out: str | Path, *sources: str | Path | None) -> None:
    """Raises a ValueError if `out` is one of the source folders, or lies in one: it would become a source itself."""
    for source in sources:
        if source and Path(source).is_dir() and Path(out).resolve().is_relative_to(Path(source).resolve()):
            raise ValueError(
                f"What is written would lie among the images of {source}: name a folder elsewhere. Received: --out "
                f"{out}."
            )


def check_fingerprint(run: str | Path, description: dict, splits: data.Splits) -> None:
    """Raises a ValueError if images or their split are not those that a run was trained by."""
    if not splits.matches(description["fingerprint"]):
        raise ValueError(
            f"The images of {description['settings']['source']} changed since {run} was trained, so its split cannot "
            "be made again, and training images could be tested on. Bring them back, or test on another SOURCE."
        )


def check_bound(out: Path, earlier: dict, settings: dict) -> None:
    """Raises a ValueError if settings are not those of an earlier run that it has been trained by already.

    Of a finished run all are bound; else those of the phases that have begun, as their checkpoints tell.

    Args:
        out: The folder of the run.
        earlier: Its description.
        settings: Those to go on with.
    """
    there, now = earlier.get("settings", {}), jsonable(settings)
    before = {name: recipes.PAPERS[name] for name in ("task_weight", "views") if name in now}  # there were no others
    there = there and before | there
    if not earlier["complete"]:
        there, now = ({**some, "gan": gan_name(some)} for some in (there, now))
    changed = {name for name in {*there, *now} if there.get(name) != now.get(name)}
    if not earlier["complete"]:
        changed &= _bound(out, {*there, *now}, settings)
    if not changed:
        return
    lines = [f"  {name}: {there.get(name)!r} there, {now.get(name)!r} now" for name in sorted(changed)]
    if there and earlier["complete"] and changed == {"alpha"}:
        lines.append(f"No α needs a training: anogan-tf calibrate {out} --alpha {now['alpha']:g}")
    elif there and earlier["complete"] and changed <= set(OF_ENCODER_AND_SCORE):
        lines.append(f"To keep its GAN and change these: anogan-tf train --encoder-only {out} --out OTHER …")
    raise ValueError(
        f"{out} holds a run with other settings; name another folder, or give the same ones:\n" + "\n".join(lines)
    )


def _bound(out, names, settings):
    """Those names of settings by which the networks of an unfinished run have been trained."""
    gan = (out / GAN_CHECKPOINT).exists() and not settings["encoder_only"]
    encoder = (out / ENCODER_CHECKPOINT).exists() and needs_encoder(settings)
    of_gan = names - {"recipe", *OF_ENCODER_AND_SCORE} if gan or encoder else set()
    return of_gan | (set(OF_ENCODER) if encoder else set())


def at_rate(scorer: Scorer, alpha: float | None, threshold: float | str | None) -> Scorer:
    """The scorer of a run, calibrated at another rate of false alarms where one is given.

    Raises:
        ValueError: If a threshold is given besides.
    """
    if alpha is not None and threshold is not None:
        raise ValueError(f"Give --alpha or --threshold, not both. Received: {alpha:g} and {threshold}.")
    if alpha is not None:
        scorer.recalibrate(alpha)
    return scorer


def jsonable(settings: dict) -> dict:
    """The settings as `run.json` gives them back: lists in place of tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def resolved(settings: dict) -> dict:
    """The settings with their paths made absolute."""
    paths = {
        name: str(Path(settings[name]).resolve())
        for name in ("data_dir", "cache", "encoder_only")
        if settings.get(name) not in (None, "auto", "memory")
    }
    if settings.get("features") and Path(settings["features"]).is_file():
        paths["features"] = str(Path(settings["features"]).resolve())
    return settings | paths | ({"source": absolute(settings["source"])} if "source" in settings else {})


def absolute(source: str | Path) -> str:
    """A path made absolute, so that it means the same from any folder; a name, and that of a run, as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() and not (path / "run.json").exists() else source
