import json
import shutil
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import anogan_tf as agt
from anogan_tf import formats, published
from anogan_tf.commands.cli import main


@pytest.fixture(scope="module")
def sealed(trained, digits, tmp_path_factory):
    """A folder of published runs with one in it, `tiny`."""
    folder = tmp_path_factory.mktemp("sealed")
    anogan = agt.AnoGAN(trained, steps=2, chunk=8)
    anogan.fit_reference(digits.reference)
    anogan.calibrate(digits.validation)
    agt.save_run(folder / "tiny", anogan)
    published.seal(folder / "tiny")
    return folder


@pytest.fixture
def shelf(sealed, tmp_path, monkeypatch):
    """A copy of the folder of published runs, named by the environment; and another folder to stand in."""
    shutil.copytree(sealed, tmp_path / "shelf")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("ANOGAN_TF_WEIGHTS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_published_run_is_found_by_name(shelf, digits):
    images = next(iter(digits.test))["image"]
    by_name, by_path = (agt.load_run(path).score(images) for path in ("tiny", shelf / "tiny"))
    np.testing.assert_array_equal(by_name["anomaly_score"], by_path["anomaly_score"])
    assert published.names() == ["tiny"]


def test_the_command_line_takes_the_name_of_a_published_run(shelf):
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save("image.png")
    scored = run("score", "tiny", "image.png", "--out", "scored")
    assert scored.exit_code == 0, scored.output
    tested = run("test", "tiny", "digits", "--pictures", 1, "--out", "tested")
    assert tested.exit_code == 0, tested.output
    assert "auroc" in tested.output


def test_the_exports_of_all_published_runs_are_told():
    told = (published.CLONE / "README.md").read_text()
    for name in published.names():
        for format in formats.FORMATS:
            assert f"\n| {name} | {format} | " in told


@pytest.mark.parametrize("is_run", [True, False])
def test_a_local_folder_has_precedence_if_it_is_a_run(shelf, is_run, tmp_path):
    (tmp_path / "elsewhere" / "tiny").mkdir()
    if is_run:
        shutil.copy(shelf / "tiny" / "run.json", "tiny")
    assert published.find("tiny").resolve() == (tmp_path / "elsewhere" if is_run else shelf) / "tiny"


def test_an_unknown_name_lists_the_published_ones(shelf, tmp_path, monkeypatch):
    for arguments in (["test", "mnist-9"], ["score", "mnist-9", ".", "--out", tmp_path / "out"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "mnist-9 is no run" in result.output
        assert f"Published runs in {shelf}: tiny." in result.output
        assert "Traceback" not in result.output
    monkeypatch.setenv("ANOGAN_TF_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"None is published in .*none.*export ANOGAN_TF_WEIGHTS="):
        agt.load_run("mnist-9")


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (damage, "generator.weights.h5", "is damaged"),
        (damage, "run.json", "is damaged"),
        (lambda file: file.unlink(), "reference.weights.h5", "is missing"),
        (lambda file: file.unlink(), "run.json", "is missing"),
        (lambda file: file.unlink(), "SHA256SUMS", "is missing"),
        (lambda file: file.write_text("../x"), "SHA256SUMS", "is damaged"),
        (lambda file: file.write_text(""), "SHA256SUMS", "discriminator.weights.h5 is foreign"),
        (lambda file: file.write_bytes(b"added"), "encoder.weights.h5", "is foreign"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused_by_name(shelf, change, name, message):
    change(shelf / "tiny" / name)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        agt.load_run("tiny")
    assert name in str(error.value)


def test_a_published_run_is_checked_by_its_path_too(shelf):
    damage(shelf / "tiny" / "generator.weights.h5")
    with pytest.raises(ValueError, match=r"generator\.weights\.h5 is damaged"):
        agt.load_run(shelf / "tiny")


def test_other_programs_can_check_the_sums(shelf):
    (shelf / "tiny" / "README.md").write_text("may change")
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=shelf / "tiny", check=True)
    assert "README.md" not in (shelf / "tiny" / "SHA256SUMS").read_text()


def test_a_run_that_is_not_published_needs_no_sums(shelf):
    (shelf / "tiny" / "SHA256SUMS").unlink()
    settings = json.loads((shelf / "tiny" / "run.json").read_text())["scorer"]
    assert agt.load_run(shelf / "tiny").settings["steps"] == settings["steps"]
