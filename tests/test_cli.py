import csv
import errno
import html
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import click
import h5py
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

import anogan_tf as agt
from anogan_tf import judging, report, runs, scoring
from anogan_tf.callbacks import Progress
from anogan_tf.commands import cli, options, settings, train
from anogan_tf.commands.cli import main
from tests.conftest import small_gan, train_without_graphs

pytestmark = pytest.mark.usefixtures("same_place", "untraced")

SMALL = ["--epochs", "1", "--width", "4", "--latent-dim", "6", "--chunk", "8", "--batch-size", "24"]
SMALL += ["--start", "prior", "--steps", "3"]
UNDRAWN = ["--pictures", "0"]  # what is drawn is searched for, by graphs that every loaded run makes anew


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder in MVTec layout: gray squares, some with a bright scratch, and a mask for each of these."""
    folder = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)

    def save(name, scratch=False):
        pixels = rng.normal(90, 5, (40, 40)).clip(0, 255).astype(np.uint8)
        mask = np.zeros_like(pixels)
        if scratch:
            mask[10:14, 5:30] = 255
            pixels[mask > 0] = 250
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        if scratch:
            mask_path = folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(mask_path)

    for i in range(30):
        save(f"train/good/{i:03d}.png")
    for i in range(5):
        save(f"test/good/{i:03d}.png")
        save(f"test/scratch/{i:03d}.png", scratch=True)
    return folder


@pytest.fixture(scope="module")
def trained_run(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "parts"
    result = run("train", parts, "--out", out, "--size", "16", "--channels", "1", "--alpha", "0.2", *SMALL)
    assert result.exit_code == 0, result.output
    return out, result


def test_help_answers_without_tensorflow():
    """One process asks for that of every command, one after the other."""
    commands = [[], *([name] for name in main.commands)]
    code = (
        "import sys; from anogan_tf.commands.cli import main\n"
        f"for command in {commands}:\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit as end: assert not end.code, command\n"
        "    assert not {'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules), command"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("Usage:") == len(commands)


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")], ids=["not set", "set by the user"])
def test_onednn_is_asked_for_unless_the_user_decided(monkeypatch, before, after):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", before or "")
    if before is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    run("demo", "--help")
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == after


def test_a_run_holds_what_scoring_needs(trained_run):
    out, result = trained_run
    description = json.loads((out / "run.json").read_text())
    assert description["complete"]
    assert description["images"] == {"test": 10, "train": 24, "validation": 6}
    assert description["gan"]["image_shape"] == [16, 16, 1]
    assert description["preprocessing"]["image_shape"] == [64, 64, 1]  # where local features are compared
    assert description["calibration"]["attained_alpha"] == 6 / 31
    assert {
        "generator.weights.h5",
        "discriminator.weights.h5",
        "reference.weights.h5",
        "losses.png",
        "samples.png",
    } <= {path.name for path in out.iterdir()}
    assert description["calibration"]["method"] == "cross"
    assert len(description["calibration"]["scores"]) == 30
    assert "30 normal images, each held out in turn" in result.output


def test_test_writes_metrics_and_regions(trained_run, tmp_path):
    result = run("test", trained_run[0], "--out", tmp_path)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n"] == 10
    assert metrics["pixel_auroc"] is not None
    assert metrics["threshold_method"] == "conformal"
    assert (tmp_path / "search_path.png").exists()
    assert "auroc" in result.output
    for found in json.loads((tmp_path / "regions.json").read_text()).values():
        assert max(found[0]["box"]) < 40


def test_test_takes_another_source_and_a_labelled_threshold(trained_run, parts, tmp_path):
    result = run("test", trained_run[0], parts / "test", "--out", tmp_path, "--threshold", "f1", *UNDRAWN)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["n"], metrics["threshold_method"]) == (10, "f1")


def test_score_judges_files_and_folders_and_skips_what_it_cannot_read(trained_run, parts, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("a", "b"):
        (mixed / f"{name}.png").write_bytes((parts / "test" / "good" / "000.png").read_bytes())
    (mixed / "broken.png").write_bytes(b"")
    (mixed / "cut.png").write_bytes((mixed / "a.png").read_bytes()[:300])
    out = tmp_path / "out"
    result = run("score", trained_run[0], mixed, parts / "test" / "scratch" / "001.png", "--out", out, "--profile")
    assert result.exit_code == 0, result.output
    with open(out / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"].rsplit("/", 1)[1] for row in rows] == ["a.png", "b.png", "001.png", "broken.png", "cut.png"]
    assert rows[0]["anomaly_score"] == rows[1]["anomaly_score"]
    for row in rows[3:]:
        assert (row["anomaly_score"], "not a readable image" in row["error"]) == ("", True)
    assert "Skipped" in result.output
    assert "of 3 images look anomalous" in result.output
    assert (out / "index.html").exists()
    stages = re.findall(r"^(.+?) +\d+\.\d +\d+\.\d$", result.stderr, re.MULTILINE)
    assert stages == ["Starting", "Scoring", "Reading", "Writing", "Drawing", "everything else", "total"]


def test_only_what_is_new_or_changed_is_scored_again(trained_run, parts, tmp_path, monkeypatch):
    pictures, scored = tmp_path / "pictures", []
    shutil.copytree(parts / "test" / "good", pictures)
    (pictures / "broken.png").write_bytes(b"nothing")

    def score(out, *options):
        scored.clear()
        result = run("score", trained_run[0], pictures, "--out", tmp_path / out, "--pictures", "2", *options)
        assert result.exit_code == 0, result.output
        with open(tmp_path / out / "scores.csv", newline="") as file:
            return {row.pop("id"): row for row in csv.DictReader(file)}, result.output

    def watched(*arguments):
        for results, regions in judged_chunks(*arguments):
            scored.extend(Path(result["id"]).name for result in results)
            yield results, regions

    judged_chunks = judging.judged_chunks
    monkeypatch.setattr(judging, "judged_chunks", watched)
    first, _ = score("kept")
    n = len(first) - 1
    assert len(scored) == n
    again, told = score("kept")
    assert (again, scored) == (first, [])
    assert f"{n} of {n + 1} images were judged before, and did not change." in told
    shutil.copy(parts / "test" / "scratch" / "000.png", pictures / "new.png")
    shutil.copy(parts / "test" / "scratch" / "001.png", pictures / "000.png")
    rows, _ = score("kept")
    assert sorted(scored) == ["000.png", "new.png"]
    fresh, _ = score("fresh")
    drawn = ("residual", "discrimination")  # of those that were drawn
    assert {name: {**row, **dict.fromkeys(drawn)} for name, row in rows.items()} == {
        name: {**row, **dict.fromkeys(drawn)} for name, row in fresh.items()
    }
    regions = [json.loads((tmp_path / out / "regions.json").read_text()) for out in ("kept", "fresh")]
    assert regions[0] == regions[1]
    score("kept", "--alpha", "0.3")
    assert len(scored) == n + 1
    (pictures / "new.png").unlink()
    _, told = score("kept", "--alpha", "0.3")
    assert scored == []
    assert "kept holds results of 1 other images: these replace them." in told


def test_maps_are_made_once_for_decisions_and_drawings(trained_run, parts, tmp_path, monkeypatch):
    made, decide = [], agt.LocalNeighbours._decide
    monkeypatch.setattr(
        agt.LocalNeighbours, "_decide", lambda self, images: made.append(len(images)) or decide(self, images)
    )
    files = sorted((parts / "test" / "scratch").iterdir())

    def score(out):
        made.clear()
        result = run("score", trained_run[0], *files, "--out", tmp_path / out, "--pictures", "3", "--masks")
        assert result.exit_code == 0, result.output
        written = {path.name: path.read_bytes() for path in (tmp_path / out).iterdir() if path.is_file()}
        written["files.txt"] = sorted(written["files.txt"].splitlines())  # which are listed as they are written
        return {
            name: content for name, content in written.items() if not name.startswith(("metrics", "index", "stamps"))
        }

    once = score("once")
    assert sum(made) == len(files)
    monkeypatch.setattr(judging, "KEPT", 45_000)  # bytes, of two maps of 64×64 pixels with their masks
    assert score("some") == once
    assert sum(made) == len(files) + 1
    monkeypatch.setattr(judging, "KEPT", 0)
    assert score("none") == once
    assert sum(made) == len(files) + 3


def test_command_line_and_library_give_the_same_scores(trained_run, parts, tmp_path):
    run("score", trained_run[0], parts / "test" / "scratch", "--out", tmp_path, *UNDRAWN)
    with open(tmp_path / "scores.csv", newline="") as file:
        written = [float(row["anomaly_score"]) for row in csv.DictReader(file)]
    splits = agt.data.load(parts, image_shape=(64, 64, 1), cache=False)
    scratches = splits.samples.part("test")
    scratches = scratches.take(scratches.classes == "scratch")
    images = np.stack([scratches.read(i, splits.preprocessing)[0] for i in range(5)])
    np.testing.assert_array_equal(agt.load_run(trained_run[0]).score(images)["anomaly_score"], np.float32(written))


def test_training_again_finds_it_done(trained_run, parts):
    out = trained_run[0]
    before = (out / "generator.weights.h5").stat().st_mtime_ns
    result = run("train", parts, "--out", out, "--size", "16", "--channels", "1", "--alpha", "0.2", *SMALL)
    assert "trained already" in result.output
    assert (out / "generator.weights.h5").stat().st_mtime_ns == before


def test_a_run_from_before_views_could_be_chosen_is_found_done(trained_run, parts, tmp_path):
    shutil.copytree(trained_run[0], tmp_path / "run")
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (told["settings"].pop("views"), told["settings"].pop("task_weight")) == (3, 1.0)
    (tmp_path / "run" / "run.json").write_text(json.dumps(told))
    size = ("--size", "16", "--channels", "1", "--alpha", "0.2")
    again = run("train", parts, "--out", tmp_path / "run", *size, *SMALL)
    assert "trained already" in again.output
    assert "views: 3 there, 4 now" in run("train", parts, "--out", tmp_path / "run", *size, *SMALL, "--views", 4).output


def test_other_settings_do_not_overwrite_a_run(trained_run, parts):
    out = trained_run[0]
    result = run("train", parts, "--out", out, "--size", "16", "--channels", "1", "--alpha", "0.1", *SMALL)
    assert result.exit_code == 1
    assert "alpha: 0.2 there, 0.1 now" in result.output
    assert f"No α needs a training: anogan-tf calibrate {out} --alpha 0.1" in result.output
    result = run(
        "train", parts, "--out", out, "--size", "16", "--channels", "1", "--alpha", "0.2", *SMALL, "--steps", "7"
    )
    assert f"--encoder-only {out} --out OTHER" in result.output
    result = run("train", parts, "--out", out, "--size", "8", "--channels", "1", "--alpha", "0.2", *SMALL)
    assert result.exit_code == 1
    assert "size: [16, 16] there, [8, 8] now" in result.output
    assert "--encoder-only" not in result.output


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_training_goes_on_and_says_how(tmp_path, monkeypatch):
    """Also with other settings of what had not begun: a mistyped --alpha costs nothing."""
    options = ["train", "digits", "--out", tmp_path / "run", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "calibrate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        result = run(*options, "--alpha", "0.5", "--score", "features")
    assert result.exit_code == 130
    assert "To go on" in result.output
    with pytest.raises(ValueError, match="has not finished"):
        agt.load_run(tmp_path / "run")
    refused = run(*options, "--width", "8", "--alpha", "0.3")
    assert refused.exit_code == 1
    assert "width: 4 there, 8 now" in refused.output
    assert "alpha" not in refused.output
    result = run(*options)
    assert result.exit_code == 0, result.output
    whole = run("train", "digits", "--out", tmp_path / "whole", *SMALL)
    assert whole.exit_code == 0
    a, b = (agt.load_run(tmp_path / name) for name in ("run", "whole"))
    assert a.calibration == b.calibration
    assert a.settings == b.settings


EVERYTHING = {
    **dict.fromkeys(("method", "start", "gan", "recipe", "width", "score_kind", "alpha", "mode", "encoder_only"), None),
    **{"method": "f-anogan", "start": "prior", "width": 4, "alpha": 0.05, "mode": "izi"},
}


@pytest.mark.parametrize(
    ("checkpoints", "changed", "bound"),
    [
        ([], {"width": 8}, False),
        (["checkpoint"], {"width": 8}, True),
        (["checkpoint"], {"recipe": "parts", "alpha": 0.1, "score_kind": "paper", "mode": "ziz"}, False),
        (["checkpoint"], {"method": "anogan"}, True),  # its GAN is another one
        (["checkpoint"], {"method": "anogan", "gan": "wgan-gp"}, False),
        (["checkpoint"], {"gan": "wgan-gp"}, False),  # as the method has it
        (["checkpoint", "encoder-checkpoint"], {"alpha": 0.1}, False),
        (["checkpoint", "encoder-checkpoint"], {"mode": "ziz"}, True),
        (["checkpoint", "encoder-checkpoint"], {"method": "anogan", "gan": "wgan-gp", "mode": "ziz"}, False),
        (["encoder-checkpoint"], {"width": 8}, True),
        (["checkpoint"], {"encoder_only": "other", "width": 8}, False),
    ],
    ids=str,
)
def test_settings_of_what_has_begun_are_bound(checkpoints, changed, bound, tmp_path):
    for name in checkpoints:
        (tmp_path / f"{name}.weights.h5").write_text("")
    earlier = {"complete": False, "settings": EVERYTHING}
    if not bound:
        return settings.check_bound(tmp_path, earlier, EVERYTHING | changed)
    with pytest.raises(ValueError, match="other settings"):
        settings.check_bound(tmp_path, earlier, EVERYTHING | changed)
    return None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variational", "--prior", "uniform", "--method", "f-anogan"], "with a normal prior"),
        (["--score", "transformations", "--self-supervision", "none"], "without self_supervision"),
        (["--feature-weight", "5", "--score", "paper"], "feature_weight is from 0 to 1"),
        (["--score", "neighbours", "--patches"], "--score neighbours compares whole pictures"),
        (["--score", "featurs"], "featurs"),
        (["--scale", "0.5"], "scale is for patches"),
    ],
    ids=" ".join,
)
def test_what_does_not_fit_together_is_refused_before_training(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr("anogan_tf.commands.train._train", lambda *_: pytest.fail("the work began"))
    result = run("train", "digits", "--out", tmp_path / "run", *SMALL, *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_one_image_to_train_on_is_refused_before_training(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("anogan_tf.commands.train._train", lambda *_: pytest.fail("the work began"))
    (tmp_path / "two").mkdir()
    for name in ("000.png", "001.png"):
        shutil.copy(parts / "train" / "good" / name, tmp_path / "two" / name)
    result = run("train", tmp_path / "two", "--out", tmp_path / "run", "--size", "16", *SMALL)
    assert result.exit_code == 1
    assert "2 normal images to train on are the fewest" in result.output
    assert "has 1, besides 1 held out" in result.output


NUMBERS = ["--scale", "--learning-rate", "--kl-weight", "--encoder-rate", "--search-rate", "--feature-weight"]
COUNTS = ["--width", "--latent-dim", "--epochs", "--training-steps", "--batch-size", "--encoder-epochs", "--restarts"]


@pytest.mark.parametrize(
    ("option", "value"),
    [(name, value) for name in (*NUMBERS, "--overlap", "--alpha") for value in ("nan", "inf", "-1", "x")]
    + [(name, value) for name in (*COUNTS, "--chunk", "--bits") for value in ("0", "-1", "1.5")]
    + [("--alpha", "0"), ("--alpha", "1"), ("--overlap", "1"), ("--learning-rate", "0"), ("--search-rate", "0")]
    + [("--encoder-rate", "0"), ("--scale", "0"), ("--validation-fraction", "1"), ("--steps", "-1"), ("--bits", "17")]
    + [("--seed", "-1"), ("--size", "0"), ("--size", "8x0"), ("--crop", "0"), ("--crop", "x"), ("--group-by", "a(b")],
)
def test_numbers_out_of_range_are_refused_at_once(option, value):
    result = run("train", "no_such_source", "--out", "nowhere", option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_numbers_at_the_end_of_their_range_are_taken():
    names = ("--kl-weight", "--overlap", "--steps", "--validation-fraction", "--feature-weight", "--seed")
    taken = [word for name in names for word in (name, "0")]
    found = options.of_training(["x", "--out", "y", "--bits", "1", "--crop", "square", *taken])
    assert (found["bits"], found["crop"], found["kl_weight"], found["steps"]) == (1, "square", 0.0, 0)


def test_nothing_is_taken_for_zero():
    settings_ = dict.fromkeys(("epochs", "training_steps"), 0)
    assert train._epochs(settings_, "epochs", None) == 0


@pytest.mark.parametrize("value", ["nan", "inf", "f2", "0.5.1"])
def test_a_threshold_is_a_finite_number_or_a_name(value):
    result = run("test", "no_such_run", "--threshold", value)
    assert result.exit_code == 2
    assert "Invalid value for '--threshold'" in result.output


@pytest.mark.parametrize(
    "error", [zipfile.BadZipFile("no zip file"), re.error("bad"), tf.errors.InternalError(None, None, "GPU\nat 0x1")]
)
def test_errors_of_others_become_one_line(error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("anogan_tf.commands.score.run", fail)
    result = run("score", "run", ".")
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith(f"Error: {type(error).__name__}: ")
    assert "--debug" in line
    with pytest.raises(type(error)):
        run("--debug", "score", "run", ".")


def test_a_file_that_is_no_npz_is_one_line(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    result = run("train", tmp_path / "broken.npz", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("out", ["", "below", "far/below", "link"])
def test_nothing_is_written_among_the_images(trained_run, parts, tmp_path, out):
    own = tmp_path / "own"
    shutil.copytree(parts, own)
    (tmp_path / "link").symlink_to(own)
    out = tmp_path / "link" / "new" if out == "link" else own / out
    mine = {path: path.read_bytes() for path in own.rglob("*.png")}
    for command in (["train", own], ["test", trained_run[0], own], ["score", trained_run[0], own / "test", own]):
        result = run(*command, "--out", out)
        assert result.exit_code == 1
        assert "would lie among the images of" in result.output
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == mine


def test_own_pictures_are_never_replaced_by_results(trained_run, parts, tmp_path):
    for i in range(1, 4):
        shutil.copy(parts / "test" / "good" / f"00{i}.png", tmp_path / f"test_image_00{i}.png")
    mine = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for command in (["score", trained_run[0], parts / "test"], ["test", trained_run[0]], ["demo"]):
        result = run(*command, "--out", tmp_path)
        assert result.exit_code == 1
        assert "holds 3 files that no report wrote" in result.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == mine


def test_a_score_replaces_all_of_an_earlier_test(trained_run, parts, tmp_path):
    assert run("test", trained_run[0], "--out", tmp_path, "--pictures", "2").exit_code == 0
    assert (tmp_path / "search_path.png").exists()
    assert len(list(tmp_path.glob("test_image_*.png"))) == 2
    result = run("score", trained_run[0], parts / "test" / "good" / "000.png", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.glob("*.png")} == {"histogram.png", "test_image_001.png"}


@pytest.mark.usefixtures("undrawn")
def test_the_pattern_of_the_training_says_what_is_tested_and_scored(parts, tmp_path):
    """As where each part is photographed from two sides."""
    source = tmp_path / "source"
    for file in parts.glob("t*/*/*.png"):
        for side in ("front", "back"):
            (source / file.relative_to(parts).parent / side).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, source / file.relative_to(parts).parent / side / file.name)
    options = ["--size", "16", "--channels", "1", "--alpha", "0.2", "--pattern", "front/*.png"]
    result = run("train", source, "--out", tmp_path / "run", *options, *SMALL)
    assert result.exit_code == 0, result.output
    shutil.copytree(source, tmp_path / "copy")
    for n, arguments in {
        10: ["test", tmp_path / "run", tmp_path / "copy"],
        5: ["score", tmp_path / "run", source / "test" / "scratch"],
        20: ["score", tmp_path / "run", source / "test", "--pattern", "*.png"],
    }.items():
        result = run(*arguments, "--out", tmp_path / str(n), *UNDRAWN)
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / str(n) / "metrics.json").read_text())["n"] == n
        assert ("files named front/*.png" in result.output) == (n != 20)


@pytest.mark.usefixtures("undrawn")
def test_training_images_are_not_tested_on_wherever_they_lie(parts, tmp_path):
    """The good images of class folders, which another training would split otherwise."""
    classes = tmp_path / "classes"
    shutil.copytree(parts / "train" / "good", classes / "good")
    shutil.copytree(parts / "test" / "scratch", classes / "scratch")
    options = ["--normal", "good", "--size", "16", "--channels", "1", "--alpha", "0.5", *SMALL]
    result = run("train", classes, "--out", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    learned = sum(
        json.loads((tmp_path / "run/run.json").read_text())["images"][part] for part in ("train", "validation")
    )
    (tmp_path / "classes").rename(tmp_path / "moved")
    result = run("test", tmp_path / "run", tmp_path / "moved", "--out", tmp_path / "out", *UNDRAWN)
    assert result.exit_code == 0, result.output
    assert f"Left out {learned} of 35 images" in result.output
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["n"] == 35 - learned


def test_pictures_unlike_those_of_the_training_are_told(trained_run, parts, tmp_path):
    for name, level, side in (("like", 90, 40), ("dark", 10, 40), ("large", 90, 80)):
        pixels = np.random.default_rng(0).normal(level, 3, (side, side)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    for names, told in (
        (("like",), None),
        (("dark",), "brightness"),
        (("large",), "height 80"),
        (("like", "dark"), None),
    ):
        files = [tmp_path / f"{name}.png" for name in names]
        result = run("score", trained_run[0], *files, "--out", tmp_path / "out", *UNDRAWN)
        assert result.exit_code == 0, result.output
        assert ("Mind: All these images are unlike" in result.output) == (told is not None)
        assert told is None or f"on: {told}" in result.output
        mind = json.loads((tmp_path / "out" / "metrics.json").read_text())["mind"]
        diagnosis = json.loads((trained_run[0] / "run.json").read_text())["diagnosis"]
        assert mind[: len(diagnosis)] == diagnosis
        assert [f"Mind: {sentence}" in result.output for sentence in mind[len(diagnosis) :]] == [True] * bool(told)
        page = html.unescape((tmp_path / "out" / "index.html").read_text())
        assert all(f"<li>{sentence}</li>" in page for sentence in mind)


def test_changed_images_are_noticed(own_run, tmp_path, parts):
    copy = tmp_path / "copy"
    shutil.copytree(parts, copy)
    description = json.loads((own_run / "run.json").read_text())
    description["settings"]["source"] = str(copy)
    (own_run / "run.json").write_text(json.dumps(description))
    out = ["--out", tmp_path / "out", *UNDRAWN]
    assert run("test", own_run, *out).exit_code == 0
    (copy / "train" / "good" / "000.png").rename(copy / "train" / "good" / "900.png")
    result = run("test", own_run, *out)
    assert result.exit_code == 1
    assert "changed since" in result.output


@pytest.fixture(scope="module")
def plain_run(parts, tmp_path_factory):
    """A training on pictures of good parts alone, with a cache in a folder beside it: its folder and command."""
    folder = tmp_path_factory.mktemp("plain")
    given = ["--size", "16", "--alpha", "0.2", "--cache", "decoded"]
    command = ["train", parts / "train" / "good", "--out", "run", *given, *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_without_graphs(patch)
        result = run(*command)
    assert result.exit_code == 0, result.output
    return folder, command


def test_a_source_without_anomalies_cannot_be_tested_on(plain_run, tmp_path):
    result = run("test", plain_run[0] / "run", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "no anomalous images to test on" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no_such_set", "--out", "x"], "No such source: 'no_such_set'"),
        (["train", "digits", "--normal", "ten", "--out", "x"], "no images of the normal class 'ten'"),
        (["train", "digits", "--size", "big", "--out", "x"], "a side such as 64"),
        (["test", "."], "is no run"),
    ],
)
def test_errors_are_one_line_that_says_what_is_wrong(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


def test_unreadable_training_images_are_listed_before_training(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "copy")
    for name in ("003.png", "007.png"):
        (tmp_path / "copy" / "train" / "good" / name).write_bytes(b"no image")
    result = run("train", tmp_path / "copy", "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 1
    assert "003.png" in result.output
    assert "007.png" in result.output
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_trace(tmp_path):
    with pytest.raises(FileNotFoundError):
        run("--debug", "test", tmp_path)


def test_a_run_saved_from_python_scores_and_tests(parts, tmp_path, trained_run):
    scorer = agt.load_run(trained_run[0])
    scorer.info = {}  # as one that was made in Python
    agt.save_run(tmp_path / "run", scorer)
    out = ["--out", tmp_path / "out", *UNDRAWN]
    assert run("score", tmp_path / "run", parts / "test" / "good", *out).exit_code == 0
    assert run("test", tmp_path / "run", parts, *out).exit_code == 0
    result = run("test", tmp_path / "run", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "names no source" in result.output
    result = run("train", "digits", "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 1
    assert "other settings" in result.output


def test_size_or_channels_alone_leave_the_other_to_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_train_gan", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))  # the run has begun
    assert run("train", "digits", "--out", tmp_path / "run", "--size", "12", *SMALL).exit_code == 130
    assert json.loads((tmp_path / "run" / "run.json").read_text())["preprocessing"]["image_shape"] == [12, 12, 1]


def test_a_relative_cache_folder_means_the_same_when_it_exists(plain_run, monkeypatch):
    folder, command = plain_run
    monkeypatch.chdir(folder)
    assert (folder / "decoded").is_dir()
    assert "trained already" in run(*command).output
    given = {"source": str(command[1]), "cache": "decoded"}
    assert settings.settings_of_gan("run", given)["cache"] == str(folder / "decoded")


def test_only_unreadable_images_say_why(trained_run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = run("score", trained_run[0], tmp_path / "broken.png", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "broken.png" in result.output
    assert "no images to score" in result.output


@pytest.mark.parametrize("command", ["demo", "train", "test", "score"])
def test_an_output_folder_that_cannot_be_made_is_refused_before_the_work(
    command, trained_run, parts, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    for name in ("data.load", "commands.train.load_run", "commands.test.load_run", "commands.score.load_run"):
        monkeypatch.setattr(f"anogan_tf.{name}", lambda *_, **__: pytest.fail("the work began"))
    arguments = {"demo": [], "train": [parts], "test": [trained_run[0]], "score": [trained_run[0], parts]}[command]
    result = run(command, *arguments, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert result.output.startswith("Error: Cannot write into")
    assert len(result.output.splitlines()) == 1


def test_an_empty_folder_has_nothing_to_score(trained_run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("score", trained_run[0], tmp_path / "empty", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "No images" in result.output
    assert "empty" in result.output


def test_a_run_without_a_threshold_says_what_to_do(trained_run, parts, tmp_path):
    scorer = agt.load_run(trained_run[0])
    scorer.calibration = None
    agt.save_run(tmp_path / "run", scorer)
    for arguments in (["score", tmp_path / "run", parts / "test"], ["test", tmp_path / "run", parts]):
        result = run(*arguments, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert "No threshold yet: call calibrate" in result.output
    tested = run("test", tmp_path / "run", parts, "--threshold", "f1", "--out", tmp_path / "out", *UNDRAWN)
    assert tested.exit_code == 0


@pytest.mark.parametrize("kept", ["good", "scratch"])
def test_a_test_set_of_one_class_leaves_figures_undefined(trained_run, parts, tmp_path, kept):
    shutil.copytree(parts, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "test" / {"good": "scratch", "scratch": "good"}[kept])
    result = run("test", trained_run[0], tmp_path / "parts", "--out", tmp_path / "out", *UNDRAWN)
    assert result.exit_code == 0, result.output
    assert re.search(r"auroc +undefined", result.output)
    assert re.search(r"accuracy +[01]", result.output)


def test_a_small_network_judges_a_large_photograph_in_its_own_pixels(trained_run, tmp_path):
    pixels = np.random.default_rng(0).normal(90, 5, (3000, 4000)).clip(0, 255).astype(np.uint8)
    pixels[600:1200, 2800:3600] = 250
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    result = run("score", trained_run[0], tmp_path / "photo.png", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    anomaly_map = np.asarray(Image.open(tmp_path / "out" / "anomaly_map_001.tiff"))
    assert anomaly_map.shape == (3000, 4000)
    threshold = json.loads((tmp_path / "out" / "metrics.json").read_text())["pixel_threshold"]
    (found,) = json.loads((tmp_path / "out" / "regions.json").read_text()).values()
    assert sum(region["area"] for region in found) == np.sum(anomaly_map > threshold)
    inside = anomaly_map[600:1200, 2800:3600]
    assert inside.mean() > anomaly_map[:, :2000].mean() + 1.0
    assert inside.max() > 0.97 * found[0]["peak"]


def test_every_option_and_command_has_a_place_in_help():
    known = {name for names in options.SECTIONS.values() for name in names}
    assert known == {p.name for c in main.commands.values() for p in c.params if isinstance(p, click.Option)}
    assert {name for names in cli.SECTIONS.values() for name in names} == set(main.commands)


def test_help_lists_every_option_once_the_common_ones_first():
    for name, command in main.commands.items():
        text = run(name, "--help").output
        for option in command.params:
            if isinstance(option, click.Option):
                assert len(re.findall(rf"^  {option.opts[0]}\b", text, re.MULTILINE)) == 1, (name, option.name)
    text = run("train", "--help").output
    assert text.index("Most used:") < text.index("--alpha") < text.index("Data:") < text.index("--bits")


def test_without_a_command_the_first_three_are_shown():
    result = run()
    assert result.exit_code == 0
    assert re.findall(r"^  anogan-tf (\w+)", result.output, re.MULTILINE) == ["demo", "train", "score"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell):
    assert "_ANOGAN_TF_COMPLETE" in run("completion", shell).output


def test_completion_knows_commands_and_options():
    context = {"env": {"_ANOGAN_TF_COMPLETE": "bash_complete", "COMP_CWORD": "2", "COMP_WORDS": "anogan-tf train --al"}}
    assert CliRunner().invoke(main, [], prog_name="anogan-tf", **context).output == "plain,--alpha\n"


def test_programs_get_json_and_people_what_is_said(trained_run, parts, tmp_path):
    scored = run("score", trained_run[0], parts / "test" / "good", "--out", tmp_path / "a", *UNDRAWN, "--json")
    assert "images look anomalous" in scored.stderr
    told = json.loads(scored.stdout)
    with open(tmp_path / "a" / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], str(row["anomaly_score"])) for row in told["results"]] == [
        (row["id"], row["anomaly_score"]) for row in rows
    ]
    assert told["threshold"] == json.loads(run("info", trained_run[0], "--json").stdout)["calibration"]["threshold"]


def test_the_documentation_has_the_options_that_the_commands_have():
    text = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
    options = {name for command in main.commands.values() for option in command.params for name in option.opts}
    ours = {name for name in options if name.startswith("--")} | {"--debug", "--help"}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) == ours
    assert set(re.findall(r"^\| `anogan-tf (\w+)", text, re.MULTILINE)) == set(main.commands)


@pytest.fixture
def own_run(trained_run, tmp_path):
    """A copy of the trained run, which may be changed."""
    return Path(shutil.copytree(trained_run[0], tmp_path / "own"))


def test_more_good_images_calibrate_a_run_once(own_run, parts, tmp_path):
    good = parts / "test" / "good"
    before = agt.load_run(own_run)
    preprocessing = agt.runs.preprocessing_of(agt.runs.read_run(own_run))
    images = list(agt.data.read_files(sorted(good.iterdir()), preprocessing, 8, []))
    scores = before.score(images, draw=False)["anomaly_score"].tolist()
    result = run("calibrate", own_run, good, parts / "train" / "good" / "000.png", "--alpha", "0.1")
    assert result.exit_code == 0, result.output
    assert "Left out 1 of 6 images" in result.output
    after = agt.load_run(own_run)
    np.testing.assert_allclose(after.calibration.scores, sorted([*before.calibration.scores, *scores]), rtol=1e-5)
    assert len(after.calibration.peaks) == 35
    assert (after.calibration.alpha, after.calibration.method) == (0.1, "cross")
    for name, array in before.reference.arrays.items():
        np.testing.assert_array_equal(after.reference.arrays[name], array)
    again = run("calibrate", own_run, good)
    assert again.exit_code == 1
    assert "There are no new images" in again.output
    tested = run("test", own_run, parts / "test", "--out", tmp_path / "out", *UNDRAWN)
    assert "Left out 5 of 10 images" in tested.output


def test_what_is_not_good_does_not_calibrate(own_run, parts, tmp_path):
    description = (own_run / "run.json").read_bytes()
    for folder, message in (
        (parts, "5 of 40, such as test/scratch/000.png"),
        (parts / "test", "5 of 10, such as scratch/000.png"),
        (parts / "test" / "scratch", "5 of 5 images to be added exceed the threshold"),
    ):
        result = run("calibrate", own_run, folder)
        assert result.exit_code == 1
        assert message in result.output
    assert (own_run / "run.json").read_bytes() == description
    result = run("calibrate", own_run, parts / "test" / "scratch", "--out", tmp_path / "all")
    assert result.exit_code == 0, result.output
    assert "Mind: 5 of 5 images to be added exceed the threshold" in result.output
    assert len(agt.load_run(tmp_path / "all").calibration.scores) == 35


def test_another_rate_is_set_without_images(own_run):
    before = agt.load_run(own_run).calibration
    result = run("calibrate", own_run, "--alpha", "0.2")
    assert result.exit_code == 0, result.output
    assert agt.load_run(own_run).calibration == before.at(0.2)
    for nothing in ([], ["--alpha", "0.1", "--learn", "--out", own_run.parent / "new"]):
        refused = run("calibrate", own_run, *nothing)
        assert refused.exit_code == 1
        assert "Name good images to add" in refused.output


def test_a_broken_off_calibration_leaves_the_run_as_it_was(own_run, parts, monkeypatch):
    before, description = agt.load_run(own_run), (own_run / "run.json").read_bytes()

    def broken(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("anogan_tf.runs.report.write_json", broken)
    result = run("calibrate", own_run, parts / "test" / "good")
    assert result.exit_code == 1
    assert (own_run / "run.json").read_bytes() == description
    assert agt.load_run(own_run).calibration == before.calibration


def test_learned_images_are_remembered_in_another_run(own_run, parts, tmp_path):
    description = (own_run / "run.json").read_bytes()
    result = run("calibrate", own_run, parts / "test" / "good", "--learn")
    assert result.exit_code == 1
    assert "name its folder with --out" in result.output
    result = run("calibrate", own_run, parts / "test" / "good", "--learn", "--out", tmp_path / "more")
    assert result.exit_code == 0, result.output
    more = agt.load_run(tmp_path / "more")
    assert len(more.calibration.scores) == 35
    assert more.calibration.alpha == 0.2
    assert (own_run / "run.json").read_bytes() == description
    preprocessing = agt.runs.preprocessing_of(agt.runs.read_run(own_run))
    images = list(agt.data.read_files(sorted((parts / "test" / "good").iterdir()), preprocessing, 8, []))
    known, new = (scorer.score(images, draw=False)["anomaly_map"].max() for scorer in (more, agt.load_run(own_run)))
    assert known < 0.1 < new
    with np.load(tmp_path / "more" / "images.npz") as seen:
        assert [len(seen[part]) for part in ("train", "validation")] == [24, 11]


def test_info_tells_what_a_run_is(trained_run):
    result = run("info", trained_run[0])
    assert result.exit_code == 0, result.output
    for line in (
        r"what decides +local features",
        r"networks +dcgan, 16×16×1, z of 6",
        r"pictures +64×64×1",
        r"images +10 test, 24 train, 6 validation",
        r"calibrated with +30 good images, each held out in turn",
        r"suspicious above +[\d.]+; α = 0.2, attained 0.194",
        r"anomalous above +[\d.]+; α = 0.04, attained 0.0323",
        r"< threshold",
    ):
        assert re.search(line, result.output), line
    bars = re.findall(r"^ +\S+ #* +(\d+)", result.output, re.MULTILINE)
    assert sum(map(int, bars)) == 30


def test_info_tells_what_part_each_kind_of_a_blend_has(images, tmp_path):
    scorer = agt.AnoGAN(small_gan(self_supervision="rotation"), score="tasks+density", steps=0, chunk=8)
    scorer.fit_reference(images[:20])
    scorer.calibrate(images[20:], alpha=0.2)
    agt.save_run(tmp_path, scorer)
    of_each = ", ".join(f"{name} {part:.0%}" for name, part in scorer.reference.parts.items())
    assert f"score 'tasks+density' ({of_each})" in run("info", tmp_path).output


def test_info_of_a_training_that_has_not_finished_says_so(own_run):
    description = json.loads((own_run / "run.json").read_text())
    begun = {name: description[name] for name in ("format", "versions", "method", "settings")} | {"complete": False}
    (own_run / "run.json").write_text(json.dumps(begun))
    result = run("info", own_run)
    assert result.exit_code == 1
    assert "has not finished: run the same `anogan-tf train` command again" in result.output


def test_a_test_takes_the_names_of_its_own_classes(trained_run, parts, tmp_path):
    for name, label in (("good", "oak"), ("scratch", "ash")):
        shutil.copytree(parts / "test" / name, tmp_path / "classes" / label)
    refused = run("test", trained_run[0], tmp_path / "classes", "--out", tmp_path / "out")
    assert "Name the normal class with normal= (--normal)" in refused.output
    tested = run("test", trained_run[0], tmp_path / "classes", "--normal", "oak", "--out", tmp_path / "out", *UNDRAWN)
    assert tested.exit_code == 0, tested.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["n"], metrics["auroc"]) == (10, 1.0)


def test_pictures_that_nearly_all_look_anomalous_are_told(trained_run, parts, tmp_path):
    for n in range(2):
        shutil.copytree(parts / "test" / "scratch", tmp_path / "new" / str(n))
    result = run("score", trained_run[0], tmp_path / "new", "--out", tmp_path / "out", *UNDRAWN)
    assert "Mind: 10 of 10 images look anomalous. If most of them are good, they differ as a whole" in result.output
    assert "If most of them are good" in (tmp_path / "out" / "index.html").read_text()
    few = run("score", trained_run[0], tmp_path / "new" / "0", "--out", tmp_path / "few", *UNDRAWN)
    assert "If most of them are good" not in few.output


def test_a_reader_that_has_seen_enough_is_no_error(trained_run, monkeypatch):
    def closed(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("anogan_tf.commands.info.run", closed)
    result = CliRunner().invoke(main, ["info", str(trained_run[0])])
    assert result.exit_code == 1
    assert "Broken pipe" not in result.output


def test_a_score_takes_another_rate_or_threshold_and_writes_masks(trained_run, parts, tmp_path):
    def rows(*arguments):
        result = run("score", trained_run[0], parts / "test", "--out", tmp_path / "out", *arguments)
        assert result.exit_code == 0, result.output
        with open(tmp_path / "out" / "scores.csv", newline="") as file:
            return list(csv.DictReader(file))

    assert {row["prediction"] for row in rows("--threshold", "-100", *UNDRAWN)} == {"1"}
    calibration = agt.load_run(trained_run[0]).calibration
    thresholds = calibration.at(0.5).threshold, calibration.at(0.5).strict[0]
    for row in rows("--alpha", "0.5", *UNDRAWN):
        above = sum(float(row["anomaly_score"]) > threshold for threshold in thresholds)
        assert row["decision"] == ("normal", "suspicious", "anomalous")[above]
        assert row["prediction"] == str(int(above > 0))
    assert list(row)[-1] == "error"
    regions = json.loads((tmp_path / "out" / "regions.json").read_text())
    judged = rows("--masks")
    found = {row["id"] for row in judged if row["prediction"] == "1"}
    assert found
    assert found <= set(regions)
    number = 1 + [row["decision"] for row in judged].index("anomalous")
    mask = np.asarray(Image.open(tmp_path / "out" / f"mask_{number:03d}.png"))
    assert set(np.unique(mask)) == {0, 255}
    both = run("score", trained_run[0], parts / "test", "--out", tmp_path / "no", "--alpha", "0.5", "--threshold", "1")
    assert both.exit_code == 1
    assert "--alpha or --threshold, not both" in both.output


def scoring_weights(folder):
    """The weights that a finished run scores with, by file and name."""
    weights = {}
    for file in sorted(folder.glob("*.weights.h5")):
        if "checkpoint" not in file.name:
            with h5py.File(file) as content:
                content.visititems(
                    lambda name, item, file=file: (
                        weights.update({(file.name, name): item[()]}) if isinstance(item, h5py.Dataset) else None
                    )
                )
    return weights


@pytest.mark.slow
@pytest.mark.usefixtures("one_critic_step", "undrawn")
def test_f_anogan_interrupted_in_both_phases_ends_as_if_it_was_not(parts, tmp_path, monkeypatch):
    options = ["--size", "16", "--channels", "1", "--alpha", "0.2"]
    command = ["--method", "f-anogan", *options, *SMALL, "--epochs", "2", "--encoder-epochs", "2"]
    unbroken = run("train", parts, "--out", tmp_path / "unbroken", *command)
    assert unbroken.exit_code == 0, unbroken.output
    on_epoch_end = Progress.on_epoch_end

    def interrupt(self, epoch, logs=None):
        if epoch == 0:
            raise KeyboardInterrupt
        on_epoch_end(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_epoch_end", interrupt)
        for phase in ("wgan_gp", "fanogan"):
            broken = run("train", parts, "--out", tmp_path / "broken", *command)
            assert broken.exit_code == 130
            assert f"Training {phase}" in broken.output
    resumed = run("train", parts, "--out", tmp_path / "broken", *command)
    assert resumed.exit_code == 0, resumed.output
    expected, found = (scoring_weights(tmp_path / name) for name in ("unbroken", "broken"))
    assert expected.keys() == found.keys()
    files = {file.removesuffix(".weights.h5") for file, _ in expected}
    assert files == {"generator", "discriminator", "encoder", "reference"}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_another_encoder_is_trained_for_the_gan_of_a_run(trained_run, tmp_path):
    options = ["--method", "f-anogan", "--mode", "izi", "--variational", "--encoder-epochs", "1", "--alpha", "0.2"]
    result = run("train", "--encoder-only", trained_run[0], "--out", tmp_path / "izi", *options)
    assert result.exit_code == 0, result.output
    assert "Training dcgan" not in result.output
    earlier, scorer = (agt.load_run(path).scorer for path in (trained_run[0], tmp_path / "izi"))
    assert (type(scorer).__name__, scorer.mode, scorer.variational) == ("FAnoGAN", "izi", True)
    np.testing.assert_array_equal(scorer.gan.generate(2), earlier.gan.generate(2))
    tested = run("test", tmp_path / "izi", "--out", tmp_path / "results", "--pictures", "1")
    assert tested.exit_code == 0, tested.output
    assert not (tmp_path / "results" / "search_path.png").exists()


def test_the_gan_of_a_run_keeps_its_data_and_settings(trained_run, parts, tmp_path):
    other = run("train", parts, "--encoder-only", trained_run[0], "--out", tmp_path / "other", "--size", "32")
    assert other.exit_code == 1
    assert "Received: {'size': [32, 32]}" in other.output
    nothing = run("train", "--out", tmp_path / "nothing")
    assert nothing.exit_code == 2
    assert "Missing argument 'SOURCE'" in nothing.output


def test_an_encoder_may_stand_for_a_search(trained_run, tmp_path):
    options = ["--start", "encoder", "--encoder-epochs", "1", "--steps", "0", "--alpha", "0.2"]
    result = run("train", "--encoder-only", trained_run[0], "--out", tmp_path / "hybrid", *options)
    assert result.exit_code == 0, result.output
    scorer = agt.load_run(tmp_path / "hybrid").scorer
    assert type(scorer).__name__ == "AnoGAN"
    assert scorer.encoder is not None
    tested = run("test", tmp_path / "hybrid", "--out", tmp_path / "results", "--pictures", "1")
    assert tested.exit_code == 0, tested.output
    assert not [name for name in ("search_path.png", "mapping_loss.png") if (tmp_path / "results" / name).exists()]


@pytest.mark.usefixtures("one_critic_step", "undrawn")
@pytest.mark.parametrize("method", ["anogan", pytest.param("f-anogan", marks=pytest.mark.slow)])
def test_large_pictures_are_trained_on_and_scored_in_patches(method, parts, tmp_path):
    options = ["--patches", "--size", "16", "--channels", "1", "--encoder-epochs", "1", "--alpha", "0.2"]
    result = run("train", parts, "--out", tmp_path / "run", "--method", method, *options, *SMALL)
    assert result.exit_code == 0, result.output
    tested = run("test", tmp_path / "run", "--out", tmp_path / "tested", "--pictures", "1")
    assert tested.exit_code == 0, tested.output
    assert json.loads((tmp_path / "tested" / "metrics.json").read_text())["pixel_auroc"] is not None
    scored = run("score", tmp_path / "run", parts / "test" / "scratch", "--out", tmp_path / "scored", "--pictures", "1")
    assert scored.exit_code == 0, scored.output
    with open(tmp_path / "scored" / "scores.csv", newline="") as file:
        scores = [float(row["anomaly_score"]) for row in csv.DictReader(file)]
    with open(tmp_path / "tested" / "scores.csv", newline="") as file:
        assert scores == [float(row["anomaly_score"]) for row in csv.DictReader(file) if "scratch" in row["id"]]
    (drawn,) = (tmp_path / "scored").glob("anomaly_map_*.tiff")
    with Image.open(drawn) as anomaly_map:
        assert anomaly_map.size == (40, 40)


@pytest.mark.parametrize(("source", "recipe"), [("parts", "parts"), ("list.csv", "parts"), ("mnist", "photos")])
def test_files_in_a_folder_or_in_a_list_have_one_recipe(source, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parts").mkdir()
    assert (
        settings.with_recipe(options.of_training([source, "--out", "run"]), image_shape=(64, 64, 3))["recipe"] == recipe
    )


@pytest.mark.parametrize(
    ("recipe", "sides", "width"),
    [
        ("parts", (64, 64), 24),
        ("parts", (46, 90), 24),
        ("parts", (128, 128), 12),
        ("parts", (256, 200), 6),
        ("photos", (128, 128), 48),
    ],
)
def test_networks_of_larger_parts_are_narrower(recipe, sides, width, parts):
    given = options.of_training([str(parts), "--out", "run", "--recipe", recipe])
    assert settings.with_recipe(given, image_shape=(*sides, 3))["width"] == width
    assert settings.with_recipe(given | {"width": 24}, image_shape=(*sides, 3))["width"] == 24


@pytest.mark.parametrize(("gan", "rate"), [("dcgan", 3e-4), ("wgan-gp", None)])
def test_the_rate_of_a_recipe_is_for_a_dcgan(gan, rate, parts):
    given = options.of_training([str(parts), "--out", "run", "--recipe", "parts", "--gan", gan])
    assert settings.with_recipe(given, image_shape=(64, 64, 3))["learning_rate"] == rate


def test_a_high_quality_trains_three_times_the_steps_of_the_recipe(parts):
    given = ["x", "--out", "run", "--recipe", "photos"]
    standard, high = (
        settings.with_recipe(options.of_training([*given, "--quality", quality]), image_shape=(64, 64, 3))
        for quality in ("standard", "high")
    )
    assert high == standard | {"training_steps": 3 * standard["training_steps"]}
    both = options.of_training([*given, "--quality", "high", "--epochs", "4"])
    with pytest.raises(ValueError, match=r"--quality is of the recipe's steps\. Received: epochs=4 too"):
        settings.with_recipe(both, image_shape=(64, 64, 3))


@pytest.mark.parametrize(("recipe", "score"), [("photos", "density"), ("shapes", "features"), ("parts", "neighbours")])
def test_without_a_second_task_a_recipe_has_no_score_of_it(recipe, score):
    given = options.of_training(["x", "--out", "run", "--recipe", recipe, "--self-supervision", "none"])
    assert settings.with_recipe(given, image_shape=(64, 64, 3))["score_kind"] == score


def test_a_high_quality_is_not_for_the_gan_of_a_run(trained_run, tmp_path):
    result = run("train", "--encoder-only", trained_run[0], "--quality", "high", "--out", tmp_path / "other")
    assert result.exit_code == 1
    assert "--quality is of a GAN's training, and" in result.output


@pytest.mark.parametrize(
    ("options", "epochs"), [({}, 1), ({"epochs": 7}, 7), ({"mode": "izi_f"}, None), ({"start": "prior"}, None)]
)
def test_only_a_joint_training_has_one_epoch_of_the_gan_alone(options, epochs):
    """None for as many as make the recipe's steps."""
    given = dict.fromkeys(("score_kind", "gan", "self_supervision", "augment", "start", "mode", "epochs"))
    given |= {"recipe": "parts", "source": "x", "method": "anogan", "patches": False} | options
    assert settings.with_recipe(given, image_shape=(64, 64, 3))["epochs"] == epochs


@pytest.mark.parametrize(
    ("given", "z", "epochs"),
    [
        ([], ("principal-dcgan", "encoder", 0, "l2"), 2),
        (["--start", "prior"], ("dcgan", "prior", 50, None), 10),
        (["--method", "f-anogan"], ("dcgan", "prior", 50, None), 10),
        (["--encoder-epochs", "7", "--steps", "3"], ("principal-dcgan", "encoder", 3, "l2"), 7),
    ],
)
def test_shapes_are_drawn_by_an_encoder_that_is_trained_for_a_fifth_of_the_steps(given, z, epochs):
    given = options.of_training(["digits", "--training-steps", "100", *given, "--out", "run"])
    filled = settings.with_recipe(given, image_shape=(64, 64, 1))
    assert tuple(filled[name] for name in ("architecture", "start", "steps", "distance")) == z
    assert train._epochs(filled, "encoder_epochs", SimpleNamespace(train=range(10))) == epochs


@pytest.mark.parametrize(
    ("score", "weight"),
    [([], 0.0), (["--score", "paper"], None), (["--score", "paper", "--feature-weight", "0.3"], 0.3)],
)
def test_folders_are_searched_by_the_residual_alone_unless_a_of_x_decides(score, weight, tmp_path):
    given = options.of_training([str(tmp_path), *score, "--out", "run"])
    assert settings.with_recipe(given, image_shape=(64, 64, 3))["feature_weight"] == weight


@pytest.mark.parametrize(("size", "channels", "expected"), [(None, None, (64, 64, 3)), ((32, 48), "1", (32, 48, 1))])
def test_a_run_that_is_gone_on_with_keeps_its_shape(tmp_path, size, channels, expected):
    """Whatever a run of today would choose; what is asked for is taken, and compared with the run's own afterwards."""
    description = {"preprocessing": {"image_shape": [256, 256, 3]}, "settings": {"score_kind": "neighbours"}}
    begun = {"format": runs.FORMAT, "complete": False, "versions": report.versions(), **description}
    given = {"encoder_only": None, "size": size, "channels": channels}
    assert train._shape_of_earlier(tmp_path, given) is None
    report.write_json(tmp_path / "run.json", begun)
    assert train._shape_of_earlier(tmp_path, given) == expected
