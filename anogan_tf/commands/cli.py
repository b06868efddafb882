"""The command line; each command is a few calls into the library."""

import contextlib
import functools
import gc
import json
import os
import pathlib
import shlex
import signal
import sys
import warnings
from collections.abc import Callable

import click
from click import shell_completion

from anogan_tf import __version__
from anogan_tf.commands import options
from anogan_tf.formats import FORMATS

SECTIONS = {
    "Start here": ("demo", "train", "score"),
    "Data": ("data",),
    "A trained run": ("test", "calibrate", "info"),
    "At work": ("watch", "serve", "export"),
    "More": ("benchmark", "completion"),
}


class Sections(click.Group):
    """A group whose help lists its commands by what one wants of them, and that shows where to start."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if not args and not context.resilient_parsing:
            click.echo(FIRST)
            context.exit()
        return super().parse_args(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            rows = [(name, self.commands[name].get_short_help_str(limit=200)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)


FIRST = """Finds what is wrong in a picture after seeing only pictures where nothing is. To start:

  anogan-tf demo                                     the whole path in about two minutes, on pictures of its own
  anogan-tf train photos/good --out runs/parts       learn what good pictures look like
  anogan-tf score runs/parts photos/new              what is anomalous, and where: a page in results/

anogan-tf --help lists all commands, anogan-tf COMMAND --help their options."""


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, prog_name="anogan-tf")
@click.option("--debug", is_flag=True, help="Show the whole trace of an error.")
def main(debug: bool) -> None:
    """Unsupervised anomaly detection in images with GANs: train on normal images, score new ones, see where."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # that of other work with Keras on this machine is no matter here
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # and not all the memory of a GPU at once
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # its own keeps what it once had
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # left alone, only CPUs with AVX-512 VNNI or AMX use oneDNN
    warnings.showwarning = _show_warning


def command(function: Callable) -> click.Command:
    """A click command whose errors are readable; where the trace is of use, `--debug` shows it."""

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        try:
            with _terminable(), _profiled():
                return function(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            again = shlex.join(["anogan-tf", *sys.argv[1:]])
            click.echo(f"\nInterrupted; what was saved is kept. To go on:\n  {again}")
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            raise SystemExit(128 + number) from None
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # the last is of a reader such as head that has seen enough, which click ends quietly
        except Exception as error:
            if click.get_current_context().find_root().params["debug"]:
                raise
            raise click.ClickException(_in_words(error)) from error

    return main.command(cls=options.Sectioned, context_settings={"show_default": True})(options.PROFILE(guarded))


@command
@click.option("--out", default="anogan-demo", type=click.Path(file_okay=False), help="Results folder.")
@click.option("--digits", is_flag=True, help="Handwritten digits of 8x8 pixels in place of photographs.")
@click.option(
    "--normal", type=click.Choice(list("0123456789")), help="With --digits: the digit that is normal; default 8."
)
@options.SEED
def demo(out: str, digits: bool, normal: str | None, seed: int) -> None:
    """The whole path in two minutes: learn what a flower looks like, then find what is wrong with others."""
    if digits:
        from anogan_tf.commands.digits import run

        run(out, normal or "8", seed)
        return
    if normal:
        raise click.UsageError("--normal is a digit, and goes with --digits.")
    from anogan_tf.commands.demo import run

    run(out, seed)


@command
@options.add(options.TRAINING)
@options.WORKERS
@click.pass_context
def train(context: click.Context, **settings) -> None:
    """Trains on normal images of SOURCE, and calibrates: makes a RUN.

    SOURCE is `digits`, a folder (MVTec layout, class folders, or only normal images; see docs/data.md), a .csv list of
    files, an .npz file, or a name of TensorFlow Datasets such as mnist; --encoder-only RUN needs none. Run again with
    the same settings, it goes on where it stopped.
    """
    from anogan_tf.commands.settings import settings_of_gan
    from anogan_tf.commands.train import run

    if settings["encoder_only"]:
        given = {name: value for name, value in settings.items() if _was_given(context, name)}
        settings |= settings_of_gan(settings["encoder_only"], given)
    elif settings["source"] is None:
        raise click.UsageError("Missing argument 'SOURCE'.")
    run(**settings)


@command
@click.argument("source")
@options.add(options.SOURCE)
@click.option("--seed", default=0, help="Seed of the split.")
@click.option("--out", default="data.png", type=click.Path(dir_okay=False), help="Contact sheet, a PNG image.")
def data(source: str, out: str, **settings) -> None:
    """Shows what SOURCE is taken for, without training: parts, classes, counts, masks, and what is not used."""
    from anogan_tf.commands.data import run

    run(source, out, **settings)


@command
@click.argument("run")
@click.argument("source", required=False)
@click.option("--out", default="results", type=click.Path(file_okay=False), help="Results folder.")
@options.FILES
@options.ALPHA
@click.option(
    "--threshold", type=options.Threshold(), help='A number; or "f1" or "midpoint", which look at the test labels.'
)
@click.option("--normal", multiple=True, help="Normal class of SOURCE; default the training's. May be repeated.")
@options.MASKS
@click.option(
    "--pictures", type=options.AT_LEAST_0, default=100, help="Images to draw at most, the most anomalous first."
)
@click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow Datasets.")
@options.JSON
def test(run: str, source: str | None, out: str, as_json: bool, **options) -> None:
    """Tests RUN on labelled images: those its training set aside, or the test part of SOURCE.

    RUN is a folder that `anogan-tf train` made, or the name of a published run such as mnist-8.
    """
    from anogan_tf.commands import test

    with _printing(as_json, out):
        test.run(run, source, out, **options)


@command
@click.argument("run")
@click.argument("paths", nargs=-1, required=True, callback=options.existing)
@click.option("--out", default="results", type=click.Path(file_okay=False), help="Results folder.")
@options.FILES
@options.ALPHA
@click.option("--threshold", type=options.Number(), help="A number in place of the calibrated threshold.")
@options.MASKS
@click.option(
    "--pictures", type=options.AT_LEAST_0, default=1000, help="Images to draw at most, the most anomalous first."
)
@options.add(options.ENGINE)
@options.JSON
def score(run: str, paths: tuple[str, ...], out: str, engine: str, as_json: bool, **settings) -> None:
    """Scores images (files or folders) with RUN, and decides on each.

    RUN is a folder that `anogan-tf train` made, or the name of a published run such as mnist-8. With --engine ray there
    is one PATH, a folder, a quoted glob pattern or a .parquet file, here or at an address such as s3://bucket/folder.
    """
    of_ray = {name: settings.pop(name) for name in options.OF_RAY}
    if engine == "ray":
        from anogan_tf.commands import bulk

        if len(paths) > 1:
            raise click.UsageError(f"--engine ray takes one PATH. Received: {len(paths)}.")
        with _printing(as_json, out):
            bulk.run(run, paths[0], out, **settings, **of_ray)
        return
    given = [f"--{name.replace('_', '-')}" for name, value in of_ray.items() if value is not None]
    if given:
        raise click.UsageError(f"{', '.join(given)} go with --engine ray.")
    from anogan_tf.commands import score

    with _printing(as_json, out):
        score.run(run, paths, out, **settings)


@command
@click.argument("run")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--out", default="results", type=click.Path(file_okay=False), help="Results folder.")
@options.FILES
@options.ALPHA
@click.option("--threshold", type=options.Number(), help="A number in place of the calibrated threshold.")
@options.MASKS
@click.option("--pictures", type=options.AT_LEAST_0, default=100, help="Images to draw at most, the most anomalous.")
@click.option("--interval", type=options.ABOVE_0, default=2.0, help="Seconds between two looks at FOLDER.")
@click.option("--once", is_flag=True, help="End once what is there has been judged.")
def watch(run: str, folder: str, out: str, **options) -> None:
    """Scores images with RUN as they arrive in FOLDER, and keeps the results folder current, until Ctrl-C.

    RUN is a folder that `anogan-tf train` made, or the name of a published run such as mnist-8.
    """
    from anogan_tf.commands import watch

    watch.run(run, folder, out, **options)


@command
@click.argument("run")
@click.option("--host", default="127.0.0.1", help="Address to listen at; 0.0.0.0 for all of this machine's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen at; 0 for any free one.")
@options.ALPHA
@click.option("--threshold", type=options.Number(), help="A number in place of the calibrated threshold.")
@click.option(
    "--chunk", type=options.AT_LEAST_1, help="Pictures scored at once; default the run's, others round differently."
)
@click.option("--max-body", type=options.ABOVE_0, default=32, help="Largest body of a request, in MiB.")
@click.option("--max-pixels", type=options.ABOVE_0, default=25, help="Largest picture, in megapixels.")
@click.option("--queue", type=options.AT_LEAST_1, default=64, help="Requests that are worked on or wait.")
@click.option("--timeout", type=options.ABOVE_0, default=30, help="Seconds to receive a request, and to answer it.")
def serve(run: str, **options) -> None:
    """Serves RUN over HTTP: a picture in, its score, decision and regions out, as JSON; see docs/serving.md.

    RUN is a folder that `anogan-tf train` or `anogan-tf export` made, or the name of a published run such as mnist-8.
    """
    from anogan_tf.commands import serve

    serve.run(run, **options)


@command
@click.argument("run")
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@options.FILES
@click.option("--alpha", type=options.RATE, help="Another rate of false alarms; default the run's.")
@click.option("--learn", is_flag=True, help="Remember the local features of these images, too; takes --out.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder of a new run; default: RUN is changed.")
def calibrate(run: str, paths: tuple[str, ...], **options) -> None:
    """Adds good images (files or folders) to the thresholds of RUN, without any training.

    With --alpha and no images it sets another rate of false alarms, from the scores that RUN keeps. Images that RUN has
    seen are left out. With --learn a run that local features decide remembers these images.
    """
    from anogan_tf.commands import calibrate

    calibrate.run(run, paths, **options)


@command
@click.argument("run")
@options.JSON
def info(run: str, as_json: bool) -> None:
    """Tells what RUN is: its data, what decides, thresholds and the scores behind them, what may be wrong."""
    from anogan_tf import runs
    from anogan_tf.commands import info

    if as_json:
        click.echo(json.dumps(runs.read_run(run)))
    else:
        info.run(run)


@command
@click.argument("run")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--format", default="saved_model", type=click.Choice(tuple(FORMATS)), help="What runs it.")
@click.option("--search", is_flag=True, help="Search z, and so draw each picture, which takes most of the time.")
def export(run: str, out: str, **options) -> None:
    """Writes RUN as one model from pictures to decisions that needs no anogan-tf, and proves that it gives the same.

    RUN is a folder that `anogan-tf train` made, or the name of a published run such as mnist-8. See docs/export.md.
    """
    from anogan_tf.commands import export

    export.run(run, out, **options)


@command
@click.argument("name", type=click.Choice(["digits", "mnist", "fashion_mnist", "cifar10", "mvtec", "npz"]))
@click.option("--out", type=click.Path(file_okay=False), help="Results folder; default benchmark-NAME.")
@click.option("--case", "cases", multiple=True, help="Only this normal class or category; may be repeated.")
@click.option("--quick", is_flag=True, help="Train for a moment only, to see that everything works.")
@options.SEED
@click.option("--seeds", default=1, type=click.IntRange(min=1), help="How many, from --seed on: mean ± deviation.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of prepared TensorFlow Datasets.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SOURCE] [-- OPTIONS...]")
def benchmark(name: str, out: str | None, arguments: tuple[str, ...], **settings) -> None:
    """Runs a published protocol with this package and with what it must beat, into a table.

    One normal class after the other of digits, mnist, fashion_mnist or cifar10; each category folder in SOURCE in MVTec
    layout; class 0 of an .npz file, or each --case of it. OPTIONS after -- go to `anogan-tf train`. Run again, it goes
    on where it stopped.
    """
    from anogan_tf.commands import protocols

    named = arguments and not arguments[0].startswith("-")
    source, rest = (arguments[0], arguments[1:]) if named else (None, arguments)
    if source is not None and not pathlib.Path(source).exists():
        raise click.BadParameter(f"there is no {source}.", param_hint="SOURCE")
    protocols.run(name, out or f"benchmark-{name}", source=source, options=rest, **settings)
    click.echo((pathlib.Path(out or f"benchmark-{name}") / "table.md").read_text())


@main.command(cls=options.Sectioned)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Prints what makes SHELL complete commands and options: eval "$(anogan-tf completion bash)" in ~/.bashrc."""
    script = shell_completion.get_completion_class(shell)
    click.echo(script(main, {}, "anogan-tf", "_ANOGAN_TF_COMPLETE").source())


@contextlib.contextmanager
def _printing(as_json, out):
    """What happens inside prints as it does, or, for programs, to standard error, and the results folder as JSON."""
    if not as_json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield
    from anogan_tf import report

    click.echo(json.dumps(report.read(out)))


def _import_quietly() -> None:
    """Imports TensorFlow without what it writes to standard error while it does, past any setting of its own.

    What it makes stays: to look through it for garbage, again and again, takes a tenth of a short command.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        gc.disable()
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")  # what it says of traces is of no use to whom runs a command
    finally:
        gc.freeze()
        gc.enable()
        os.dup2(kept, 2)
        os.close(kept)


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


@contextlib.contextmanager
def _profiled():
    """Tells of stages, and with `--profile` of their times at the end, also of what was interrupted or failed."""
    from anogan_tf import stages

    with stages.told() as times:
        try:
            with stages.stage("Starting"):
                _import_quietly()
            yield
        finally:
            if click.get_current_context().meta.get(options.PROFILED):
                click.echo(times, err=True)


def _in_words(error):
    """An error as the user shall read it: our own as they are, others, which may be long, in a line with their type."""
    if isinstance(error, (ValueError, OSError, ArithmeticError, ImportError)):
        return str(error)
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first} (anogan-tf --debug shows where)"


def _was_given(context, name):
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _show_warning(message, category, filename, lineno, file=None, line=None):
    click.echo(f"Warning: {message}", err=True)
