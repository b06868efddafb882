import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import anogan_tf as agt
from anogan_tf import scoring
from anogan_tf.callbacks import Progress
from anogan_tf.commands import settings
from anogan_tf.commands.cli import main

SMALL = ["--epochs", "2", "--width", "4", "--latent-dim", "6", "--steps", "3", "--chunk", "8", "--batch-size", "8"]


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


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["test"], ["score"], ["benchmark"]], ids=str)
def test_help_answers_without_tensorflow(command):
    code = (
        "import sys; from anogan_tf.commands.cli import main\n"
        f"try: main({[*command, '--help']})\n"
        "finally: assert not {'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "Usage:" in answer.stdout


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
    assert description["calibration"]["attained_alpha"] == 0.2
    assert {
        "generator.weights.h5",
        "discriminator.weights.h5",
        "reference.weights.h5",
        "losses.png",
        "samples.png",
    } <= {path.name for path in out.iterdir()}
    assert "6 normal validation images" in result.output


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
        assert max(found[0]["box"]) <= 40


def test_test_takes_another_source_and_a_labelled_threshold(trained_run, parts, tmp_path):
    result = run("test", trained_run[0], parts / "test", "--out", tmp_path, "--threshold", "f1")
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
    result = run("score", trained_run[0], mixed, parts / "test" / "scratch" / "001.png", "--out", out)
    assert result.exit_code == 0, result.output
    with open(out / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"].rsplit("/", 1)[1] for row in rows] == ["a.png", "b.png", "001.png", "broken.png", "cut.png"]
    assert rows[0]["anomaly_score"] == rows[1]["anomaly_score"]
    for row in rows[3:]:
        assert (row["anomaly_score"], "not a readable image" in row["prediction"]) == ("", True)
    assert "Skipped" in result.output
    assert "of 3 images look anomalous" in result.output
    assert (out / "index.html").exists()


def test_command_line_and_library_give_the_same_scores(trained_run, parts, tmp_path):
    run("score", trained_run[0], parts / "test" / "scratch", "--out", tmp_path)
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


def test_other_settings_do_not_overwrite_a_run(trained_run, parts):
    out = trained_run[0]
    result = run("train", parts, "--out", out, "--size", "16", "--channels", "1", "--alpha", "0.1", *SMALL)
    assert result.exit_code == 1
    assert "alpha: 0.2 there, 0.1 now" in result.output


def test_an_interrupted_training_goes_on_and_says_how(tmp_path, monkeypatch):
    options = ["train", "digits", "--out", tmp_path / "run", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "calibrate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        result = run(*options)
    assert result.exit_code == 130
    assert "To go on" in result.output
    with pytest.raises(ValueError, match="has not finished"):
        agt.load_run(tmp_path / "run")
    result = run(*options)
    assert result.exit_code == 0, result.output
    whole = run("train", "digits", "--out", tmp_path / "whole", *SMALL)
    assert whole.exit_code == 0
    a, b = (agt.load_run(tmp_path / name) for name in ("run", "whole"))
    assert a.calibration == b.calibration


def test_changed_images_are_noticed(tmp_path, parts):
    copy = tmp_path / "copy"
    shutil.copytree(parts, copy)
    run("train", copy, "--out", tmp_path / "run", "--size", "16", "--channels", "1", "--alpha", "0.2", *SMALL)
    (copy / "train" / "good" / "000.png").rename(copy / "train" / "good" / "900.png")
    result = run("test", tmp_path / "run", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "changed since" in result.output


def test_a_source_without_anomalies_cannot_be_tested_on(tmp_path, parts):
    plain = parts / "train" / "good"
    run("train", plain, "--out", tmp_path / "run", "--size", "16", "--channels", "1", "--alpha", "0.2", *SMALL)
    result = run("test", tmp_path / "run", "--out", tmp_path / "out")
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
    agt.save_run(tmp_path / "run", agt.load_run(trained_run[0]))
    assert run("score", tmp_path / "run", parts / "test" / "good", "--out", tmp_path / "out").exit_code == 0
    assert run("test", tmp_path / "run", parts, "--out", tmp_path / "out").exit_code == 0
    result = run("test", tmp_path / "run", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "names no source" in result.output
    result = run("train", "digits", "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 1
    assert "other settings" in result.output


def test_size_or_channels_alone_leave_the_other_to_the_source(tmp_path):
    run("train", "digits", "--out", tmp_path / "run", "--size", "12", *SMALL)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["preprocessing"]["image_shape"] == [12, 12, 1]


def test_a_relative_cache_folder_means_the_same_when_it_exists(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["train", parts, "--out", "run", "--size", "16", "--alpha", "0.2", "--cache", "decoded", *SMALL]
    assert run(*options).exit_code == 0
    assert (tmp_path / "decoded").is_dir()
    assert "trained already" in run(*options).output
    given = {"source": str(parts), "cache": "decoded"}
    assert settings.settings_of_gan("run", given)["cache"] == str(tmp_path / "decoded")


def test_a_run_does_not_lie_among_its_images(parts):
    result = run("train", parts, "--out", parts, *SMALL)
    assert result.exit_code == 1
    assert "among its own images" in result.output


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
    assert run("test", tmp_path / "run", parts, "--threshold", "f1", "--out", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("kept", ["good", "scratch"])
def test_a_test_set_of_one_class_leaves_figures_undefined(trained_run, parts, tmp_path, kept):
    shutil.copytree(parts, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "test" / {"good": "scratch", "scratch": "good"}[kept])
    result = run("test", trained_run[0], tmp_path / "parts", "--out", tmp_path / "out")
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
    row, column = found[0]["peak_at"]
    assert 500 < row < 1300
    assert 2700 < column < 3700


def test_the_documentation_has_the_options_that_the_commands_have():
    text = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
    options = {name for command in main.commands.values() for option in command.params for name in option.opts}
    ours = {name for name in options if name.startswith("--")} | {"--debug", "--help"}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) == ours
    assert set(re.findall(r"^\| `anogan-tf (\w+)", text, re.MULTILINE)) == set(main.commands)


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


def test_f_anogan_interrupted_in_both_phases_ends_as_if_it_was_not(parts, tmp_path, monkeypatch):
    options = ["--size", "16", "--channels", "1", "--alpha", "0.2"]
    command = ["--method", "f-anogan", "--encoder-epochs", "2", *options, *SMALL]
    unbroken = run("train", parts, "--out", tmp_path / "unbroken", *command)
    assert unbroken.exit_code == 0, unbroken.output
    on_epoch_end = Progress.on_epoch_end

    def interrupt(self, epoch, logs=None):
        if epoch == 0:
            raise KeyboardInterrupt
        on_epoch_end(self, epoch, logs)

    monkeypatch.setattr(Progress, "on_epoch_end", interrupt)
    for phase in ("wgan_gp", "fanogan"):
        broken = run("train", parts, "--out", tmp_path / "broken", *command)
        assert broken.exit_code == 130
        assert f"Training {phase}" in broken.output
    monkeypatch.undo()
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
    tested = run("test", tmp_path / "izi", "--out", tmp_path / "results")
    assert tested.exit_code == 0, tested.output
    assert not (tmp_path / "results" / "search_path.png").exists()


def test_the_gan_of_a_run_keeps_its_data_and_settings(trained_run, parts, tmp_path):
    other = run("train", parts, "--encoder-only", trained_run[0], "--out", tmp_path / "other", "--size", "32")
    assert other.exit_code == 1
    assert "Received: {'size': [32, 32]}" in other.output
    nothing = run("train", "--out", tmp_path / "nothing")
    assert nothing.exit_code == 2
    assert "Missing argument 'SOURCE'" in nothing.output


def test_a_search_may_start_at_an_encoder(trained_run, tmp_path):
    options = ["--start", "encoder", "--encoder-epochs", "1", "--steps", "2", "--alpha", "0.2"]
    result = run("train", "--encoder-only", trained_run[0], "--out", tmp_path / "hybrid", *options)
    assert result.exit_code == 0, result.output
    scorer = agt.load_run(tmp_path / "hybrid").scorer
    assert type(scorer).__name__ == "AnoGAN"
    assert scorer.encoder is not None


@pytest.mark.parametrize("method", ["anogan", "f-anogan"])
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


@pytest.mark.parametrize(("gan", "rate"), [("dcgan", 2e-3), ("wgan-gp", None)])
def test_the_rate_of_a_recipe_is_for_a_dcgan(gan, rate, parts, tmp_path):
    options = ("--recipe", "photos", "--gan", gan, "--size", "16", "--alpha", "0.2")
    assert run("train", parts, "--out", tmp_path, *options, *SMALL, "--epochs", "1").exit_code == 0
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["learning_rate"] == rate
