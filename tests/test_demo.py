import json
import multiprocessing.pool

import numpy as np
import pytest
from PIL import Image

from anogan_tf import data
from anogan_tf.commands import demo, flower


@pytest.fixture
def few(monkeypatch):
    """A demonstration of few photographs, in a small size."""
    monkeypatch.setattr(flower, "GOOD", {"train": 12, "test": 2})
    monkeypatch.setattr(flower, "EACH", 1)
    monkeypatch.setattr(demo, "SIZE", 16)


def test_photographs_are_in_the_layout_of_mvtec_with_masks_of_what_was_painted(few, tmp_path):
    flower.write(tmp_path / "pictures")
    splits = data.load(str(tmp_path / "pictures"), image_shape=(128, 128, 3))
    (test,) = splits.test
    assert list(test["label"].numpy()) == [0, 0, 1, 1, 1, 1]
    normal = np.mean([image for batch in splits.reference for image in batch["image"].numpy()], axis=0)
    for image, mask, label in zip(test["image"].numpy(), test["mask"].numpy(), test["label"].numpy(), strict=True):
        strange = np.abs(image - normal).mean(axis=-1)
        assert mask.any() == label
        if label:
            assert 0.002 < mask.mean() < 0.1
            assert strange[mask].mean() > 1.5 * strange[~mask].mean()


def test_the_same_seed_makes_the_same_photographs_and_another_others(few, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        flower.write(tmp_path / name, seed)
    pictures = [np.asarray(Image.open(tmp_path / name / "test" / "rot" / "000.png")) for name in "abc"]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0].astype(int) - pictures[2]).mean() > 1
    before = (tmp_path / "a" / "test" / "rot" / "000.png").stat().st_mtime_ns
    flower.write(tmp_path / "a", 1)
    assert (tmp_path / "a" / "test" / "rot" / "000.png").stat().st_mtime_ns == before  # what is there is left alone


def test_two_that_write_one_folder_at_once_leave_it_whole(few, tmp_path):
    with multiprocessing.pool.ThreadPool(4) as pool:
        pool.map(flower.write, [tmp_path / "pictures"] * 4)
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 14 + 4 + 4
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.filterwarnings("ignore:α = ")  # as few photographs promise
def test_demo_writes_every_output_and_explains_it(few, tmp_path, capsys):
    result, compared = demo.run(tmp_path / "out", steps=1)
    said = capsys.readouterr().out
    assert f"AUROC {result.auroc:.3f}" in said
    assert f"mean image {compared['mean_image']:.3f}, pca 32 {compared['pca_32']:.3f}" in said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["baselines"], metrics["auroc"]) == (compared, result.auroc)
    assert (tmp_path / "out" / "run" / "run.json").is_file()
    assert len(list((tmp_path / "out").glob("test_image_*.png"))) == 6
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.slow
def test_demo_finds_what_is_wrong_with_a_flower(tmp_path):
    result, compared = demo.run(tmp_path / "out")
    print(f"AUROC {result.auroc:.3f}, of pixels {result.pixel_auroc:.3f}, confusion {result.confusion}, {compared}")
    assert result.auroc >= 0.97
    assert result.auroc > compared["mean_image"]
    assert result.confusion["tp"] >= 28
