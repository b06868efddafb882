import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from anogan_tf import metrics


def test_figures_of_a_small_example():
    figures = metrics.image_metrics([0, 0, 0, 1, 1], [0.1, 0.2, 0.9, 0.8, 0.3], threshold=0.5)
    assert figures["confusion"] == {"tn": 2, "fp": 1, "fn": 1, "tp": 1}
    assert figures["auroc"] == pytest.approx(4 / 6)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert figures["f1"] == pytest.approx(0.5)
    assert figures["average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (figures["base_rate"], figures["n"]) == (0.4, 5)
    assert metrics.image_metrics([0, 0, 1], [1.0, 1.0, 1.0], threshold=0.5)["base_rate"] == pytest.approx(1 / 3)


def test_a_score_at_the_threshold_is_normal():
    assert metrics.image_metrics([0, 1], [1.0, 1.0], threshold=1.0)["confusion"] == {"tn": 1, "fp": 0, "fn": 1, "tp": 0}


def test_one_class_leaves_undefined_what_needs_two():
    figures = metrics.image_metrics([0, 0], [0.1, 0.9], threshold=0.5)
    assert {name for name, value in figures.items() if value is None} == {
        "auroc",
        "average_precision",
        "balanced_accuracy",
        "f1",
    }
    assert figures["accuracy"] == 0.5


def squares():
    """Two masks: one with two regions of very different size, one of a normal image."""
    mask = np.zeros((20, 30), bool)
    mask[2:12, 3:13] = True
    mask[15:17, 20:22] = True
    return [mask, np.zeros((10, 10), bool)]


def test_perfect_maps_get_one():
    masks = squares()
    assert metrics.pixel_metrics(masks, [mask.astype(float) for mask in masks]) == {
        "pixel_auroc": pytest.approx(1.0),
        "aupro": pytest.approx(1.0),
    }


def test_random_maps_get_what_chance_gives():
    rng = np.random.default_rng(0)
    masks = [np.tile(mask, (8, 8)) for mask in squares()]
    figures = metrics.pixel_metrics(masks, [rng.random(mask.shape) for mask in masks])
    assert figures["pixel_auroc"] == pytest.approx(0.5, abs=0.02)
    assert figures["aupro"] == pytest.approx(0.15, abs=0.02)  # the area under y = x up to 0.3, over 0.3


def test_a_resized_map_is_bilinear():
    """Half-way between two values lies their mean, and each stays where it was."""
    resized = metrics.resize_map([[0.0, 1.0]], (1, 8))
    np.testing.assert_allclose(resized[0], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)


def aupro_by_thresholds(masks, maps, limit):
    """The definition, threshold by threshold."""
    regions = []
    for mask, anomaly_map in zip(masks, maps, strict=True):
        labelled, n = ndimage.label(mask, np.ones((3, 3)))
        regions += [anomaly_map[labelled == i] for i in range(1, n + 1)]
    normal = np.concatenate([m[~mask] for mask, m in zip(masks, maps, strict=True)])
    levels = [np.inf, *np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]]
    rates = np.array([np.mean(normal >= t) for t in levels])
    overlaps = np.array([np.mean([np.mean(r >= t) for r in regions]) for t in levels])
    grid = np.linspace(0, limit, 20_001)
    return np.mean(np.interp(grid, rates, overlaps))


def test_aupro_is_the_area_under_the_mean_overlap_of_regions():
    rng = np.random.default_rng(1)
    masks = squares()
    maps = [np.round(rng.random(mask.shape) + 0.5 * mask * rng.random(), 2) for mask in masks]
    expected = aupro_by_thresholds(masks, maps, 0.3)
    assert metrics.pixel_metrics(masks, maps)["aupro"] == pytest.approx(expected, abs=2e-3)


def by_sorting_all_pixels(masks, maps, limit=0.3):
    """Both figures by scikit-learn, from one array of all pixels, where each region weighs the same."""
    values = np.concatenate([metrics.resize_map(m, mask.shape).ravel() for m, mask in zip(maps, masks, strict=True)])
    labels = np.concatenate([mask.ravel() for mask in masks])
    weights = []
    for mask in masks:
        regions, _ = ndimage.label(mask, np.ones((3, 3)))
        weights.append(np.where(mask, 1.0 / np.bincount(regions.ravel())[regions], 1.0).ravel())
    rates, overlaps, _ = sklearn_metrics.roc_curve(labels, values, sample_weight=np.concatenate(weights))
    inside = rates < limit
    at_limit = np.interp(limit, rates, overlaps)
    area = sklearn_metrics.auc([*rates[inside], limit], [*overlaps[inside], at_limit])
    return {"pixel_auroc": sklearn_metrics.roc_auc_score(labels, values), "aupro": area / limit}


@pytest.mark.parametrize("block", [1, 7, 2**20])
@pytest.mark.parametrize("decimals", [1, 7])
@pytest.mark.parametrize("size", [None, (7, 5)], ids=["own size", "resized"])
def test_pixel_figures_are_those_of_all_pixels_sorted(block, decimals, size, monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", block)
    rng = np.random.default_rng(decimals)
    masks = [*squares(), squares()[0].T, np.kron(np.eye(3), np.ones((3, 2))) > 0]  # the last touch at corners
    maps = [np.round(metrics.resize_map(rng.random(m.shape) + 0.3 * m, size), decimals) for m in masks]
    expected = by_sorting_all_pixels(masks, maps)
    assert metrics.pixel_metrics(masks, maps) == pytest.approx(expected, rel=1e-9)


def test_pixel_figures_take_little_memory():
    rng = np.random.default_rng(0)
    masks = [np.pad(np.ones((20, 20), bool), ((40, 68), (30, 78))) for _ in range(60)]
    maps = [rng.random((32, 32), np.float32) for _ in masks]
    pixels = sum(mask.size for mask in masks)
    tracemalloc.start()
    metrics.pixel_metrics(masks, maps)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * pixels


def test_a_small_region_weighs_as_much_as_a_large_one():
    masks = squares()
    labelled, _ = ndimage.label(masks[0])
    found = [metrics.pixel_metrics(masks, [(labelled == i).astype(float), np.zeros((10, 10))])["aupro"] for i in (1, 2)]
    assert found[0] == pytest.approx(found[1], abs=0.01)


@pytest.mark.parametrize("mask", [np.zeros((4, 4), bool), np.ones((4, 4), bool)], ids=["empty", "full"])
def test_pixel_figures_need_both_kinds_of_pixels(mask):
    assert metrics.pixel_metrics([mask], [np.ones((4, 4))]) == {"pixel_auroc": None, "aupro": None}


def test_maps_are_resized_to_the_mask():
    mask = np.zeros((40, 60), bool)
    mask[:20, :30] = True
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[:2, :3] = 1.0
    assert metrics.pixel_metrics([mask], [anomaly_map])["pixel_auroc"] > 0.999


def test_resized_map_keeps_its_mean_and_its_corner():
    ramp = np.add.outer(np.arange(8.0), np.arange(8.0))
    large = metrics.resize_map(ramp, (32, 16))
    assert large.shape == (32, 16)
    assert large.mean() == pytest.approx(ramp.mean(), rel=1e-5)
    assert large[0, 0] == large.min()
    np.testing.assert_allclose(metrics.resize_map(large, (8, 8)), ramp, atol=0.6)


def test_regions_have_box_area_and_peak_the_highest_first():
    anomaly_map = np.zeros((10, 12))
    anomaly_map[1:3, 2:5] = 0.6
    anomaly_map[7, 9] = 0.9
    anomaly_map[8, 10] = 0.7  # touches the one before at a corner
    anomaly_map[0, 11] = 0.5
    found = metrics.regions(anomaly_map, 0.5)
    assert found == [
        {"box": (7, 9, 8, 10), "area": 2, "peak": 0.9, "peak_at": (7, 9)},
        {"box": (1, 2, 2, 4), "area": 6, "peak": 0.6, "peak_at": (1, 2)},
    ]


def test_no_region_without_a_pixel_above_the_threshold():
    assert metrics.regions(np.ones((3, 3)), 1.0) == []


def test_the_strongest_region_is_around_the_peak_and_its_mask_is_it_alone():
    anomaly_map = np.zeros((20, 30), np.float32)
    anomaly_map[3:6, 4:7] = 0.5
    anomaly_map[4, 5] = 0.6
    anomaly_map[15, 20:24] = 0.4
    anomaly_map[18, 28] = 0.3
    region = metrics.strongest_region(anomaly_map)
    assert region["box"] == (3, 4, 5, 6)
    assert region["peak_at"] == (4, 5)
    mask = metrics.region_mask(anomaly_map, [region], threshold=1.0)
    np.testing.assert_array_equal(np.argwhere(mask), np.argwhere(anomaly_map >= 0.5))
    np.testing.assert_array_equal(metrics.region_mask(anomaly_map, [], 0.35), anomaly_map > 0.35)
    assert metrics.strongest_region(np.full((8, 8), 0.2, np.float32))["area"] == 64
