"""The options of the command line, grouped by what they are about, with the range of every number."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from anogan_tf.commands.recipes import QUALITIES, RECIPES


class Number(click.FloatRange):
    """A number within bounds; what is no number (`nan`) or has no end is refused, though no bound excludes it."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number = super().convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", parameter, context)
        return number

    def _describe_range(self) -> str:
        """For help; click has words only for a range that ends somewhere."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class Threshold(Number):
    """A finite number, or one of the names of thresholds that are chosen on labels."""

    name = "number|f1|midpoint"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float | str:
        return value if value in ("f1", "midpoint") else super().convert(value, parameter, context)


AT_LEAST_1 = click.IntRange(min=1)
AT_LEAST_0 = click.IntRange(min=0)
ABOVE_0 = Number(min=0, min_open=True)
NOT_NEGATIVE = Number(min=0)
RATE = Number(min=0, max=1, min_open=True, max_open=True)


def _size(context, parameter, value):
    """`64` or `64x48` (height x width) as a pair."""
    if value is None:
        return None
    sides = value.lower().split("x")
    if not all(side.isdecimal() and int(side) for side in sides) or len(sides) > 2:
        raise click.BadParameter(f"a side such as 64, or height x width such as 64x48. Received: {value}")
    return int(sides[0]), int(sides[-1])


def _crop(context, parameter, value):
    if value in (None, "square"):
        return value
    if not value.isdecimal() or not int(value):
        raise click.BadParameter(f'a side in pixels such as 108, or "square". Received: {value}')
    return int(value)


def _expression(context, parameter, value):
    try:
        re.compile(value or "")
    except re.error as error:
        raise click.BadParameter(f"no regular expression ({error}). Received: {value}") from None
    return value


def existing(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Paths that must be there, but for an engine that knows other places."""
    if context.params["engine"] == "ray":
        return value
    return tuple(click.Path(exists=True).convert(path, parameter, context) for path in value)


SOURCE = [
    click.option(
        "--normal", multiple=True, help='Normal class, "*" for all, or attribute such as Eyeglasses=0; may be repeated.'
    ),
    click.option("--size", callback=_size, help="Height and width of the networks, 64 or 64x48; default the source's."),
    click.option(
        "--channels", type=click.Choice(["1", "3"]), help="1 for gray, 3 for colour; default the source's, or 3."
    ),
    click.option("--crop", callback=_crop, help='Centre crop in pixels before resizing, or "square".'),
    click.option("--patches", is_flag=True, help="Large pictures: keep their size, train on patches, score in tiles."),
    click.option("--scale", type=ABOVE_0, help="With --patches: resize pictures to this part of their own size."),
    click.option("--pattern", help='Glob pattern of file names, such as "*_front.png".'),
    click.option(
        "--group-by",
        callback=_expression,
        help="Regular expression on relative paths; images of one group stay together.",
    ),
    click.option("--bits", type=click.IntRange(1, 16), default=16, help="Significant bits of 16-bit files."),
    click.option(
        "--validation-fraction",
        type=Number(min=0, max=1, max_open=True),
        default=0.2,
        help="Normal images held out for calibration.",
    ),
    click.option("--cache", default="auto", help='"memory", or a folder to keep decoded images in.'),
    click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow Datasets."),
    click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read, and say which."),
]
MODEL = [
    click.option(
        "--recipe",
        type=click.Choice(list(RECIPES)),
        help="Defaults for gray shapes, for colour photos, or for parts seen from one side. Default: parts "
        "for a folder, else by the channels.",
    ),
    click.option("--gan", type=click.Choice(["dcgan", "wgan-gp"]), help="Default: dcgan for anogan, else wgan-gp."),
    click.option(
        "--architecture",
        help="dcgan, deep-dcgan, upsampling, principal, principal-dcgan, residual, hazelnut, or another that was "
        "added; default the recipe's.",
    ),
    click.option("--width", type=AT_LEAST_1, help="Filters next to the image; default the recipe's."),
    click.option("--latent-dim", type=AT_LEAST_1, help="Dimension of z; default the recipe's."),
    click.option("--prior", type=click.Choice(["normal", "uniform"]), default="normal", help="Distribution of z."),
    click.option(
        "--self-supervision",
        multiple=True,
        type=click.Choice(["none", "rotation", "shift"]),
        callback=lambda context, parameter, value: value or None,
        help="What the discriminator also learns to tell; may be repeated; default the recipe's.",
    ),
    click.option(
        "--task-weight",
        type=ABOVE_0,
        help="Weight of what the discriminator also learns, beside the GAN's own loss; default the recipe's.",
    ),
    click.option(
        "--views",
        type=AT_LEAST_1,
        help="Transformations of each image in a step of what the discriminator also learns; default the recipe's.",
    ),
    click.option(
        "--augment",
        multiple=True,
        type=click.Choice(["none", "translation", "mirror", "color", "cutout"]),
        callback=lambda context, parameter, value: value or None,
        help="How all that the discriminator sees is changed by chance; may be repeated; default the recipe's.",
    ),
    click.option(
        "--ema",
        type=Number(min=0, max=1, max_open=True),
        help="Momentum of the moving average of G's weights that is kept, 0 for none; default the recipe's.",
    ),
    click.option("--epochs", type=AT_LEAST_1, help="Default: as many as make the recipe's steps."),
    click.option("--training-steps", type=AT_LEAST_1, help="At least so many, in whole epochs; default the recipe's."),
    click.option(
        "--quality",
        type=click.Choice(list(QUALITIES)),
        default="standard",
        help="How long networks are trained: high takes three times the recipe's steps.",
    ),
    click.option("--batch-size", type=AT_LEAST_1, help="Default the recipe's."),
    click.option(
        "--learning-rate",
        type=ABOVE_0,
        help="Adam's; default 1e-3 for dcgan, decaying to 0, and 3e-4 for wgan-gp.",
    ),
]
ENCODER = [
    click.option(
        "--encoder-only", type=click.Path(exists=True, file_okay=False), help="Take data and GAN of this run."
    ),
    click.option(
        "--mode",
        type=click.Choice(["izi", "ziz", "izi_f", "joint"]),
        help="The encoder's loss; by joint the generator is trained too. Default the recipe's.",
    ),
    click.option("--variational", is_flag=True, help="An encoder that gives a distribution of z."),
    click.option(
        "--kl-weight", type=NOT_NEGATIVE, default=0.01, help="Weight of the divergence of codes from the prior."
    ),
    click.option("--encoder-epochs", type=AT_LEAST_1, help="Default: as many as make the recipe's steps."),
    click.option("--encoder-rate", type=ABOVE_0, default=1e-3, help="Adam's, of the encoder; decays to 0."),
]
SCORER = [
    click.option(
        "--score",
        "score_kind",
        help="What decides: neighbours; of the discriminator features, tasks, transformations or density; of "
        "the reconstruction residual, difference, discrimination or paper; several of these joined by +. Default the "
        "recipe's.",
    ),
    click.option(
        "--features",
        help="With --score neighbours: a pretrained network that decides beside fixed filters, of keras.applications "
        "such as EfficientNetV2B0, whose ImageNet weights Keras downloads, or a .keras file; default filters alone.",
    ),
    click.option(
        "--start", type=click.Choice(["prior", "encoder"]), help="Where a search starts; default the recipe's."
    ),
    click.option("--steps", type=AT_LEAST_0, help="Steps of the latent search; default the recipe's, or 50."),
    click.option(
        "--search-rate",
        type=ABOVE_0,
        help="Constant rate of the search; default the recipe's, or 0.2 (0.02 after an encoder), decaying.",
    ),
    click.option(
        "--feature-weight",
        type=NOT_NEGATIVE,
        help="λ of anogan, default the recipe's, or 0.1; κ of f-anogan, default 1.",
    ),
    click.option(
        "--distance",
        type=click.Choice(["l1", "l2"]),
        help="Of images and of features; default l1 for anogan, l2 for f-anogan.",
    ),
    click.option("--restarts", type=AT_LEAST_1, default=1, help="Searches for each image, of which the best counts."),
    click.option("--chunk", type=AT_LEAST_1, default=64, help="Images, or tiles, searched at once; 1 suits few."),
    click.option(
        "--overlap",
        type=Number(min=0, max=1, max_open=True),
        default=0.5,
        help="With --patches: the part of its side that a tile shares with the next.",
    ),
    click.option("--alpha", type=RATE, default=0.05, help="Rate of false alarms to allow."),
    click.option(
        "--calibration",
        type=click.Choice(["split", "cross"]),
        help="Set thresholds on the images held out, or on all, each held out in turn. Default: cross for neighbours, "
        "else split.",
    ),
]


SECTIONS = {  # in which help lists options; of a command with many, the common ones come first
    "Most used": ("out", "normal", "size", "crop", "patches", "recipe", "method", "alpha", "training_steps", "seed"),
    "Data": (
        "normal", "size", "channels", "crop", "patches", "scale", "overlap", "pattern", "group_by", "bits",
        "validation_fraction", "cache", "data_dir", "skip_unreadable", "cases",
    ),
    "Model": (
        "method", "recipe", "gan", "architecture", "width", "latent_dim", "prior", "self_supervision",
        "task_weight", "views", "augment", "ema", "epochs", "training_steps", "quality", "batch_size", "learning_rate",
        "seed", "seeds", "quick", "digits",
    ),
    "Encoder": ("encoder_only", "mode", "variational", "kl_weight", "encoder_epochs", "encoder_rate"),
    "Score": (
        "score_kind", "features", "start", "steps", "search_rate", "feature_weight", "distance", "restarts", "chunk",
        "learn",
    ),
    "Decision": ("alpha", "threshold", "calibration"),
    "Output": ("out", "pictures", "masks", "as_json", "profile"),
    "More than one machine": ("engine", "address", "workers", "gpus_per_worker"),
    "Watching": ("interval", "once"),
    "Export": ("format", "search"),
    "Server": ("host", "port", "max_body", "max_pixels", "queue", "timeout"),
}  # fmt: skip
MANY = 12  # options


class Sectioned(click.Command):
    """A command whose help lists its options by what they are about."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        left = {option.name: option for option in self.get_params(context) if isinstance(option, click.Option)}
        many = len(left) > MANY
        for title, names in SECTIONS.items():
            listed = [left.pop(name) for name in names if name in left and (many or title != "Most used")]
            _section(context, formatter, title, listed)
        _section(context, formatter, "Other", left.values())


def _section(context, formatter, title, listed):
    rows = [row for option in listed if (row := option.get_help_record(context))]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and all else to standard error.")
FILES = click.option("--pattern", help="Glob pattern of the files that are taken of a folder; default the training's.")
ALPHA = click.option("--alpha", type=RATE, help="Another rate of false alarms; default the run's.")
PROFILED = f"{__name__}.profiled"  # the key of a context's `meta`


def _keep_profiled(context, parameter, value):
    context.meta[PROFILED] = value


PROFILE = click.option(
    "--profile",
    is_flag=True,
    expose_value=False,
    callback=_keep_profiled,
    help="Tell at the end where the time went, on the clock and of CPU time.",
)
OF_RAY = ("address", "workers", "gpus_per_worker")
ENGINE = [
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        is_eager=True,
        help="Score in this process, or on a cluster (docs/scale.md).",
    ),
    click.option("--address", help="Of a Ray cluster, such as auto; default one that is started here."),
    click.option("--workers", type=AT_LEAST_1, help="Processes that score; default one for each CPU but one, or GPU."),
    click.option("--gpus-per-worker", type=ABOVE_0, help="GPUs, or a part of one, for each; default none."),
]
MASKS = click.option("--masks", is_flag=True, help="Write the pixels of regions as PNG files, too.")
SEED = click.option("--seed", type=AT_LEAST_0, default=0, help="Seed of the split and of everything else.")
WORKERS = click.option(
    "--workers",
    type=click.Choice(["auto"]),
    help="Train on all GPUs of this machine; under TF_CONFIG be one of the workers that it lists (docs/scale.md).",
)
TRAINING = [
    click.argument("source", required=False),
    click.option("--out", required=True, type=click.Path(file_okay=False), help="The run's folder."),
    click.option(
        "--method",
        type=click.Choice(["anogan", "f-anogan"]),
        default="anogan",
        help="Find z by a search, or by an encoder in one pass.",
    ),
    *SOURCE,
    *MODEL,
    *ENCODER,
    *SCORER,
    SEED,
]


def of_training(arguments: Sequence[str]) -> dict:
    """The settings that a list of arguments of `anogan-tf train` makes."""
    command = click.Command("anogan-tf train", params=[])
    add(TRAINING)(command)
    return command.make_context("anogan-tf train", list(arguments)).params


def add(options: Sequence[Callable]) -> Callable:
    """A decorator that gives a command these options, in this order."""

    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
