"""The settings of a run from the command line: recipes, the data that they name, what else they were."""

import dataclasses
from pathlib import Path

import numpy as np

from anogan_tf import data
from anogan_tf.comparison import PLAIN
from anogan_tf.data.samples import Preprocessing
from anogan_tf.runs import read_run

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
GAN_OF = {"anogan": "dcgan", "f-anogan": "wgan-gp"}
OF_ENCODER_AND_SCORE = (
    "method", "start", "encoder_only", "mode", "variational", "kl_weight", "encoder_epochs", "encoder_rate",
    "score_kind", "steps", "search_rate", "feature_weight", "distance", "restarts", "chunk", "alpha", "overlap",
)  # fmt: skip


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
    given = jsonable(resolved(given))
    changed = {name: value for name, value in given.items() if name in taken and value != taken[name]}
    if changed:
        raise ValueError(f"The data and the GAN are those of {run}: {taken}. Received: {changed}.")
    return taken


def with_recipe(settings, channels):
    """The settings, those that are None filled in with the recipe's: that of the images, if none is named."""
    by_channels = "shapes" if channels == 1 else "photos"
    auto = "parts" if Path(settings["source"]).is_dir() else by_channels
    settings = settings | {"recipe": settings["recipe"] or auto}
    recipe = {name: value for name, value in RECIPES[settings["recipe"]].items() if settings.get(name) is None}
    if gan_kind(settings) != "dcgan":
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
    options["skip_unreadable"] = settings.get("skip_unreadable", False)  # which older runs do not have
    return data.load(settings["source"], image_shape=shape, normal=settings["normal"] or None, **options)


def gan_kind(settings):
    return settings["gan"] or GAN_OF[settings["method"]]


def description_of(splits, settings):
    """What `run.json` tells of the data, and of how to train again."""
    parts, counts = np.unique(splits.samples.parts, return_counts=True)
    return {
        "settings": jsonable(settings),
        "preprocessing": dataclasses.asdict(splits.preprocessing),
        "fingerprint": splits.fingerprint,
        "images": dict(zip(parts.tolist(), counts.tolist(), strict=True)),
    }


def preprocessing_of(description):
    height, width, channels = description["gan"]["image_shape"]
    factor = description["scorer"].get("factor", 1)
    fields = description.get("preprocessing") or {"image_shape": (height * factor, width * factor, channels)}
    fields = {"crop": None, "bits": 16, "scale": None} | fields
    crop = tuple(fields["crop"]) if isinstance(fields["crop"], list) else fields["crop"]
    return Preprocessing(tuple(fields["image_shape"]), crop, fields["bits"], fields["scale"])


def check_fingerprint(run, description, splits):
    if not splits.matches(description["fingerprint"]):
        raise ValueError(
            f"The images of {description['settings']['source']} changed since {run} was trained, so its split cannot "
            "be made again, and training images could be tested on. Bring them back, or test on another SOURCE."
        )


def differences(out, earlier, settings):
    lines = [
        f"  {name}: {earlier.get(name)!r} there, {settings.get(name)!r} now"
        for name in sorted(set(earlier) | set(settings))
        if earlier.get(name) != settings.get(name)
    ]
    return f"{out} holds a run with other settings; name another folder, or give the same ones:\n" + "\n".join(lines)


def jsonable(settings):
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def resolved(settings):
    """The settings with their paths made absolute."""
    paths = {
        name: str(Path(settings[name]).resolve())
        for name in ("data_dir", "cache", "encoder_only")
        if settings.get(name) not in (None, "auto", "memory")
    }
    return settings | paths | ({"source": absolute(settings["source"])} if "source" in settings else {})


def absolute(source):
    """A path made absolute, so that it means the same from any folder; a name, and that of a run, as it is."""
    path = Path(source)
    return str(path.resolve()) if path.exists() and not (path / "run.json").exists() else source
