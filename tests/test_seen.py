import numpy as np
import pytest
from PIL import Image

from anogan_tf import data
from anogan_tf.commands import seen


def load(folder, **options):
    return data.load(folder, image_shape=(8, 8, 1), **options).samples


def paint(folder, n, seed=0):
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = np.random.default_rng([seed, i]).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("cache", [False, "memory"])
def test_hashes_are_of_the_content_of_files_wherever_they_lie(tmp_path, cache):
    here, there = (load(paint(tmp_path / name, 6), cache=cache) for name in ("a", "b"))
    np.testing.assert_array_equal(seen.hashes(here), seen.hashes(there))
    assert len(set(seen.hashes(here))) == 6
    assert not set(seen.hashes(here)) & set(seen.hashes(load(paint(tmp_path / "c", 6, seed=1), cache=cache)))


def test_hashes_of_arrays_follow_their_images():
    images = np.random.default_rng(0).integers(0, 255, (10, 8, 8), dtype=np.uint8)
    samples = load(images)
    turned = load(images[::-1])
    np.testing.assert_array_equal(seen.hashes(samples), seen.hashes(turned)[::-1])
    np.testing.assert_array_equal(seen.hashes(samples.take([3, 1])), seen.hashes(samples)[[3, 1]])


def test_images_that_were_learned_from_are_left_out_and_counted(tmp_path, capsys):
    samples = load(paint(tmp_path / "all", 10))
    seen.save(tmp_path, samples.take(samples.ids != "7.png"))
    assert seen.unseen(tmp_path, samples).ids.tolist() == ["7.png"]
    assert "Left out 9 of 10 images" in capsys.readouterr().out
    with pytest.raises(ValueError, match="All 9 images"):
        seen.unseen(tmp_path, samples.take(samples.ids != "7.png"))


def test_images_of_a_test_part_are_not_kept(tmp_path, capsys):
    samples = load("digits").take(slice(100, 400))
    seen.save(tmp_path, samples)
    test = samples.part("test")
    assert len(seen.unseen(tmp_path, test)) == len(test)
    assert capsys.readouterr().out == ""


def test_a_run_without_hashes_leaves_nothing_out(tmp_path):
    samples = load("digits")
    assert seen.unseen(tmp_path, samples) is samples


def batch(level=0.0, side=8, tint=(0.0, 0.0, 0.0), n=4):
    spread = np.linspace(-0.02, 0.02, n)[:, None, None, None]
    images = np.full((n, 8, 8, 3), level) + np.asarray(tint) + spread
    return {"image": images.astype(np.float32), "height": np.full(n, side), "width": np.full(n, 2 * side)}


def test_looks_are_ranges_over_all_batches():
    ranges = seen.looks([batch(0.1), batch(0.3, side=10)])
    assert ranges["height"] == [8.0, 10.0]
    assert ranges["width"] == [16.0, 20.0]
    assert ranges["brightness"] == pytest.approx([0.08, 0.32], abs=1e-6)
    assert ranges["red"] == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("batches", "named"),
    [
        ([batch(0.5)], "brightness"),
        ([batch(-0.5)], "brightness"),
        ([batch(side=9)], "height"),
        ([batch(side=7)], "width"),
        ([batch(tint=(0.3, 0.0, -0.3))], "red"),
        ([batch(tint=(0.3, 0.0, -0.3))], "blue"),
        ([batch(), batch(0.5)], None),
        ([batch(side=4), batch(side=12)], None),
        ([batch(0.1)], None),
        ([batch(tint=(0.05, 0.0, -0.05))], None),
    ],
)
def test_images_that_all_are_unlike_the_training_are_told(batches, named):
    found = seen.Looks()
    passed = list(found.watch(batches))
    assert passed == batches
    sentence = found.unlike(seen.looks([batch()]))
    assert (sentence is None) == (named is None)
    assert named is None or f"{named} " in sentence


def test_a_training_that_varies_more_allows_more():
    various = seen.looks([batch(-0.3), batch(0.3)])
    found = seen.Looks()
    found.add(batch(0.8))
    assert found.unlike(various) is None
    assert found.unlike(seen.looks([batch(0.3)])) is not None


def test_gray_networks_know_no_tint():
    gray = {name: column[..., :1] if name == "image" else column for name, column in batch().items()}
    assert set(seen.looks([gray])) == {"height", "width", "brightness"}


def test_a_run_that_kept_no_looks_says_nothing():
    found = seen.Looks()
    found.add(batch(0.9))
    assert found.unlike({}) is None
