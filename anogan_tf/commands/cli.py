"""The command line; each command is a few calls into the library."""

import contextlib
import functools
import os
import pathlib
import shlex
import signal
import sys
import warnings

import click

from anogan_tf import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="anogan-tf")
@click.option("--debug", is_flag=True, help="Show the whole trace of an error.")
def main(debug):
    """Unsupervised anomaly detection in images with GANs: train on normal images, score new ones, see where."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # left alone, only CPUs with AVX-512 VNNI or AMX use oneDNN
    warnings.showwarning = _show_warning


def command(function):
    """A click command whose errors are one readable line."""

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        try:
            with _terminable():
                return function(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            again = shlex.join(["anogan-tf", *sys.argv[1:]])
            click.echo(f"\nInterrupted; what was saved is kept. To go on:\n  {again}")
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            raise SystemExit(128 + number) from None
        except (ValueError, OSError, ArithmeticError) as error:
            if click.get_current_context().find_root().params["debug"]:
                raise
            raise click.ClickException(str(error)) from error

    return main.command(context_settings={"show_default": True})(guarded)


def _size(context, parameter, value):
    """`64` or `64x48` (height x width) as a pair."""
    if value is None:
        return None
    sides = value.lower().split("x")
    if not all(side.isdigit() for side in sides) or len(sides) > 2:
        raise click.BadParameter(f"a side such as 64, or height x width such as 64x48. Received: {value}")
    return int(sides[0]), int(sides[-1])


def _crop(context, parameter, value):
    return int(value) if value and value.isdigit() else value


source_options = [
    click.option("--normal", multiple=True, help="Normal class, or attribute such as Eyeglasses=0; may be repeated."),
    click.option("--size", callback=_size, help="Height and width of the networks, 64 or 64x48; default the source's."),
    click.option(
        "--channels", type=click.Choice(["1", "3"]), help="1 for gray, 3 for colour; default the source's, or 3."
    ),
    click.option("--crop", callback=_crop, help='Centre crop in pixels before resizing, or "square".'),
    click.option("--patches", is_flag=True, help="Large pictures: keep their size, train on patches, score in tiles."),
    click.option("--scale", type=float, help="With --patches: resize pictures to this part of their own size."),
    click.option("--pattern", help='Glob pattern of file names, such as "*_front.png".'),
    click.option("--group-by", help="Regular expression on relative paths; images of one group stay together."),
    click.option("--bits", default=16, help="Significant bits of 16-bit files."),
    click.option("--validation-fraction", default=0.2, help="Normal images held out for calibration."),
    click.option("--cache", default="auto", help='"memory", or a folder to keep decoded images in.'),
    click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow Datasets."),
]
model_options = [
    click.option(
        "--recipe",
        type=click.Choice(["shapes", "photos", "parts"]),
        help="Defaults for a kind of images: gray shapes, colour photos, or parts seen from one side. Default: parts "
        "for a folder, else by the channels.",
    ),
    click.option("--gan", type=click.Choice(["dcgan", "wgan-gp"]), help="Default: dcgan for anogan, else wgan-gp."),
    click.option("--architecture", type=click.Choice(["dcgan", "residual", "hazelnut"]), default="dcgan"),
    click.option("--width", type=int, help="Filters next to the image; default the recipe's."),
    click.option("--latent-dim", default=64, help="Dimension of z."),
    click.option("--prior", type=click.Choice(["normal", "uniform"]), default="normal", help="Distribution of z."),
    click.option(
        "--self-supervision",
        multiple=True,
        type=click.Choice(["none", "rotation", "shift"]),
        callback=lambda context, parameter, value: value or None,
        help="What the discriminator also learns to tell; may be repeated; default the recipe's.",
    ),
    click.option("--epochs", type=int, help="Default: as many as make the recipe's steps."),
    click.option("--training-steps", type=int, help="At least so many, in whole epochs; default the recipe's."),
    click.option("--batch-size", type=int, help="Default the recipe's."),
    click.option(
        "--learning-rate",
        type=float,
        help="Adam's; default 1e-3 for dcgan, decaying to 0, and 3e-4 for wgan-gp.",
    ),
]
encoder_options = [
    click.option(
        "--encoder-only", type=click.Path(exists=True, file_okay=False), help="Take data and GAN of this run."
    ),
    click.option("--mode", type=click.Choice(["izi", "ziz", "izi_f"]), default="izi_f", help="The encoder's loss."),
    click.option("--variational", is_flag=True, help="An encoder that gives a distribution of z."),
    click.option("--kl-weight", default=0.01, help="Weight of its divergence from the prior."),
    click.option("--encoder-epochs", type=int, help="Default: as many as make the recipe's steps."),
    click.option("--encoder-rate", default=1e-3, help="Adam's, of the encoder; decays to 0."),
]
scorer_options = [
    click.option(
        "--score",
        "score_kind",
        help="What decides: neighbours, features, transformations, the last two joined by +, paper, residual or "
        "discrimination; default the recipe's.",
    ),
    click.option("--start", type=click.Choice(["prior", "encoder"]), default="prior", help="Where a search starts."),
    click.option("--steps", default=50, help="Steps of the latent search."),
    click.option(
        "--search-rate", type=float, help="Constant rate of the search; default 0.2 (0.02 after an encoder), decaying."
    ),
    click.option("--feature-weight", type=float, help="λ of anogan, default 0.1; κ of f-anogan, default 1."),
    click.option(
        "--distance",
        type=click.Choice(["l1", "l2"]),
        help="Of images and of features; default l1 for anogan, l2 for f-anogan.",
    ),
    click.option("--restarts", default=1, help="Searches for each image, of which the best counts."),
    click.option("--chunk", default=64, help="Images, or tiles, searched at once."),
    click.option(
        "--overlap", default=0.5, help="With --patches: the part of its side that a tile shares with the next."
    ),
    click.option("--alpha", default=0.05, help="Rate of false alarms to allow."),
]


def _with(options):
    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@command
@click.option("--out", default="anogan-demo", type=click.Path(file_okay=False), help="Results folder.")
@click.option("--normal", default="8", type=click.Choice(list("0123456789")), help="The digit that is normal.")
@click.option("--seed", default=0, help="Seed of the split and of the training.")
def demo(out, normal, seed):
    """The whole path in two minutes: learn what a handwritten 8 looks like, then find what is none."""
    from anogan_tf.commands.demo import run

    run(out, normal, seed)


@command
@click.argument("source", required=False)
@click.option("--out", required=True, type=click.Path(file_okay=False), help="The run's folder.")
@click.option(
    "--method",
    type=click.Choice(["anogan", "f-anogan"]),
    default="anogan",
    help="Find z by a search, or by an encoder in one pass.",
)
@_with(source_options + model_options + encoder_options + scorer_options)
@click.option("--seed", default=0, help="Seed of the split and of everything else.")
@click.pass_context
def train(context, **options):
    """Trains on normal images of SOURCE, and calibrates: makes a RUN.

    SOURCE is `digits`, a folder (MVTec layout, class folders, or only normal images), an .npz file, or a name of
    TensorFlow Datasets such as mnist; --encoder-only RUN needs none. Run again with the same settings, it goes on
    where it stopped.
    """
    from anogan_tf.commands import train as runs

    if options["encoder_only"]:
        given = {name: value for name, value in options.items() if _was_given(context, name)}
        options |= runs.settings_of_gan(options["encoder_only"], given)
    elif options["source"] is None:
        raise click.UsageError("Missing argument 'SOURCE'.")
    runs.train(**options)


@command
@click.argument("run")
@click.argument("source", required=False)
@click.option("--out", default="results", type=click.Path(file_okay=False), help="Results folder.")
@click.option("--threshold", help='A number; or "f1" or "midpoint", which look at the test labels.')
@click.option("--pictures", default=100, help="Images to draw at most, the most anomalous first.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow Datasets.")
def test(run, source, out, threshold, pictures, data_dir):
    """Tests RUN on labelled images: those its training set aside, or the test part of SOURCE.

    RUN is a folder that `anogan-tf train` made, or the name of a published run such as mnist-8.
    """
    from anogan_tf.commands import train as runs

    with contextlib.suppress(TypeError, ValueError):
        threshold = float(threshold)
    runs.test(run, source, out, threshold=threshold, pictures=pictures, data_dir=data_dir)


@command
@click.argument("run")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--out", default="results", type=click.Path(file_okay=False), help="Results folder.")
@click.option("--pictures", default=1000, help="Images to draw at most, the most anomalous first.")
def score(run, paths, out, pictures):
    """Scores images (files or folders) with RUN, and decides on each.

    RUN is a folder that `anogan-tf train` made, or the name of a published run such as mnist-8.
    """
    from anogan_tf.commands import train as runs

    runs.score(run, paths, out, pictures=pictures)


@command
@click.argument("name", type=click.Choice(["digits", "mnist", "fashion_mnist", "cifar10", "mvtec", "npz"]))
@click.argument("source", required=False, type=click.Path(exists=True))
@click.option("--out", type=click.Path(file_okay=False), help="Results folder; default benchmark-NAME.")
@click.option("--case", "cases", multiple=True, help="Only this normal class or category; may be repeated.")
@click.option("--quick", is_flag=True, help="Train for a moment only, to see that everything works.")
@click.option("--seed", default=0, help="Seed of the split and of everything else.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow Datasets.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def benchmark(name, source, out, **settings):
    """Runs a published protocol with this package and with what it must beat, into a table.

    One normal class after the other of digits, mnist, fashion_mnist or cifar10; each category folder in SOURCE in MVTec
    layout; an .npz file. OPTIONS after -- go to `anogan-tf train`. Run again, it goes on where it stopped.
    """
    from anogan_tf.commands import protocols

    protocols.run(name, out or f"benchmark-{name}", source=source, **settings)
    click.echo((pathlib.Path(out or f"benchmark-{name}") / "table.md").read_text())


@contextlib.contextmanager
def _terminable():
    """Makes SIGTERM, which a system sends before it kills, the same as Ctrl-C."""

    def interrupt(number, _):
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _was_given(context, name):
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _show_warning(message, category, filename, lineno, file=None, line=None):
    click.echo(f"Warning: {message}", err=True)
