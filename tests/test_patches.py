import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import anogan_tf as agt
from anogan_tf import data, metrics, patches, scoring, thresholds
from anogan_tf.data.samples import Preprocessing
from tests.conftest import small_gan

SIDE = 16


class Brightness:
    """A scorer of tiles whose map is |image| and whose score is its largest value: exact, whatever the tiles."""

    image_shape = (SIDE, SIDE, 1)
    any_size = False
    chunk = 4
    learns = False
    needs_z = maps_need_z = False
    fingerprint = "of no networks"
    smoothing = 0.0
    seed = 0
    settings = {"chunk": 4}  # noqa: RUF012
    reference = None
    calibration = None

    def __init__(self):
        self.seen = []

    def fit_reference(self, tiles):
        self.seen = [row["image"] for row in scoring.image_rows(tiles, self.image_shape)]

    def score_chunk(self, images, *, decide=True, draw=True, progress=None):
        self.seen.append(images)
        maps = np.abs(images).mean(axis=-1)
        decided = {"anomaly_score": maps.max(axis=(1, 2)), "anomaly_map": maps}
        drawn = {
            "residual": maps.mean(axis=(1, 2)),
            "discrimination": maps.min(axis=(1, 2)),
            "reconstruction": images.copy(),
            "z": np.zeros((len(images), 3)),
        }
        return (decided if decide else {}) | (drawn if draw else {})


def textures(n, size=(80, 80), seed=0):
    """Stripes of many phases and slopes, `(n, *size, 1)`, within ±0.4."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    slopes, phases = rng.uniform(0.3, 0.8, (n, 2, 1, 1)), rng.uniform(0, 2 * np.pi, (n, 1, 1))
    waves = 0.3 * np.sin(slopes[:, 0] * y + slopes[:, 1] * x + phases)
    return (waves + rng.uniform(-0.1, 0.1, waves.shape))[..., None].astype(np.float32)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint((np.squeeze(image) + 1) * 127.5).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """MVTec layout with images of three sizes; the two defects are squares of 3 pixels, with masks."""
    for i in range(12):
        save(tmp_path / f"train/good/{i:02}.png", textures(1, (20 + 8 * (i % 3), 30), seed=i)[0])
    for i, (top, left) in enumerate([(0, 0), (21, 40)]):
        image, mask = textures(1, (24, 50 - i), seed=50 + i)[0], np.full((24, 50 - i), -1.0)
        image[top : top + 3, left : left + 3] = mask[top : top + 3, left : left + 3] = 1.0
        save(tmp_path / f"test/spot/{i}.png", image)
        save(tmp_path / f"ground_truth/spot/{i}_mask.png", mask)
        save(tmp_path / f"test/good/{i}.png", textures(1, (30, 20), seed=60 + i)[0])
    return tmp_path


def load(source, **options):
    return data.load(source, **({"patches": True, "image_shape": (SIDE, SIDE, 1), "batch_size": 8} | options))


@pytest.mark.parametrize("seed", range(12))
def test_stitched_tiles_give_the_image_back(seed):
    rng = np.random.default_rng(seed)
    patch = tuple(rng.integers(1, 20, 2))
    size = tuple(side + int(more) for side, more in zip(patch, rng.integers(0, 60, 2), strict=True))
    image = rng.uniform(-1, 1, (*size, *[(), (1,), (3,)][seed % 3])).astype(np.float32)
    corners = patches.grid(size, patch, overlap=rng.choice([0.0, 0.3, 0.5, 0.9]))
    stitched = patches.stitch(patches.tiles(image, corners, patch), corners, size)
    assert stitched.dtype == np.float32
    np.testing.assert_allclose(stitched, image, atol=5e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("size", [(16, 16), (17, 80), (81, 33), (160, 31)])
def test_tiles_cover_the_image_to_its_edges_and_overlap_enough(size, overlap):
    corners = patches.grid(size, (16, 12), overlap=overlap)
    assert len(np.unique(corners, axis=0)) == len(corners)
    for axis, side in enumerate((16, 12)):
        starts = np.unique(corners[:, axis])
        assert starts[0] == 0
        assert starts[-1] == size[axis] - side
        assert np.all(side - np.diff(starts) >= overlap * side)


def test_a_stitched_map_has_no_step_where_a_tile_ends():
    corners = patches.grid((16, 56), (16, 16))
    levels = np.random.default_rng(0).uniform(0, 1, len(corners))
    stitched = patches.stitch((np.full((16, 16), level) for level in levels), corners, (16, 56))
    assert np.abs(np.diff(stitched, axis=1)).max() < 1.2 / 8  # a plain mean would step by up to a half


def test_an_image_smaller_than_a_tile_is_refused_by_name():
    with pytest.raises(ValueError, match=r"left\.png: of 15×80 pixels, smaller than the patch of 16×16.*larger size"):
        agt.Patched(Brightness()).score([{"image": textures(1, (15, 80)), "id": ["left.png"]}])


def test_overlap_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"overlap=1\.0"):
        agt.Patched(Brightness(), overlap=1.0)


@pytest.mark.parametrize("place", [(0, 0), (79, 79), (0, 40), (7, 8), (15, 16), (33, 61)])
def test_a_defect_is_the_largest_pixel_of_the_map_in_its_place(place):
    image = textures(1)
    image[(0, *place)] = 1.0
    out = agt.Patched(Brightness()).score(image)
    assert out["anomaly_map"].shape == (1, 80, 80)
    assert np.unravel_index(out["anomaly_map"].argmax(), (1, 80, 80)) == (0, *place)
    np.testing.assert_allclose(out["anomaly_map"][0], np.abs(image[0, ..., 0]), atol=1e-6)
    np.testing.assert_allclose(out["reconstruction"], image, atol=1e-6)
    assert out["anomaly_score"] == 1.0


def test_an_image_scores_as_its_most_anomalous_tile_and_means_over_the_others():
    image = textures(1, (16, 40))
    out = agt.Patched(Brightness(), overlap=0.0).score(image)
    tiles = np.stack(list(patches.tiles(np.abs(image[0]), patches.grid((16, 40), (16, 16), overlap=0.0), (16, 16))))
    assert out["anomaly_score"][0] == tiles.max()
    np.testing.assert_allclose(out["residual"][0], tiles.mean(), rtol=1e-5)


def test_the_map_is_smoothed_once_over_the_whole_image():
    inner, image = Brightness(), textures(1, (40, 56))
    inner.smoothing = 0.1  # of the networks' 16 pixels
    smooth = agt.Patched(inner).score(image)["anomaly_map"][0]
    np.testing.assert_allclose(smooth, ndimage.gaussian_filter(np.abs(image[0, ..., 0]), 1.6), atol=1e-5)


def test_tiles_are_scored_in_the_chunks_of_their_scorer():
    inner = Brightness()
    agt.Patched(inner).score(textures(2, (24, 40)))
    assert [len(images) for images in inner.seen] == [inner.chunk + scoring.guard(inner.chunk)] * 4  # 8 tiles each
    for images in inner.seen[:2]:
        assert np.all(images[4:] == images[:1])


def test_images_of_different_sizes_come_one_by_one():
    batches = [textures(1, (20, 30)), textures(2, (16, 44))]
    patched = agt.Patched(Brightness())
    assert [out["anomaly_map"].shape for out in patched.score_batches(batches)] == [(1, 20, 30), *[(1, 16, 44)] * 2]
    with pytest.raises(ValueError, match="use score_batches"):
        patched.score(batches)


@pytest.fixture(scope="module")
def striped():
    """A GAN trained for moments on random patches of striped images of 80 pixels."""
    gan = agt.DCGAN(image_shape=(SIDE, SIDE, 1), latent_dim=8, width=8)
    gan.compile()
    gan.fit(load(textures(30), batch_size=32).train, epochs=8, shuffle=False, verbose=0)
    return gan


def test_an_encoder_scores_patches_too(striped):
    fanogan = agt.FAnoGAN(striped, chunk=16)
    fanogan.compile()
    fanogan.fit(load(textures(30), batch_size=32).train, epochs=4, shuffle=False, verbose=0)
    patched = agt.Patched(fanogan)
    patched.fit_reference(textures(6, seed=1))
    image = textures(1, seed=2)
    image[0, 37, 61] = 1.0
    out = patched.score(image)
    assert np.unravel_index(out["anomaly_map"].argmax(), (1, 80, 80)) == (0, 37, 61)
    np.testing.assert_array_equal(
        patched.score(np.concatenate([textures(1), image]))["anomaly_score"][1], out["anomaly_score"][0]
    )


@pytest.mark.parametrize("place", [(37, 61), (0, 79), (15, 16)], ids=["inside", "at the corner", "between tiles"])
def test_a_trained_gan_finds_a_defect_of_one_pixel_in_an_image_five_times_its_size(striped, place):
    patched = agt.Patched(agt.AnoGAN(striped, steps=15, chunk=32, score="paper"))
    image = textures(1, seed=2)
    image[(0, *place)] = 1.0
    anomaly_map = patched.score(image)["anomaly_map"][0]
    assert np.unravel_index(anomaly_map.argmax(), (80, 80)) == place


def test_a_defect_makes_the_image_anomalous_wherever_it_is(striped):
    patched = agt.Patched(agt.AnoGAN(striped, steps=15, chunk=32, score="paper"))
    images = np.repeat(textures(1, seed=3), 3, axis=0)
    images[1, 34:42, 50:58] = 1.0
    images[2, :8, 72:] = 1.0
    scores = patched.score(images)["anomaly_score"]
    assert scores[1:].min() > 1.2 * scores[0]


def test_a_score_is_bit_identical_alone_and_in_company(striped):
    patched = agt.Patched(agt.AnoGAN(striped, steps=4, chunk=8, score="paper"))
    images = textures(3, (30, 41))
    together, turned = patched.score(images), patched.score(images[::-1])
    for i in range(3):
        alone = patched.score(images[i : i + 1])
        for name in ("anomaly_score", "residual", "discrimination", "anomaly_map", "reconstruction"):
            np.testing.assert_array_equal(alone[name][0], together[name][i])
            np.testing.assert_array_equal(turned[name][2 - i], together[name][i])


def test_an_image_of_the_networks_size_scores_as_without_tiles(striped):
    anogan = agt.AnoGAN(striped, steps=2, chunk=1, score="paper")
    image = textures(1, (SIDE, SIDE))
    for name, value in agt.Patched(anogan).score(image).items():
        if name == "id":
            continue
        np.testing.assert_allclose(value, anogan.score(image)[name], atol=1e-5)


def test_calibration_is_on_the_scores_of_images():
    patched, images = agt.Patched(Brightness()), textures(19, (24, 40))
    patched.calibrate(images, alpha=0.05)
    largest = np.sort(np.abs(images).max(axis=(1, 2, 3)))
    np.testing.assert_array_equal(patched.calibration.scores, largest)
    threshold, _ = thresholds.level(largest, scoring.REGION_RATE)
    np.testing.assert_allclose(patched.calibration.pixel_threshold, threshold, atol=1e-6)


def test_reference_tiles_are_spread_over_all_images(monkeypatch):
    monkeypatch.setattr(scoring, "REFERENCE_IMAGES", 60)
    inner, levels = Brightness(), np.linspace(-1, 0.9, 20)
    agt.Patched(inner).fit_reference(np.broadcast_to(levels[:, None, None, None], (20, 40, 40, 1)))  # 16 tiles each
    assert len(inner.seen) == 60
    assert len({float(tile[0, 0, 0]) for tile in inner.seen}) > 15


def test_a_new_reference_asks_for_a_new_calibration(striped):
    patched = agt.Patched(agt.AnoGAN(striped, steps=1, chunk=8))
    patched.fit_reference(textures(3, (24, 24)))
    assert patched.reference is patched.scorer.reference
    with pytest.warns(UserWarning, match="0.05"):
        patched.calibrate(textures(2, (24, 24), seed=1))
    patched.fit_reference(textures(3, (24, 24), seed=2))
    assert patched.calibration is None


def test_settings_make_an_equal_scorer(striped):
    patched = agt.Patched(agt.AnoGAN(striped, steps=2, chunk=8, score="paper"), overlap=0.25)
    settings = json.loads(json.dumps(patched.settings))
    overlap = settings.pop("overlap")
    again = agt.Patched(agt.AnoGAN(striped, **settings), overlap=overlap)
    image = textures(1, (24, 30))
    np.testing.assert_array_equal(again.score(image)["anomaly_map"], patched.score(image)["anomaly_map"])


def test_defects_in_a_folder_are_found_with_masks_and_regions_of_their_own_pixels(folder, tmp_path):
    splits = load(folder, validation_fraction=0.4)
    patched = agt.Patched(Brightness())
    with pytest.warns(UserWarning, match="0.05"):
        patched.calibrate(splits.validation)
    result = patched.test(splits.test, results_dir=tmp_path / "results")
    assert (result.pixel_auroc, result.auroc, result.accuracy) == (1.0, 1.0, 1.0)
    boxes = {
        row["id"]: [region["box"] for region in found]
        for row, found in zip(result.results, result.regions, strict=True)
    }
    assert boxes == {
        "test/good/0.png": [],
        "test/good/1.png": [],
        "test/spot/0.png": [(0, 0, 2, 2)],
        "test/spot/1.png": [(21, 40, 23, 42)],
    }
    assert (tmp_path / "results" / "test_image_001.png").exists()


def test_maps_are_not_resized_again(folder, monkeypatch):
    splits = load(folder)
    patched = agt.Patched(Brightness())
    with pytest.warns(UserWarning, match="0.05"):
        patched.calibrate(splits.validation)
    monkeypatch.setattr(metrics.Image, "fromarray", None)  # which a resize would call
    patched.test(splits.test)


def contained(patch, image):
    """Whether a patch is a part of an image, both `(height, width, 1)`."""
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], patch.shape[:2])
    return bool(np.any(np.all(np.abs(windows - patch[..., 0]) < 1e-6, axis=(2, 3))))


@pytest.mark.parametrize("cache", ["memory", False, "folder"])
def test_patches_are_of_training_images_only(folder, tmp_path, cache):
    splits = load(folder, cache=str(tmp_path / "kept") if cache == "folder" else cache, batch_size=4)
    own = [batch["image"][0] for batch in splits.reference.as_numpy_iterator()]
    held_out = [batch["image"][0] for batch in splits.validation.as_numpy_iterator()]
    assert {image.shape for image in own} == {(20, 30, 1), (28, 30, 1), (36, 30, 1)}
    batches = [images for images, _ in splits.train.as_numpy_iterator()]
    assert len(batches) == len(splits.train) == sum(round(i.size / SIDE**2) for i in own) // 4
    for patch in np.concatenate(batches):
        assert any(contained(patch, image) for image in own)
        assert not any(contained(patch, image) for image in held_out)


def test_training_patches_are_a_function_of_seed_and_epoch():
    def epoch(seed, number):
        train = load(textures(6, (30, 40)), seed=seed).train
        train.epoch.assign(number)
        return np.stack([images for images, _ in train.as_numpy_iterator()])

    np.testing.assert_array_equal(epoch(0, 3), epoch(0, 3))
    assert not np.array_equal(epoch(0, 3), epoch(0, 4))
    assert not np.array_equal(epoch(0, 3), epoch(1, 3))


def test_training_patches_come_from_everywhere():
    y, x = np.mgrid[:18, :20]
    places = np.broadcast_to(((y * 20 + x) / 180 - 1)[None, ..., None], (40, 18, 20, 1))  # a pixel tells where it is
    splits = load(places, batch_size=1)
    corners = [
        round((float(images[0, 0, 0, 0]) + 1) * 180)
        for _ in range(20)
        for images, _ in splits.train.as_numpy_iterator()
    ]
    counts = np.bincount(corners)[(y * 20 + x)[:3, :5]]
    assert counts.sum() == len(corners) == 640  # 32 images, 1.4 patches' area each
    assert counts.min() > 640 / 15 / 2
    assert counts.max() < 640 / 15 * 2


@pytest.mark.parametrize("levels", [2**8, 2**16])
def test_images_are_the_same_however_they_are_kept(tmp_path, levels):
    rng = np.random.default_rng(0)
    for i in range(6):
        values = rng.integers(0, levels, (20 + i, 30 - i)).astype(np.uint8 if levels == 2**8 else np.uint16)
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    kept = [load(tmp_path, cache=cache, batch_size=3) for cache in (False, "memory", str(tmp_path / "kept"))]
    kept.append(load(tmp_path, cache=str(tmp_path / "kept"), batch_size=3))  # which is there by now
    for part in ("reference", "validation"):
        expected, *others = (list(getattr(splits, part).as_numpy_iterator()) for splits in kept)
        for batches in others:
            for batch, same in zip(batches, expected, strict=True):
                np.testing.assert_array_equal(batch["image"], same["image"])
                assert (batch["id"], batch["height"], batch["width"]) == (same["id"], same["height"], same["width"])
    expected, *others = (list(splits.train.as_numpy_iterator()) for splits in kept)
    for batches in others:
        np.testing.assert_array_equal([images for images, _ in batches], [images for images, _ in expected])


@pytest.mark.parametrize("cache", ["memory", False])
def test_images_smaller_than_a_patch_are_all_named_at_load(folder, cache):
    for i in range(2):
        save(folder / f"train/good/small{i}.png", textures(1, (15, 40))[0])
    with pytest.raises(ValueError, match=r"(?s)2 of 18 .*small0\.png: of 15×40 pixels.*small1\.png.*smaller patches"):
        load(folder, cache=cache)


def test_arrays_smaller_than_a_patch_are_refused_at_load():
    with pytest.raises(ValueError, match="the images: of 12×40 pixels"):
        load(textures(8, (12, 40)))


def test_crop_and_scale_come_before_patches(folder):
    splits = load(folder, crop=(20, 18), scale=2.0, cache=False)
    kept = load(folder, crop=(20, 18), scale=2.0)
    for batch, same in zip(splits.test.as_numpy_iterator(), kept.test.as_numpy_iterator(), strict=True):
        assert batch["image"].shape == (1, 40, 36, 1)
        assert batch["mask"].shape == (1, 20, 18)
        assert (batch["height"], batch["width"]) == (20, 18)
        np.testing.assert_array_equal(batch["image"], same["image"])


def test_masks_and_regions_of_scaled_images_are_in_the_pixels_of_the_file(folder):
    splits = load(folder, scale=2.0)
    patched = agt.Patched(Brightness())
    with pytest.warns(UserWarning, match="0.05"):
        patched.calibrate(splits.validation)
    result = patched.test(splits.test)
    assert result.pixel_auroc > 0.99
    row, column = result.regions[-1][0]["peak_at"]
    assert 21 <= row < 24
    assert 40 <= column < 43


def test_scale_without_patches_is_refused():
    with pytest.raises(ValueError, match=r"scale is for patches=True.*scale=0\.5"):
        data.load("digits", scale=0.5)


def test_preprocessing_of_patches_survives_json():
    preprocessing = load(textures(8), scale=0.5).preprocessing
    fields = json.loads(json.dumps(dataclasses.asdict(preprocessing)))
    assert Preprocessing(**fields | {"image_shape": tuple(fields["image_shape"])}) == preprocessing


def test_files_and_labelled_folders_are_read_whole(folder):
    preprocessing = load(folder).preprocessing
    (folder / "broken.png").write_bytes(b"no image")
    skipped = []
    files = data.list_files([folder / "test/spot", folder / "broken.png"])
    batches = list(data.read_files(files, preprocessing, 8, skipped))
    assert [batch["image"].shape for batch in batches] == [(1, 24, 50, 1), (1, 24, 49, 1)]
    assert len(skipped) == 1
    labelled = data.load_labelled(folder, preprocessing)
    assert [batch["image"].shape[1:3] for batch in labelled] == [(30, 20), (30, 20), (24, 50), (24, 49)]


def test_npz_gives_patches_of_its_images(tmp_path):
    bytes_ = np.rint((textures(12, (20, 24)) + 1) * 127.5).astype(np.uint8)
    np.savez(tmp_path / "set.npz", train_images=bytes_)
    splits = load(tmp_path / "set.npz")
    assert next(iter(splits.train))[0].shape == (8, SIDE, SIDE, 1)
    assert next(iter(splits.validation))["image"].shape == (1, 20, 24, 1)


@pytest.mark.usefixtures("untraced")
def test_an_untrained_gan_takes_patches_end_to_end(folder):
    splits = load(folder, image_shape=(8, 8, 1))
    gan = small_gan()
    gan.compile()
    gan.fit(splits.train, epochs=1, shuffle=False, verbose=0)
    patched = agt.Patched(agt.AnoGAN(gan, steps=1, chunk=16))
    patched.fit_reference(splits.reference)
    with pytest.warns(UserWarning, match="0.05"):
        patched.calibrate(splits.validation)
    results, _, _ = patched.test(splits.test)
    assert [row["id"] for row in results] == splits.samples.part("test").ids.tolist()
