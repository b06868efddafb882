import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from anogan_tf.commands import train
from anogan_tf.commands.cli import main


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for place, count in (("train/good", 10), ("test/good", 2), ("test/cut", 3)):
        for i in range(count):
            path = tmp_path / "source" / place / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(100, 120, (16, 16), np.uint8)).save(path)
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 255
    for i in (0, 1):
        path = tmp_path / f"source/ground_truth/cut/{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return tmp_path / "source"


def data(*arguments):
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


def test_what_is_found_is_printed_and_drawn(folder, tmp_path):
    result = data(folder, "--out", tmp_path / "new/sheet.png")
    assert result.exit_code == 0
    assert "test        cut    anomalous       3      2" in result.output
    assert "1 anomalous images have no mask" in result.output
    sheet = np.asarray(Image.open(tmp_path / "new/sheet.png")).astype(int)
    marked = (sheet[..., 0] > sheet[..., 1] + 100).nonzero()
    assert len(marked[0]) == 2 * 96 * 48
    assert (sheet == 0).all(axis=-1).sum() >= 96 * 96  # the picture of which no mask is known


def test_a_folder_that_is_not_understood_is_refused_in_a_line(folder, tmp_path):
    (folder / "train").rename(folder / "lot")
    result = data(folder, "--out", tmp_path / "sheet.png")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_replaces_a_sheet_and_no_other_file(folder, tmp_path):
    own = tmp_path / "data.png"
    Image.new("RGB", (9, 9)).save(own)
    before = own.read_bytes()
    refused = data(folder, "--out", own)
    assert refused.exit_code == 1
    assert "is there, and no contact sheet" in refused.output
    assert own.read_bytes() == before
    for _ in range(2):
        assert data(folder, "--out", tmp_path / "sheet.png").exit_code == 0


def test_a_file_that_is_no_source_is_told_apart_from_a_name(folder, monkeypatch):
    monkeypatch.chdir(folder / "train/good")
    for file in ("000.png", folder / "train/good/000.png"):
        assert f"This is a file, and no .npz or .csv: {file}." in data(file).output


def test_a_sheet_among_the_pictures_is_refused(folder):
    result = data(folder, "--out", folder / "train/sheet.png")
    assert result.exit_code == 1
    assert "would lie among the pictures" in result.output


def test_arrays_of_a_source_are_drawn_too(tmp_path):
    result = data("digits", "--normal", "3", "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0
    assert "train       3      normal" in result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 700


def test_training_tells_first_what_it_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_train", lambda *_: print("trained"))
    (folder / "train/good/IMG_1.jpg").write_bytes(b"\0\0\0\x24ftypheic" + bytes(40))
    arguments = ["train", str(folder), "--out", str(tmp_path / "run"), "--size", "8"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "HEIC" in refused.output
    result = CliRunner().invoke(main, [*arguments, "--skip-unreadable"])
    assert result.exit_code == 0
    table, _, rest = result.output.partition("Not used: 1 images that cannot be read")
    assert "train       good   normal          8" in table
    assert "trained" in rest


def test_training_on_two_pictures_is_refused_before_it_begins(tmp_path):
    for i in range(2):
        (tmp_path / "source").mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16), np.uint8)).save(
            tmp_path / f"source/{i}.png"
        )
    result = CliRunner().invoke(
        main, ["train", str(tmp_path / "source"), "--out", str(tmp_path / "run"), "--size", "8"]
    )
    assert result.exit_code == 1
    assert "2 normal images to train on are the fewest" in result.output
    assert not (tmp_path / "run/run.json").exists()
