import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from anogan_tf import data
from anogan_tf.data import cache as cached
from anogan_tf.data import sources
from anogan_tf.data.samples import Preprocessing
from anogan_tf.scoring import image_rows

SHAPE = (8, 8, 1)


def paint(folder, names, *, size=(10, 12), first=0):
    """Gray pictures, each of a level of its own; level and place in `names` go together."""
    for level, name in enumerate(names, start=first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, level, np.uint8)).save(path)
    return folder


def numbered(prefix, count):
    return [f"{prefix}/{i:03}.png" for i in range(count)]


@pytest.fixture
def mvtec(tmp_path):
    """MVTec layout: 10 normal images to train on, 3 normal and 4 scratched ones of another size to test, with masks."""
    folder = paint(tmp_path / "screw", [*numbered("train/good", 10), *numbered("test/good", 3)])
    paint(folder, numbered("test/scratch", 4), size=(20, 16), first=100)
    for i in range(4):
        mask = np.zeros((20, 16), np.uint8)
        mask[i : i + 3, 2:9] = 255
        path = folder / f"ground_truth/scratch/{i:03}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return folder


@pytest.fixture
def classes(tmp_path):
    """Class folders without a training part: 20 of `oak`, 10 of `ash`, 5 of `knot`."""
    return paint(tmp_path / "wood", [*numbered("oak", 20), *numbered("ash", 10), *numbered("knot", 5)])


def load(source, *args, **options):
    return data.load(source, *args, **({"image_shape": SHAPE, "batch_size": 4} | options))


def ids(splits, part):
    return set(splits.samples.part(part).ids)


def column(dataset, name):
    return np.concatenate([batch[name] for batch in dataset.as_numpy_iterator()])


def levels(images):
    """The gray level each image was painted with."""
    return np.rint((np.asarray(images)[:, 0, 0, 0] + 1) * 127.5).astype(int)


def assert_disjoint(splits):
    parts = [ids(splits, part) for part in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(splits.samples)


# Folders


def test_splits_are_shown_in_a_line(mvtec):
    shown = repr(load(mvtec, validation_fraction=0.2))
    assert shown == "Splits(train=8, validation=2, test=7, image_shape=(8, 8, 1), batch_size=4)"


def test_mvtec_layout_keeps_its_own_test_part(mvtec):
    splits = load(mvtec)
    assert ids(splits, "test") == {*numbered("test/good", 3), *numbered("test/scratch", 4)}
    assert len(ids(splits, "train")) == 8
    assert len(ids(splits, "validation")) == 2
    assert_disjoint(splits)
    assert {
        i: int(label) for i, label in zip(column(splits.test, "id"), column(splits.test, "label"), strict=True)
    } == {i.encode(): int("scratch" in i) for i in ids(splits, "test")}


@pytest.mark.parametrize("cache", ["memory", False, "folder"])
def test_masks_are_true_where_painted_and_padded_to_the_largest_of_the_batch(mvtec, tmp_path, cache):
    splits = load(mvtec, batch_size=5, cache=tmp_path / "cache" if cache == "folder" else cache)
    first = next(splits.test.as_numpy_iterator())  # three good ones, two scratched
    assert first["image"].shape == (5, 8, 8, 1)
    assert first["mask"].shape == (5, 20, 16)
    assert first["mask"].dtype == bool
    np.testing.assert_array_equal(first["height"], [10, 10, 10, 20, 20])
    np.testing.assert_array_equal(first["width"], [12, 12, 12, 16, 16])
    wanted = np.zeros((5, 20, 16), bool)
    wanted[3, 0:3, 2:9] = wanted[4, 1:4, 2:9] = True
    np.testing.assert_array_equal(first["mask"], wanted)


@pytest.mark.parametrize("cache", ["memory", False])
def test_masks_are_cropped_with_their_images(mvtec, cache):
    batch = next(load(mvtec, crop=8, cache=cache).test.skip(1).as_numpy_iterator())  # scratched 001 to 003
    assert batch["mask"].shape == (3, 8, 8)
    wanted = np.zeros((3, 20, 16), bool)
    for i in range(3):
        wanted[i, i + 1 : i + 4, 2:9] = True
    np.testing.assert_array_equal(batch["mask"], wanted[:, 6:14, 4:12])


def test_crop_is_applied_once_however_images_are_kept(mvtec, tmp_path):
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))
    for path in mvtec.rglob("0*.png"):
        Image.fromarray(ramp).save(path)
    read = [column(load(mvtec, crop=12, cache=cache).reference, "image") for cache in (False, "memory", tmp_path / "c")]
    np.testing.assert_array_equal(read[0][0, 0, [0, -1], 0] > 0, [False, True])
    np.testing.assert_array_equal(read[0], read[1])
    np.testing.assert_array_equal(read[0], read[2])
    splits = load(mvtec, crop=12)
    assert {(12, 12)} == set(zip(column(splits.test, "height"), column(splits.test, "width"), strict=True))


def test_masks_of_another_size_are_resized_by_nearest_neighbour_and_told(mvtec):
    for i in range(4):
        path = mvtec / f"ground_truth/scratch/{i:03}_mask.png"
        Image.open(path).resize((32, 40), Image.Resampling.NEAREST).save(path)
    splits = load(mvtec, batch_size=10)
    batch = next(splits.test.as_numpy_iterator())
    wanted = np.zeros((4, 20, 16), bool)
    for i in range(4):
        wanted[i, i : i + 3, 2:9] = True
    np.testing.assert_array_equal(batch["mask"][3:], wanted)
    assert "4 masks are of another size than their pictures, and are resized" in splits.describe()
    assert splits.describe().count("another size") == 1


def test_masks_of_other_proportions_are_left_out_of_pixel_figures_with_a_count(mvtec):
    Image.new("L", (5, 5), 255).save(mvtec / "ground_truth/scratch/000_mask.png")
    splits = load(mvtec, batch_size=10)
    np.testing.assert_array_equal(next(splits.test.as_numpy_iterator())["has_mask"], [1, 1, 1, 0, 1, 1, 1])
    assert re.search(r"1 masks are not used: .*000_mask\.png: of 5×5.*its picture of 20×16", splits.describe())
    assert "1 anomalous images have no mask, and are left out of the figures of pixels" in splits.describe()


@pytest.mark.parametrize("cache", ["memory", False])
@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_missing_and_broken_masks_stop_nothing_and_are_no_pixels(mvtec, spoil, cache):
    spoil(mvtec / "ground_truth/scratch/002_mask.png")
    splits = load(mvtec, cache=cache)
    rows = list(image_rows(splits.test, SHAPE))
    assert [row["id"] for row in rows if "mask" not in row] == ["test/scratch/002.png"]
    assert not any("has_mask" in row for row in rows)
    assert splits.plan.rows[-1] == ("test", "scratch", "anomalous", 4, 3)


def test_masks_of_nested_folders_are_their_own(mvtec):
    for side in ("left", "right"):
        paint(mvtec, [f"test/dent/{side}/000.png"], size=(6, 6))
        path = mvtec / f"ground_truth/dent/{side}/000_mask.png"
        path.parent.mkdir(parents=True)
        mask = np.zeros((6, 6), np.uint8)
        mask[:, 0 if side == "left" else 5] = 255
        Image.fromarray(mask).save(path)
    batch = next(load(mvtec).test.as_numpy_iterator())
    np.testing.assert_array_equal(batch["mask"].any(axis=1)[:2, :6], [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]])


def test_source_without_masks_gives_none(classes):
    assert "mask" not in load(classes, normal="oak").test.element_spec


def test_normal_class_is_found_by_name_not_by_position(tmp_path):
    folder = paint(tmp_path, [*numbered("train/zebra", 10), *numbered("test/zebra", 2), *numbered("test/aardvark", 2)])
    test = load(folder, normal="zebra").samples.part("test")
    np.testing.assert_array_equal(test.labels, [1, 1, 0, 0])
    np.testing.assert_array_equal(test.classes, ["aardvark", "aardvark", "zebra", "zebra"])
    with pytest.raises(ValueError, match=r"'good'.*'zebra'"):
        load(folder)


@pytest.mark.parametrize("name", ["validation", "val"])
@pytest.mark.parametrize("inside", ["", "/good"])
def test_validation_folder_is_used_and_training_images_are_not_split(mvtec, name, inside):
    paint(mvtec, [*numbered(f"{name}{inside}", 3), *numbered(f"{name}/scratch", 2)], first=200)
    splits = load(mvtec)
    assert ids(splits, "validation") == set(numbered(f"{name}{inside}", 3))
    assert ids(splits, "train") == set(numbered("train/good", 10))


def test_two_validation_folders_are_refused(mvtec):
    paint(mvtec, ["val/good/a.png", "validation/good/a.png"])
    with pytest.raises(ValueError, match=r"screw has val/ and validation/.*only one"):
        load(mvtec)


@pytest.mark.parametrize(
    "test_images", [[], numbered("test/good", 2) + numbered("test/bad", 2), numbered("test/bad", 2)]
)
def test_images_may_lie_directly_in_train(tmp_path, test_images):
    splits = load(paint(tmp_path, [*numbered("train", 10), *test_images]))
    normal = {i for i in splits.samples.ids if i.startswith("train/")}
    assert normal == set(numbered("train", 10))
    assert {i for i, label in zip(splits.samples.ids, splits.samples.labels, strict=True) if label} == {
        i for i in test_images if "bad" in i
    }


def test_anomalous_images_of_the_training_part_are_left_out(mvtec):
    paint(mvtec, numbered("train/scratch", 4))
    splits = load(mvtec)
    assert not any("train/scratch" in i for i in splits.samples.ids)
    assert not splits.samples.part("train").labels.any()


def test_plain_folder_is_all_normal_and_has_no_test(tmp_path):
    splits = load(paint(tmp_path, [f"{i}.png" for i in range(10)]))
    assert splits.test is None
    assert len(ids(splits, "train")) == 8
    assert not splits.samples.labels.any()


@pytest.mark.parametrize("normal", ["oak", ("oak", "ash"), ["oak"]])
def test_class_folders_test_on_held_out_normals_and_all_anomalies(classes, normal):
    normal_ids = {i for name in np.atleast_1d(normal) for i in numbered(name, {"oak": 20, "ash": 10}[name])}
    splits = load(classes, normal=normal)
    anomalous = set(splits.samples.ids[splits.samples.labels == 1])
    assert anomalous == set(splits.samples.ids) - normal_ids
    assert anomalous < ids(splits, "test")
    held_out = ids(splits, "test") - anomalous
    assert len(held_out) == len(normal_ids) // 5
    assert not splits.samples.part("train").labels.any()
    assert not splits.samples.part("validation").labels.any()
    assert len(splits.samples) == 35
    assert_disjoint(splits)


def test_mask_folder_beside_class_folders_is_no_class(classes):
    for name in numbered("ground_truth/knot", 5):
        (classes / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(10, 12, dtype=np.uint8)).save(classes / name)
    assert set(load(classes, normal="oak").samples.classes) == {"ash", "knot", "oak"}


def test_image_beside_class_folders_is_refused(classes):
    paint(classes, ["stray.png"])
    with pytest.raises(ValueError, match="wood lie in no class folder"):
        load(classes, normal="oak")


def test_pattern_selects_file_names(classes):
    assert len(load(classes, pattern="00*.png", normal="oak").samples) == 25
    with pytest.raises(ValueError, match=r"\*_front\.png"):
        load(classes, pattern="*_front.png")


def test_hidden_files_other_files_and_ground_truth_are_ignored(mvtec):
    before = load(mvtec).samples.ids
    paint(mvtec, ["train/good/.hidden.png", "train/.thumbnails/a.png"])
    (mvtec / "train/good/notes.txt").write_text("words")
    (mvtec / "train/good/folder.png").mkdir()
    np.testing.assert_array_equal(load(mvtec).samples.ids, before)


def test_upper_case_suffixes_and_nested_folders_are_found(tmp_path):
    names = ["train/good/A.PNG", "train/good/b/c/D.JPG", "train/good/e.TIF", "train/good/b/f.bmp", "train/good/g.WebP"]
    assert set(load(paint(tmp_path, names)).samples.ids) == set(names)


def test_missing_class_is_answered_with_the_classes_there_are(classes):
    with pytest.raises(ValueError, match=r"'elm'.*'ash', 'knot', 'oak'"):
        load(classes, normal="elm")
    with pytest.raises(ValueError, match=r"no class 'elm'.*'ash', 'knot', 'oak'"):
        load(classes, normal=("oak", "elm"))


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No images"):
        load(tmp_path)


def test_images_directly_in_test_are_refused(mvtec):
    paint(mvtec, ["test/000.png"])
    with pytest.raises(ValueError, match="test lie in no class folder"):
        load(mvtec)


@pytest.mark.parametrize("group_by", [r"(p\d+)_", r"p\d+", lambda name: name.split("_")[0]])
@pytest.mark.parametrize("seed", [0, 1])
def test_groups_never_straddle_a_split(tmp_path, group_by, seed):
    folder = paint(tmp_path, [f"good/p{i % 7}_{i}.png" for i in range(40)] + [f"bad/q{i}_p9_.png" for i in range(3)])
    splits = load(folder, normal="good", group_by=group_by, seed=seed)
    patients = [{i[5:7] for i in ids(splits, part) if i.startswith("good")} for part in ("train", "validation", "test")]
    assert all(patients)
    assert sum(map(len, patients)) == 7


def test_group_by_that_does_not_match_is_refused(classes):
    with pytest.raises(ValueError, match=r"does not match 'ash/000\.png'"):
        load(classes, normal="oak", group_by=r"patient(\d+)")


def test_too_few_images_to_split_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 normal images: at least one must be held out"):
        load(paint(tmp_path, ["a.png"]))
    paint(tmp_path, ["b.png"])
    with pytest.raises(ValueError, match="2 normal images in 1 groups"):
        load(tmp_path, group_by="png")


def test_own_shape_of_files_is_64(mvtec):
    assert data.load(mvtec).train.element_spec[0].shape[1:] == (64, 64, 1)


@pytest.mark.parametrize(("coloured", "channels"), [(0, 1), (1, 3)])
def test_files_have_one_channel_where_none_has_a_colour(tmp_path, coloured, channels):
    """Of those that are trained on; what is asked for is left as it is."""
    rng = np.random.default_rng(0)
    for number in range(12):
        levels = np.repeat(rng.integers(0, 255, (16, 16, 1), np.uint8), 3, axis=-1)
        levels[..., 0] //= 2 if number < 12 * coloured else 1
        Image.fromarray(levels).save(tmp_path / f"{number}.png")
    assert data.load(tmp_path).preprocessing.image_shape == (64, 64, channels)
    assert data.load(tmp_path, patches=True, image_shape=(8, 8, None)).preprocessing.image_shape == (8, 8, channels)
    assert data.load(tmp_path, image_shape=(32, None, 3)).preprocessing.image_shape == (32, 64, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"image_shape": (64, 64)},
        {"image_shape": (8, 8, 2)},
        {"crop": 0},
        {"crop": "round"},
        {"bits": 0},
        {"crop": (3,)},
    ],
)
def test_senseless_options_are_named(mvtec, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"Received: {name}="):
        load(mvtec, **options)


EXIF_TURNS = {1: 0, 3: 2, 6: 1, 8: -1}  # orientation to the quarter turns, counter-clockwise, of what is stored


def test_photographs_of_mixed_sizes_and_orientations_are_upright(tmp_path):
    """300 photographs as phones write them: bright sky above dark ground, wherever the camera's top was."""
    rng = np.random.default_rng(0)
    for i in range(300):
        height, width = rng.integers(8, 40, 2)
        upright = np.where(np.arange(height)[:, None] < height / 2, 230, 20).astype(np.uint8).repeat(width, axis=1)
        orientation = rng.choice(list(EXIF_TURNS))
        exif = Image.Exif()
        exif[0x0112] = int(orientation)
        path = tmp_path / f"IMG_{i:04}.{rng.choice(['jpg', 'JPG', 'png', 'tif'])}"
        Image.fromarray(np.rot90(upright, EXIF_TURNS[orientation])).save(path, exif=exif)
    splits = load(tmp_path, batch_size=32)
    assert len(splits.samples) == 300
    images = np.concatenate([column(part, "image") for part in (splits.reference, splits.validation)])
    assert images[:, :3].min() > 0.5
    assert images[:, -3:].max() < -0.5
    assert len(set(map(tuple, splits.samples.sizes))) > 200


@pytest.mark.parametrize("cache", ["memory", False])
def test_twelve_bits_in_files_of_sixteen_reach_white(tmp_path, cache):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 4096, (10, 8, 8)).astype(np.uint16)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.tiff")
    splits = load(tmp_path, bits=12, cache=cache)
    numbers = [int(name[:1]) for name in column(splits.reference, "id")]
    wanted = pictures[numbers, ..., None] / 2047.5 - 1
    np.testing.assert_allclose(column(splits.reference, "image"), wanted, atol=1e-6)


# Splits


def test_a_fifth_is_held_out_unless_said_otherwise(tmp_path):
    folder = paint(tmp_path, numbered("good", 50))
    assert len(ids(load(folder), "validation")) == 10
    assert len(ids(load(folder, validation_fraction=0.5), "validation")) == 25


@pytest.mark.parametrize("fraction", [0, 1, 1.5])
def test_a_fraction_that_leaves_nothing_is_refused(classes, fraction):
    with pytest.raises(ValueError, match=f"fraction of {fraction}"):
        load(classes, normal="oak", validation_fraction=fraction)


def test_split_is_a_function_of_the_seed(classes):
    one, same, other = (load(classes, normal="oak", seed=seed) for seed in (3, 3, 4))
    for part in ("train", "validation", "test"):
        assert ids(one, part) == ids(same, part)
        assert ids(one, part) != ids(other, part)


@pytest.mark.parametrize("cache", ["memory", False])
def test_fingerprint_tells_whether_data_changed(tmp_path, cache):
    folder = paint(tmp_path, numbered("good", 10))

    def fingerprint():
        return load(folder, cache=cache).samples.fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    paint(folder, ["good/000.png"], size=(200, 300), first=50)
    second = fingerprint()
    assert second != first
    (folder / "good/001.png").rename(folder / "good/0001.png")
    assert fingerprint() not in (first, second)


# Digits, arrays, .npz


def test_digits_have_eight_as_normal_class():
    splits = data.load("digits")
    assert splits.samples.images.shape == (1797, 8, 8, 1)
    assert set(splits.samples.classes[splits.samples.labels == 0]) == {"8"}
    assert len(splits.samples) == 1797
    assert set(data.load("digits", normal=3).samples.part("train").classes) == {"3"}
    images, labels = next(splits.train.as_numpy_iterator())
    assert images.shape == (32, 8, 8, 1)
    assert -1 <= images.min() < 0 < images.max() <= 1
    assert not labels.any()


def test_bytes_and_floats_give_the_same_images():
    pictures = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    floats = pictures / np.float32(127.5) - 1
    for array in (pictures, pictures[..., 0], floats, floats.astype(np.float64)):
        splits = data.load(array)
        np.testing.assert_allclose(
            column(splits.reference, "image"), floats[splits.samples.part("train").rows], atol=1e-6
        )


def test_floats_of_the_right_shape_are_not_touched():
    floats = np.random.default_rng(0).uniform(-1, 1, (10, 4, 4, 3)).astype(np.float32)
    splits = data.load(floats)
    np.testing.assert_array_equal(column(splits.reference, "image"), floats[splits.samples.part("train").rows])


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (3, 3)])
def test_floats_are_resized_as_bytes_are(channels):
    pictures = np.random.default_rng(0).integers(0, 256, (10, 24, 20, channels[0]), np.uint8)
    shape = (6, 10, channels[1])
    from_bytes = data.load(pictures, image_shape=shape, crop=(20, 16))
    from_floats = data.load(pictures / 127.5 - 1, image_shape=shape, crop=(20, 16))
    one, other = next(from_bytes.reference.as_numpy_iterator()), next(from_floats.reference.as_numpy_iterator())
    np.testing.assert_allclose(one["image"], other["image"], atol=2 / 127.5)
    assert {*one["height"], *other["height"]} == {20}
    assert {*one["width"], *other["width"]} == {16}


def test_white_and_black_stay_in_range_when_resized():
    checks = np.where(np.indices((10, 7, 7)).sum(axis=0)[..., None].repeat(3, -1) < 12, -1.0, 1.0).astype(np.float32)
    resized = column(data.load(checks, image_shape=(23, 19, 1)).reference, "image")
    assert resized.min() >= -1
    assert resized.max() <= 1


def test_labels_of_an_array_are_classes_of_which_zero_is_normal():
    samples = data.load(np.zeros((30, 8, 8), np.uint8), np.arange(30) % 3).samples
    np.testing.assert_array_equal(samples.labels == 0, samples.classes == "0")
    assert (samples.labels == 1).sum() == 20
    named = data.load(np.zeros((30, 8, 8), np.uint8), ["ok", "ok", "bad"] * 10, normal="ok").samples
    assert (named.labels == 1).sum() == 10


def test_groups_of_an_array_never_straddle_a_split():
    splits = data.load(np.zeros((30, 8, 8), np.uint8), group_by=[f"patient {i % 5}" for i in range(30)])
    train, validation = (set(splits.samples.part(part).groups) for part in ("train", "validation"))
    assert len(train) + len(validation) == 5
    assert not train & validation


@pytest.mark.parametrize(
    ("array", "labels", "received"),
    [
        (np.random.default_rng(0).uniform(0, 1, (9, 8, 8)), None, r"values in \[0\.\d+, 0\.9\d*\]"),
        (np.linspace(0, 255, 576).reshape(9, 8, 8), None, r"values in \[0, 255\]"),
        (np.arange(576).reshape(9, 8, 8), None, r"values in \[0, 575\]"),
        (np.full((9, 8, 8), np.nan), None, "nan"),
        (np.zeros((9, 8, 8, 4), np.uint8), None, r"\(9, 8, 8, 4\)"),
        (np.zeros((8, 8), np.uint8), None, r"\(8, 8\)"),
        (np.zeros((9, 8, 8), np.uint8), [0] * 8, "9 images and 8 labels"),
        (np.zeros((9, 8, 8), np.uint8), [5] * 9, "class '0'.*'5'"),
        (["a.png", "b.png"], None, r"their folder or a CSV list.*Received: a list"),
    ],
    ids=[
        "zero to one",
        "zero to 255",
        "wide integers",
        "nan",
        "channels",
        "one picture",
        "labels",
        "no normal",
        "paths",
    ],
)
def test_arrays_of_unknown_meaning_are_refused(array, labels, received):
    with pytest.raises(ValueError, match=received):
        data.load(array, labels)


def test_groups_that_are_not_one_an_image_are_refused():
    with pytest.raises(ValueError, match="9 images and 1 groups"):
        data.load(np.zeros((9, 8, 8), np.uint8), group_by=r"(\d)")


def npz(path, **counts):
    """Parts of so many images, every third of class 1; an image's bytes are its number in the file."""
    arrays, first = {}, 0
    for name, count in counts.items():
        numbers = np.arange(first, first + count)
        arrays[f"{name}_images"] = np.tile(numbers.astype(np.uint8)[:, None, None], (1, 8, 8))
        arrays[f"{name}_labels"] = (numbers % 3 == 0).astype(int)[:, None]
        first += count
    np.savez(path, **arrays)
    return path


def test_npz_keeps_its_parts_and_trains_on_normal_images_only(tmp_path):
    splits = data.load(npz(tmp_path / "a.npz", train=30, val=12, test=9))
    assert not splits.samples.part("train").labels.any()
    assert not splits.samples.part("validation").labels.any()
    assert sorted(levels(column(splits.reference, "image"))) == [i for i in range(30) if i % 3]
    assert list(levels(column(splits.validation, "image"))) == [i for i in range(30, 42) if i % 3]
    assert list(levels(column(splits.test, "image"))) == list(range(42, 51))
    np.testing.assert_array_equal(column(splits.test, "label"), [1, 0, 0] * 3)


def test_npz_with_training_part_only_is_split(tmp_path):
    splits = data.load(npz(tmp_path / "a.npz", train=60))
    assert splits.samples.part("test").labels.sum() == 20
    assert len(ids(splits, "test")) == 20 + 8
    assert_disjoint(splits)


def test_npz_without_training_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train_images.*test_images"):
        data.load(npz(tmp_path / "a.npz", test=9))
    with pytest.raises(FileNotFoundError):
        data.load(tmp_path / "missing.npz")
    (tmp_path / "words.npz").write_text("hi")
    with pytest.raises(ValueError, match=r"words\.npz is no \.npz file"):
        data.load(tmp_path / "words.npz")
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="but a single array"):
        data.load(tmp_path / "one.npz")


def test_npz_with_too_few_labels_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.zeros((9, 8, 8), np.uint8), train_labels=np.zeros(7))
    with pytest.raises(ValueError, match="9 images and 7 labels"):
        data.load(tmp_path / "a.npz")


def test_real_pneumonia_trains_on_healthy_chests_only(real_data):
    path = real_data / "pneumoniamnist/pneumoniamnist_rebuilt.npz"
    splits = data.load(path)
    with np.load(path) as file:
        healthy = {part: int((file[f"{part}_labels"] == 0).sum()) for part in ("train", "val", "test")}
        assert len(ids(splits, "train")) == healthy["train"]
        assert len(ids(splits, "validation")) == healthy["val"]
        np.testing.assert_array_equal(splits.samples.part("test").labels, file["test_labels"].ravel() != 0)


# TensorFlow Datasets


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_tfds_class_is_normal_by_name(tmp_path, name):
    with tfds.testing.mock_data(num_examples=40):
        samples = data.load(name, normal="7", data_dir=tmp_path).samples
    np.testing.assert_array_equal(samples.labels == 0, samples.classes == "7")
    assert not samples.labels[samples.parts != "test"].any()
    assert (samples.parts == "test").sum() == 40
    assert len(set(samples.ids)) == len(samples)


def test_tfds_class_names_are_those_of_the_prepared_set(real_data):
    folder = real_data / "tensorflow_datasets"
    with tfds.testing.mock_data(num_examples=60, data_dir=folder):
        samples = data.load("cifar10", normal=["automobile", "cat"], data_dir=folder).samples
        with pytest.raises(ValueError, match=r"cifar10: no class 'car'\. There are: 'airplane', 'automobile'"):
            data.load("cifar10", normal="car", data_dir=folder)
    assert set(samples.classes[samples.labels == 0]) == {"automobile", "cat"}
    assert set(samples.part("test").classes) > {"airplane", "automobile"}


def test_tfds_ids_tell_where_an_image_is(tmp_path):
    with tfds.testing.mock_data(num_examples=30):
        splits = data.load("mnist", normal="7", data_dir=tmp_path)
        examples = list(tfds.load("mnist", split="test", data_dir=tmp_path).as_numpy_iterator())
    for batch in splits.test.as_numpy_iterator():
        for image, label, name in zip(batch["image"], batch["label"], batch["id"], strict=True):
            example = examples[int(name.decode().removeprefix("test/"))]
            np.testing.assert_allclose(image, example["image"] / 127.5 - 1, atol=1e-6)
            assert label == (example["label"] != 7)


def test_tfds_attribute_with_a_value_is_a_class(tmp_path):
    with tfds.testing.mock_data(num_examples=40):
        options = {"crop": 108, "image_shape": (64, 64, 3), "data_dir": tmp_path}
        without = data.load("celeb_a", normal="Eyeglasses=0", **options)
        wearing = data.load("celeb_a", normal="Eyeglasses", **options)
        examples = list(tfds.load("celeb_a", split="test", data_dir=tmp_path).as_numpy_iterator())
    glasses = [int(example["attributes"]["Eyeglasses"]) for example in examples]
    np.testing.assert_array_equal(without.samples.part("test").labels, glasses)
    np.testing.assert_array_equal(wearing.samples.part("test").labels, 1 - np.array(glasses))
    batch = next(without.test.as_numpy_iterator())
    height, width = examples[0]["image"].shape[:2]
    top, left = (height - 108) // 2, (width - 108) // 2
    middle = Image.fromarray(examples[0]["image"][top : top + 108, left : left + 108])
    resized = np.asarray(middle.resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(batch["image"][0], resized / 127.5 - 1, atol=1e-6)
    assert {*batch["height"], *batch["width"]} == {108}
    assert without.preprocessing.crop == 108


def test_tfds_set_without_classes_is_all_normal(tmp_path):
    with tfds.testing.mock_data(num_examples=10):
        assert not data.load("celeb_a_hq/64", data_dir=tmp_path).samples.labels.any()
        lsun = data.load("lsun/classroom", image_shape=(32, 32, 3), data_dir=tmp_path)
        assert not lsun.samples.labels.any()
        with pytest.raises(ValueError, match="different sizes: give image_shape"):
            data.load("lsun/classroom", data_dir=tmp_path)
        with pytest.raises(ValueError, match="neither classes nor attributes"):
            data.load("celeb_a_hq/64", normal="smiling", data_dir=tmp_path)


def test_tfds_crop_without_image_shape_gives_the_own_shape(tmp_path):
    with tfds.testing.mock_data(num_examples=40):
        cropped = data.load("mnist", normal="7", crop=14, data_dir=tmp_path)
        plain = data.load("mnist", normal="7", data_dir=tmp_path)
    one, other = (next(splits.test.as_numpy_iterator()) for splits in (cropped, plain))
    assert one["image"].shape == other["image"].shape
    assert not np.array_equal(one["image"], other["image"])
    assert set(one["height"]) == {14}


def test_tfds_set_without_images_is_refused(tmp_path):
    with (
        tfds.testing.mock_data(num_examples=2),
        pytest.raises(ValueError, match="imdb_reviews needs a feature `image`"),
    ):
        data.load("imdb_reviews", data_dir=tmp_path)


@pytest.mark.parametrize("normal", ["Hat=0", "11"])
def test_tfds_class_that_is_not_there_is_refused(tmp_path, normal):
    name = "celeb_a" if "=" in normal else "mnist"
    with tfds.testing.mock_data(num_examples=2), pytest.raises(ValueError, match=f"no class '{normal[:2]}.*There are:"):
        data.load(name, normal=normal, image_shape=(28, 28, 1), data_dir=tmp_path)


@pytest.mark.parametrize("name", ["no_such_set", "no/such/folder"])
def test_unknown_source_is_refused_in_a_line(name):
    with pytest.raises(ValueError, match=f"No such source: '{name}'") as error:
        data.load(name)
    assert len(str(error.value)) < 300


def test_unprepared_set_without_network_says_what_to_do(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(ValueError, match=r"not prepared in .*--data-dir.*tfds build mnist"):
        data.load("mnist", data_dir=tmp_path)


class Leaves(tfds.core.GeneratorBasedBuilder):
    """A set of one class folder's worth of pictures in whatever splits are asked for; prepared without network."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name) for name in ("train", "train-validation", "train-validation-test")
    ]

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {name: self._generate_examples() for name in self.builder_config.name.split("-")}

    def _generate_examples(self):
        for i in range(20):
            yield i, {"image": np.full((9, 7, 1), i, np.uint8), "label": i % 2}


@pytest.mark.parametrize(
    ("config", "validation", "tested"),
    [
        ("train", "train", "train"),
        ("train-validation", "train", "validation"),
        ("train-validation-test", "validation", "test"),
    ],
)
def test_tfds_splits_become_parts(tmp_path, config, validation, tested):
    splits = data.load(f"leaves/{config}", data_dir=tmp_path, image_shape=SHAPE)
    assert {name.split("/")[0] for name in ids(splits, "train")} == {"train"}
    assert {name.split("/")[0] for name in ids(splits, "validation")} == {validation}
    assert {name.split("/")[0] for name in ids(splits, "test")} == {tested}
    assert splits.samples.part("test").labels.sum() == 10
    assert not splits.samples.part("test").labels.all()
    assert not splits.samples.labels[splits.samples.parts != "test"].any()
    np.testing.assert_array_equal(levels(column(splits.test, "image")) % 2, column(splits.test, "label"))
    assert_disjoint(splits)


def test_cached_tfds_set_is_not_read_again(tmp_path, monkeypatch):
    with tfds.testing.mock_data(num_examples=40):
        first = data.load("mnist", normal="7", data_dir=tmp_path / "sets", cache=tmp_path / "cache")
    monkeypatch.setattr(sources, "_prepared", None)
    second = data.load("mnist", normal="7", data_dir=tmp_path / "sets", cache=tmp_path / "cache")
    np.testing.assert_array_equal(column(first.test, "image"), column(second.test, "image"))
    np.testing.assert_array_equal(first.samples.ids, second.samples.ids)
    assert first.samples.fingerprint() == second.samples.fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "normal", "counts"),
    [("mnist", "8", (5851, 974)), ("fashion_mnist", "Bag", (6000, 1000)), ("cifar10", "automobile", (5000, 1000))],
)
def test_real_tfds_sets(real_data, tmp_path, name, normal, counts):
    folder = real_data / "tensorflow_datasets"
    splits = data.load(name, normal=normal, data_dir=folder, cache=tmp_path)
    normal_test = splits.samples.part("test").labels == 0
    assert len(ids(splits, "train")) + len(ids(splits, "validation")) == counts[0]
    assert (len(normal_test), normal_test.sum()) == (10_000, counts[1])
    assert_disjoint(splits)


# Pipelines


def orders(dataset, epochs=1):
    return [[level for images, _ in dataset.as_numpy_iterator() for level in levels(images)] for _ in range(epochs)]


@pytest.fixture
def fifty():
    pictures = np.tile(np.arange(50, dtype=np.uint8)[:, None, None], (1, 8, 8))
    return data.load(pictures, batch_size=16, seed=2)


def test_training_order_is_a_function_of_seed_and_epoch(fifty):
    first, second, third = orders(fifty.train, 3)
    assert len({tuple(order) for order in (first, second, third)}) == 3
    fifty.train.epoch.assign(1)
    assert orders(fifty.train, 2) == [second, third]
    again = data.load(fifty.samples.images, batch_size=16, seed=2).train
    assert orders(again, 2) == [first, second]
    splits = data.load(fifty.samples.images, batch_size=16, seed=3)
    assert orders(splits.train) != [first]


def test_training_shows_an_image_at_most_once_an_epoch_in_full_batches(fifty):
    assert int(fifty.train.cardinality()) == 2  # of 40
    batches = [len(images) for images, _ in fifty.train.as_numpy_iterator()]
    assert batches == [16, 16]
    seen = orders(fifty.train, 10)
    assert all(len(set(order)) == 32 for order in seen)
    normal = set(levels(column(fifty.reference, "image")))
    assert set().union(*seen) == normal


def test_batch_larger_than_the_training_part_is_all_of_it():
    splits = data.load(np.zeros((10, 8, 8), np.uint8), batch_size=64)
    assert [images.shape[0] for images, _ in splits.train.as_numpy_iterator()] == [8]
    assert int(splits.train.cardinality()) == 1


def test_ordered_batches_are_complete_and_the_same_each_time(fifty):
    sizes = [len(batch["image"]) for batch in fifty.reference.as_numpy_iterator()]
    assert sizes == [16, 16, 8]
    assert int(fifty.reference.cardinality()) == 3
    first, second = (column(fifty.reference, "image") for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(levels(first) + 1, column(fifty.reference, "id").astype(int))


def test_ids_line_up_with_files_of_any_name(tmp_path):
    names = [
        b"a b.png",
        b'it\'s "quoted".png',
        "Ä–ß日本.png".encode(),
        b"comma,semi;.png",
        b"new\nline.png",
        b"\xff\xfe.png",
    ]
    for name in names:
        try:
            os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT))
        except OSError:
            pytest.skip("this file system takes only UTF-8 names")
    paint(tmp_path, [os.fsdecode(name) for name in names], first=10)
    wanted = {name: level for level, name in enumerate(names, start=10)}
    for cache in ("memory", False, tmp_path / "cache"):
        splits = load(tmp_path, cache=cache, validation_fraction=0.5)
        got = {}
        for part in (splits.reference, splits.validation):
            got |= dict(zip(column(part, "id"), levels(column(part, "image")), strict=True))
        assert got == wanted
        assert len(splits.samples.fingerprint()) == 64


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_the_same_however_they_are_kept(tmp_path, dtype):
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, np.iinfo(dtype).max, (30, 20), dtype)).save(tmp_path / f"{i}.png")
    kept = [load(tmp_path, cache=cache) for cache in (False, "memory", tmp_path / ".cache", tmp_path / ".cache")]
    wanted = column(kept[0].reference, "image")
    assert len(np.unique(wanted)) > (300 if dtype == np.uint16 else 50)
    for splits in kept[1:]:
        np.testing.assert_array_equal(column(splits.reference, "image"), wanted)
        np.testing.assert_array_equal(column(splits.reference, "height"), 30)


def test_cache_folder_is_read_and_not_made_again(mvtec, tmp_path):
    load(mvtec, cache=tmp_path / "cache")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert {path.suffix for path in times} == {".npy", ".npz"}
    splits = load(mvtec, cache=tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == times
    (images_file,) = (tmp_path / "cache").glob("*.npy")
    assert os.fspath(splits.samples.images.filename) == os.fspath(images_file)


def test_leftovers_of_dead_writers_are_deleted_and_others_are_not(mvtec, tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    (tmp_path / "cache").mkdir()
    dead, alive, elsewhere = (
        tmp_path / "cache" / f"0123.{writer}.part"
        for writer in (f"{cached.HOST}-{process.pid}", f"{cached.HOST}-{os.getppid()}", f"other-host-{process.pid}")
    )
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"half of")
    load(mvtec, cache=tmp_path / "cache")
    assert [path.exists() for path in (dead, alive, elsewhere)] == [False, True, True]


@pytest.mark.parametrize("interrupted", ["while decoding", "before the columns"])
def test_interrupted_cache_is_made_anew(mvtec, tmp_path, interrupted):
    wanted = column(load(mvtec, cache=tmp_path / "cache").test, "image")
    (columns,), (images,) = (tmp_path / "cache").glob("*.npz"), (tmp_path / "cache").glob("*.npy")
    columns.unlink()
    if interrupted == "while decoding":
        images.unlink()
    (tmp_path / "cache" / f"{columns.stem}.123.part").write_bytes(b"half of")
    np.testing.assert_array_equal(column(load(mvtec, cache=tmp_path / "cache").test, "image"), wanted)


def test_cache_tells_folders_and_edits_apart_that_have_equal_names_and_sizes(tmp_path):
    one, other = (paint(tmp_path / name, [f"{i}.bmp" for i in range(5)], first=f) for name, f in (("a", 10), ("b", 20)))
    cache = tmp_path / "cache"
    assert levels(column(load(one, cache=cache).reference, "image")).max() < 20
    assert levels(column(load(other, cache=cache).reference, "image")).min() >= 20
    paint(one, [f"{i}.bmp" for i in range(5)], first=30)
    assert levels(column(load(one, cache=cache).reference, "image")).min() >= 30


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_all_unreadable_files_are_listed_at_load(tmp_path, dtype):
    for i in range(8):
        Image.fromarray(np.random.default_rng(i).integers(0, 60000 % 2**16, (64, 64), np.uint16).astype(dtype)).save(
            tmp_path / f"{i}.png"
        )
    for name in ("2.png", "5.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1000])
    (tmp_path / "7.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)3 of 8 images.*2\.png.*5\.png.*7\.png"):
        load(tmp_path)


def test_a_bomb_among_the_files_is_named(tmp_path, monkeypatch):
    paint(tmp_path, numbered("good", 5))
    Image.new("1", (500, 500)).save(tmp_path / "good/bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"1 of 6 images.*\n.*bomb\.png"):
        load(tmp_path)


@pytest.mark.parametrize("cache", ["memory", False])
def test_dark_sixteen_bit_images_are_warned_of(tmp_path, cache):
    for i in range(5):
        Image.fromarray(np.full((8, 8), 4000 - i, np.uint16)).save(tmp_path / f"{i}.png")
    with pytest.warns(UserWarning, match=r"largest value in 5 of them is 4000 of 65535.*bits=12"):
        load(tmp_path, cache=cache)
    load(tmp_path, cache=cache, bits=12)


@pytest.mark.parametrize("brightest", [np.uint8(3), np.uint16(8192)])
def test_ordinary_images_are_not_warned_of(tmp_path, brightest):
    for i in range(5):
        Image.fromarray(np.full((8, 8), brightest)).save(tmp_path / f"{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path)


# Scoring and testing


def test_rows_of_files_tell_where_the_picture_is(mvtec, classes):
    test = load(mvtec, bits=12).test
    assert [os.path.relpath(os.fsdecode(file), mvtec).encode() for file in column(test, "file")] == list(
        column(test, "id")
    )
    assert set(column(test, "bits")) == {12}
    assert "file" not in data.load("digits").test.element_spec


@pytest.mark.parametrize("batch_size", [2, 100])
def test_read_files_skips_and_reports_what_cannot_be_read(mvtec, batch_size):
    bad = mvtec / "test/good/bad.png"
    bad.write_text("words")
    skipped = []
    paths = [mvtec / "test", mvtec / "train/good/004.png", mvtec / "test/good/000.png", mvtec / "missing.png"]
    paths.append(os.path.relpath(mvtec / "train/good/004.png"))  # one file, whatever it is called
    batches = list(data.read_files(data.list_files(paths), Preprocessing(SHAPE), batch_size, skipped))
    names = [name for batch in batches for name in batch["id"]]
    good = [*numbered("test/good", 3), *numbered("test/scratch", 4), "train/good/004.png"]
    assert names == [str(mvtec / name) for name in good]
    images = np.concatenate([batch["image"] for batch in batches])
    np.testing.assert_array_equal(levels(images), [10, 11, 12, 100, 101, 102, 103, 4])
    np.testing.assert_array_equal(np.concatenate([batch["height"] for batch in batches]), [10] * 3 + [20] * 4 + [10])
    assert sorted(name for name, _ in skipped) == sorted(map(str, (bad, mvtec / "missing.png")))
    assert all(reason.startswith("not a readable image") for _, reason in skipped)


def test_load_labelled_takes_the_test_part_of_mvtec_layout(mvtec):
    batches = data.load_labelled(mvtec, Preprocessing(SHAPE))
    assert [i.decode() for i in column(batches, "id")] == [*numbered("test/good", 3), *numbered("test/scratch", 4)]
    np.testing.assert_array_equal(column(batches, "label"), [0] * 3 + [1] * 4)


def test_load_labelled_takes_all_of_class_folders(tmp_path):
    folder = paint(tmp_path, [*numbered("bad", 3), *numbered("good", 4)])
    batches = data.load_labelled(folder, Preprocessing(SHAPE))
    np.testing.assert_array_equal(column(batches, "label"), [1] * 3 + [0] * 4)
    swapped = data.load_labelled(folder, Preprocessing(SHAPE), normal=("bad",))
    np.testing.assert_array_equal(column(swapped, "label"), [0] * 3 + [1] * 4)


def test_load_labelled_preprocesses_as_load_does(tmp_path):
    with tfds.testing.mock_data(num_examples=60):
        options = {"normal": "7", "data_dir": tmp_path}
        splits = data.load("mnist", crop=20, image_shape=(16, 16, 1), **options)
        batches = data.load_labelled("mnist", splits.preprocessing, **options)
    np.testing.assert_array_equal(column(batches, "image"), column(splits.test, "image"))


def test_load_labelled_gives_none_without_a_test_part(tmp_path):
    assert data.load_labelled(paint(tmp_path, numbered("train/good", 4)), Preprocessing(SHAPE)) is None


@pytest.mark.parametrize("part", ["train", "validation"])
def test_real_bottles_are_normal_in_training_and_calibration(real_data, part):
    splits = data.load(real_data / "mvtec256/bottle", image_shape=(32, 32, 3), cache=False)
    assert len(ids(splits, "train")) + len(ids(splits, "validation")) == 209
    assert all(re.match("train/good/", name) for name in ids(splits, part))


def test_real_bottles_have_masks_exactly_where_they_are_anomalous(real_data):
    test = data.load(real_data / "mvtec256/bottle", image_shape=(32, 32, 3), cache=False).test
    masks, labels = column(test, "mask"), column(test, "label")
    assert masks.shape == (83, 256, 256)
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), labels == 1)
    assert labels.sum() == 63


def test_real_hazelnuts_without_masks_are_split_by_folder(real_data):
    folder = real_data / "hazelnut_small256"
    splits = data.load(folder, image_shape=(16, 16, 3), cache=False)
    files = {part: len(list((folder / part).rglob("*.jpg"))) for part in ("train", "test")}
    assert len(ids(splits, "train")) + len(ids(splits, "validation")) == files["train"]
    assert len(ids(splits, "test")) == files["test"]
    assert "mask" not in splits.test.element_spec


def test_a_group_with_an_anomaly_is_not_trained_on():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    labels = np.zeros(40, int)
    labels[[3, 17]] = 1
    patients = np.arange(40) // 4  # images 0-3 are of the first patient, 16-19 of the fifth
    samples = data.load(images, labels, normal="0", group_by=patients).samples
    tested = set(samples.part("test").groups)
    assert {"0", "4"} <= tested
    assert not tested & set(samples.groups[samples.parts != "test"])


@pytest.mark.parametrize("option", [{"pattern": "*.png"}, {"group_by": "x"}, {"labels": [1]}])
def test_options_without_meaning_for_a_source_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} has no meaning"):
        data.load("digits", **option)


def test_a_missing_path_is_no_data_set_name():
    with pytest.raises(FileNotFoundError, match=r"No such folder: \./nowhere"):
        data.load("./nowhere")


def test_groups_do_not_straddle_the_parts_of_a_source_either(tmp_path):
    for part in ("train/good", "validation/good", "test/good", "test/bad"):
        (tmp_path / part).mkdir(parents=True)
    for name in (
        "train/good/p1_a", "train/good/p2_a", "train/good/p3_a",
        "validation/good/p2_b", "validation/good/p4_a", "validation/good/p5_a", "test/good/p5_b", "test/bad/p1_b",
    ):  # fmt: skip
        Image.fromarray(np.full((8, 8), 60, np.uint8)).save(tmp_path / f"{name}.png")
    samples = data.load(tmp_path, image_shape=(8, 8, 1), group_by=r"(p\d)_").samples
    assert {part: sorted(set(samples.part(part).groups)) for part in ("train", "validation", "test")} == {
        "train": ["p3"],
        "validation": ["p2", "p4"],
        "test": ["p1", "p5"],
    }


def test_streamed_folders_are_checked_before_training(tmp_path):
    for i in range(8):
        Image.fromarray(np.full((8, 8), 60, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 8 images cannot be used:\s+.*3\.png"):
        data.load(tmp_path, cache=False)


# Copies, groups, and what is told


def noise(folder, names, seed=0):
    """Pictures each of its own content, those in a tuple of names of the same one."""
    rng = np.random.default_rng(seed)
    for same in names:
        pixels = rng.integers(0, 256, (10, 12), np.uint8)
        for name in (same,) if isinstance(same, str) else same:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def contents_by_part(splits):
    return {part: set(splits.hashes(part)) for part in ("train", "validation", "test")}


@pytest.mark.parametrize("seed", range(3))
def test_copies_never_straddle_a_split(tmp_path, seed):
    pairs = [(f"good/{i:02}.png", f"good/copy of {i:02}.png") for i in range(20)]
    splits = load(noise(tmp_path, [*pairs, *numbered("bad", 4)]), normal="good", seed=seed)
    parts = contents_by_part(splits)
    assert all(parts.values())
    assert sum(map(len, parts.values())) == 24
    assert len(splits.samples) == 44
    assert "20 images are copies of others; equal ones are kept together" in splits.describe()


@pytest.mark.parametrize(("kinds", "copies"), [(12, 10), (40, 3)])
def test_many_copies_leave_the_split_as_it_should_be(tmp_path, kinds, copies):
    rng = np.random.default_rng(0)
    for kind in range(kinds):
        picture = Image.fromarray(rng.integers(0, 255, (20, 20), np.uint8))
        for copy in range(copies):
            picture.save(tmp_path / f"{kind:02}-{copy}.png")
    held_out = data.load(tmp_path).samples.part("validation")
    assert abs(len(held_out) - 0.2 * kinds * copies) <= copies
    assert len(set(held_out.contents)) * copies == len(held_out)


def test_copies_of_tested_images_are_not_trained_on(tmp_path):
    names = [("train/good/000.png", "test/good/000.png"), ("train/good/001.png", "test/bad/000.png")]
    splits = load(noise(tmp_path, [*names, *[f"train/good/{i:03}.png" for i in range(2, 12)]]))
    assert not ids(splits, "train") & {"train/good/000.png", "train/good/001.png"}
    assert ids(splits, "test") == {"test/good/000.png", "test/bad/000.png"}
    assert "2 images are left out, as others of their group, or equal ones, are in another part" in splits.describe()
    assert "1 contents are among the normal and among the anomalous images" in splits.describe()


def test_copies_in_two_groups_join_these(tmp_path):
    names = [f"p{i % 8}_{i:02}.png" for i in range(40)]
    folder = noise(tmp_path, [("p0_copy.png", "p1_copy.png"), ("p1_again.png", "p2_copy.png"), *names])
    for seed in range(6):
        splits = load(folder, group_by=r"p\d", seed=seed)
        of_part = {part: {name[:2] for name in ids(splits, part)} for part in ("train", "validation")}
        assert not of_part["train"] & of_part["validation"]
        assert len({"p0", "p1", "p2"} & of_part["train"]) in (0, 3)


def test_a_source_of_hardly_more_than_copies_is_split_all_the_same_and_told():
    pictures = np.zeros((20, 8, 8), np.uint8)
    pictures[7] = 200
    splits = data.load(pictures)
    assert len(ids(splits, "train")) == 16
    assert "18 images are copies of others; too few would be left to train on" in splits.describe()


def test_a_split_without_copies_is_not_touched(fifty):
    order = np.random.default_rng((2, 1)).permutation(50)
    assert ids(fifty, "validation") == {str(number + 1) for number in order[:10]}


def test_hashes_find_the_same_files_in_another_place(tmp_path):
    one = noise(tmp_path / "one", numbered("good", 12))
    other = noise(tmp_path / "other", numbered("test/good", 3))
    noise(other, numbered("test/bad", 2), seed=1)
    splits = load(one)
    samples = data.labelled(other, Preprocessing(SHAPE))
    known = splits.hashes("train", "validation")
    assert len(known) == 12
    assert samples.without(known).ids.tolist() == numbered("test/bad", 2)
    assert data.content_hash(one / "good/000.png") == data.content_hash(str(other / "test/good/000.png")) in known


def test_fingerprint_is_of_the_content_and_not_of_its_size(tmp_path):
    small, large, cropped = (
        data.load("leaves/train", data_dir=tmp_path, **options)
        for options in ({"image_shape": (4, 4, 1)}, {"image_shape": SHAPE}, {"image_shape": SHAPE, "crop": 6})
    )
    assert small.fingerprint == large.fingerprint == cropped.fingerprint
    assert small.hashes("train") == large.hashes("train")


def test_fingerprints_of_earlier_versions_are_known(tmp_path):
    splits = data.load("leaves/train", data_dir=tmp_path, image_shape=(4, 4, 1))
    earlier = dataclasses.replace(splits.samples, contents=None).fingerprint()
    assert earlier != splits.fingerprint
    assert splits.matches(earlier)
    assert splits.matches(splits.fingerprint)
    assert not data.load("leaves/train", data_dir=tmp_path, image_shape=(4, 4, 1), seed=1).matches(earlier)


def test_fingerprint_of_bytes_of_their_own_size_is_as_it_was(tmp_path):
    samples = data.load("leaves/train", data_dir=tmp_path, image_shape=(9, 7, 1)).samples
    assert samples.contents is not None
    assert samples.fingerprint() == dataclasses.replace(samples, contents=None).fingerprint()


@pytest.mark.parametrize(
    ("sizes", "wanted", "reached"), [([7, 7, 3, 3], 4, 3), ([9, 1, 1, 8, 1], 3, 3), ([5, 5], 2, 5), ([4, 6, 10], 4, 4)]
)
def test_groups_meet_the_fraction_as_nearly_as_they_can(tmp_path, sizes, wanted, reached):
    names = [f"g{group}_{i}.png" for group, size in enumerate(sizes) for i in range(size)]
    folder = noise(tmp_path, names)
    for seed in range(5):
        splits = load(folder, group_by=r"g\d", seed=seed, validation_fraction=wanted / len(names))
        assert len(ids(splits, "validation")) == reached
        told = f"{reached} of {len(names)} normal images are held out for validation" in splits.describe()
        assert told == (reached != wanted)


def test_group_by_that_is_no_regular_expression_is_refused(classes):
    with pytest.raises(ValueError, match=r"group_by='lot\(\\\\d\+' \(--group-by\) is no regular expression: missing"):
        load(classes, normal="oak", group_by=r"lot(\d+")


def test_group_by_whose_group_is_missing_is_refused(classes):
    with pytest.raises(ValueError, match=r"The first group of .* is not in 'ash/000\.png'"):
        load(classes, normal="oak", group_by=r"0(5)?")


def test_unreadable_files_are_left_out_on_request_and_named(tmp_path):
    noise(tmp_path, numbered("good", 20))
    (tmp_path / "good/IMG_1.jpg").write_bytes(b"\0\0\0\x24ftypheic" + bytes(40))
    (tmp_path / "good/empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)2 of 22 images cannot be used.*HEIC.*an empty file.*--skip-unreadable"):
        load(tmp_path)
    splits = load(tmp_path, skip_unreadable=True)
    assert len(splits.samples) == 20
    assert re.search(r"Not used: 2 images that cannot be read: .*IMG_1\.jpg.*HEIC.*empty\.png", splits.describe())


def test_of_many_unreadable_files_the_first_are_listed(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02}.png").write_bytes(b"words%d" % i)
    with pytest.raises(ValueError, match=r"(?s)30 of 30 images.*09\.png.*and 20 more\nNone is left") as error:
        load(tmp_path)
    assert "10.png" not in str(error.value)


def test_too_few_images_are_refused_before_training(tmp_path):
    noise(tmp_path, numbered("good", 2))
    with pytest.raises(ValueError, match=r"2 normal images to train on are the fewest.*has 1, besides 1"):
        load(tmp_path).check()
    load(noise(tmp_path, numbered("good", 3))).check()


@pytest.mark.parametrize("cache", ["memory", False])
def test_flat_and_transparent_images_and_pages_are_told(tmp_path, cache):
    noise(tmp_path, numbered("good", 10))
    Image.new("L", (12, 10), 7).save(tmp_path / "good/black.png")
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (10, 12, 4), np.uint8)).save(tmp_path / "good/clear.png")
    pages = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9), np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "good/pages.tif", save_all=True, append_images=pages[1:])
    told = load(tmp_path, cache=cache).describe()
    assert "1 images are of one colour, or nearly: 'good/black.png'" in told
    assert "1 images have transparency, and are laid on black" in told
    assert "Not used: 2 pages after the first of 1 files, such as pages.tif" in told


def test_files_of_many_pages_are_warned_of_when_scored(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("L", (8, 8))])
    with pytest.warns(UserWarning, match=r"Of 1 files only the first page is read, such as .*a\.tif"):
        list(data.read_files(data.list_files([tmp_path]), Preprocessing(SHAPE), 4, []))


@pytest.mark.parametrize("inverted", [True, False])
def test_inverted_masks_are_warned_of(mvtec, inverted):
    for path in (mvtec / "ground_truth/scratch").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(255 - mask if inverted else mask).save(path)
    with pytest.warns(UserWarning, match="masks mark most") if inverted else contextlib.nullcontext():
        load(mvtec)


def test_masks_that_mark_nothing_are_told(mvtec):
    Image.new("L", (16, 20)).save(mvtec / "ground_truth/scratch/000_mask.png")
    assert "The masks of 1 anomalous images mark nothing" in load(mvtec).describe()


@pytest.mark.parametrize("suffix", [".jfif", ".gif", ".ppm", ".tga"])
def test_half_a_folder_of_another_suffix_is_not_left_out(tmp_path, suffix):
    noise(tmp_path, numbered("good", 6))
    for name in numbered("good", 3):
        path = tmp_path / name
        Image.open(path).save(path.with_suffix(suffix), format={".jfif": "JPEG"}.get(suffix))
        path.unlink()
    assert len(load(tmp_path).samples) == 6


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ([(20, 50)], {}, (40, 104)),
        ([(50, 20)], {}, (104, 40)),
        ([(20, 25)], {}, (64, 64)),  # not long
        ([(20, 50), (20, 30)], {}, (64, 64)),  # not alike
        ([(20, 50), (20, 52)], {}, (40, 104)),
        ([(8, 400)], {}, (16, 256)),  # as large as networks may be
        ([(20, 50)], {"crop": "square"}, (64, 64)),
        ([(40, 50)], {"crop": (10, 40)}, (32, 128)),
        ([(20, 50)], {"image_shape": (32, None, None)}, (32, 64)),
        ([(20, 50)], {"patches": True, "image_shape": (16, 16, None)}, (16, 16)),
    ],
)
def test_long_pictures_keep_their_proportions(tmp_path, sizes, options, expected):
    rng = np.random.default_rng(0)
    for number in range(12):
        levels = rng.integers(0, 255, sizes[number % len(sizes)], np.uint8)
        Image.fromarray(levels).save(tmp_path / f"{number}.png")
    assert data.load(tmp_path, **options).preprocessing.image_shape == (*expected, 1)
