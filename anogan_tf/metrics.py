"""From scores, labels, anomaly maps and masks to the figures of a detector."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

AUPRO_LIMIT = 0.3
STRONGEST = 0.02  # part of a picture
BLOCK = 2**20  # levels that are looked at together, see `pixel_metrics`


def image_metrics(labels: Sequence[int], scores: Sequence[float], threshold: float) -> dict:
    """Figures of the scores and of the decision score > threshold.

    Args:
        labels: 0 normal, 1 anomalous, `(n,)`.
        scores: Larger is more anomalous, `(n,)`.
        threshold: A float.

    Returns:
        A dict with `auroc`, `average_precision`, `accuracy`, `balanced_accuracy`, `f1`, `base_rate` (the share of
        anomalous images), `confusion` (`tn`, `fp`, `fn`, `tp`) and `n`. What one class alone leaves undefined is None.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    predictions = (scores > threshold).astype(int)
    tn, fp, fn, tp = sklearn_metrics.confusion_matrix(labels, predictions, labels=[0, 1]).ravel().tolist()
    both = len(np.unique(labels)) == 2
    return {
        "auroc": float(sklearn_metrics.roc_auc_score(labels, scores)) if both else None,
        "average_precision": float(sklearn_metrics.average_precision_score(labels, scores)) if both else None,
        "accuracy": (tp + tn) / len(labels),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2 if both else None,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fn else None,
        "base_rate": float(np.mean(labels)),
        "confusion": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
        "n": len(labels),
    }


def pixel_metrics(masks: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> dict:
    """How well anomaly maps point at the anomalous pixels of all images together.

    Both figures are areas under a curve over the false-positive rate: of the part of anomalous pixels found (AUROC),
    and of the mean part found of each connected region, up to a rate of `AUPRO_LIMIT` and divided by it (AUPRO). Curves
    turn only at the levels that anomalous pixels have, so normal pixels are only counted between those: memory is that
    of the anomalous pixels and of one image.

    Args:
        masks: Boolean arrays `(height, width)`, each of its own size; empty for a normal image.
        maps: Anomaly maps `(map_height, map_width)`; each is resized to its mask.

    Returns:
        A dict with `pixel_auroc` and `aupro`, both None if no mask, or every mask, is all anomalous pixels.

    References:
        Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.1 (AUPRO).
    """
    masks = [np.asarray(mask, bool) for mask in masks]
    normal = sum(mask.size - np.count_nonzero(mask) for mask in masks)
    levels = [resize_map(m, mask.shape)[mask] for m, mask in zip(maps, masks, strict=True)]
    levels = np.unique(np.concatenate(levels)) if levels else np.empty(0)  # ascending
    if normal == 0 or len(levels) == 0:
        return {"pixel_auroc": None, "aupro": None}
    auroc = aupro = 0.0
    passed, above = np.zeros(3), np.inf  # pixels above the levels so far: normal, anomalous, and by parts of regions
    for end in range(len(levels), 0, -BLOCK):
        block = levels[max(0, end - BLOCK) : end]
        cells = _cells(masks, maps, block, above)[:, ::-1]
        curve = np.cumsum(np.column_stack([passed, cells]), axis=1)  # (3, 2 levels + 1)
        rates = curve[0] / normal
        auroc += _area(rates, curve[1], 1.0)
        aupro += _area(rates, curve[2], AUPRO_LIMIT)
        passed, above = curve[:, -1], block[0]
    rate = passed[0] / normal  # below the lowest level nothing is left to find
    auroc += (1.0 - rate) * passed[1]
    aupro += max(0.0, AUPRO_LIMIT - rate) * passed[2]
    auroc, aupro = auroc / passed[1], aupro / (AUPRO_LIMIT * passed[2])
    return {"pixel_auroc": min(1.0, float(auroc)), "aupro": min(1.0, float(aupro))}  # sums round


def _cells(masks, maps, levels, above):
    """Numbers of pixels by their values: at each of the levels, and between it and the next or `above`.

    Returns:
        `(3, 2 levels)`: of normal pixels, of anomalous ones, and of these as parts of their regions.
    """
    cells = np.zeros((3, 2 * len(levels)))
    for mask, anomaly_map in zip(masks, maps, strict=True):
        values = resize_map(anomaly_map, mask.shape)
        inside = (values >= levels[0]) & (values < above)
        np.add.at(cells[0], _places(levels, np.sort(values[inside & ~mask])), 1)
        inside &= mask
        places = _places(levels, values[inside])
        np.add.at(cells[1], places, 1)
        parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        np.add.at(cells[2], places, 1.0 / np.bincount(parts.ravel())[parts[inside]])
    return cells


def _places(levels, values):
    """The cell of each value: 2 i for one at the i-th level, 2 i + 1 for one above it and below the next."""
    return np.searchsorted(levels, values, "left") + np.searchsorted(levels, values, "right") - 1


def _area(rates, heights, limit):
    """The area under a curve from its first rate to `limit`, or to its last rate if that is lower."""
    inside = rates < limit
    rates, heights = (
        np.append(rates[inside], min(limit, rates[-1])),
        np.append(heights[inside], np.interp(limit, rates, heights)),
    )
    return np.trapezoid(heights, rates)


def regions(anomaly_map: np.ndarray, threshold: float, *, is_alarm: bool = False) -> list[dict]:
    """The connected regions of the map above a threshold, the highest peak first, of equal ones the upper.

    Of an alarm's map there is at least the strongest, see `strongest_region`.

    Args:
        anomaly_map: `(height, width)`.
        threshold: A float; pixels are anomalous where the map exceeds it.
        is_alarm: Whether the picture raises an alarm.

    Returns:
        A list of dicts: `box` as (top, left, bottom, right), the pixels' rows and columns, all four inside; `area` in
        pixels; `peak`, the largest value; `peak_at`, its (row, column).
    """
    labelled, _ = ndimage.label(anomaly_map > threshold, structure=np.ones((3, 3)))
    found = []
    for index, box in enumerate(ndimage.find_objects(labelled), start=1):
        inside = labelled[box] == index
        values = np.where(inside, anomaly_map[box], -np.inf)
        row, column = np.unravel_index(values.argmax(), values.shape)
        rows, columns = box
        found.append(
            {
                "box": (rows.start, columns.start, rows.stop - 1, columns.stop - 1),
                "area": int(inside.sum()),
                "peak": float(values[row, column]),
                "peak_at": (int(rows.start + row), int(columns.start + column)),
            }
        )
    if is_alarm and not found:
        return [strongest_region(anomaly_map)]
    return sorted(found, key=lambda region: (-region["peak"], region["peak_at"]))


def strongest_region(anomaly_map: np.ndarray) -> dict:
    """The region around the largest value, of the `STRONGEST` part of the picture that is highest.

    Returns:
        As of `regions`, and `level`, the value that it exceeds.
    """
    below_peak = np.nextafter(anomaly_map.max(), -np.inf, dtype=anomaly_map.dtype)
    level = min(float(np.quantile(anomaly_map, 1 - STRONGEST)), float(below_peak))
    return regions(anomaly_map, level)[0] | {"level": level}


def region_mask(anomaly_map: np.ndarray, found: Sequence[dict], threshold: float) -> np.ndarray:
    """The pixels of regions, `(height, width)`: all above the threshold, and of a `strongest_region` its own."""
    mask = anomaly_map > threshold
    for region in found:
        if "level" in region:
            labelled, _ = ndimage.label(anomaly_map > region["level"], structure=np.ones((3, 3)))
            mask |= labelled == labelled[tuple(region["peak_at"])]
    return mask


def resize_map(anomaly_map: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray:
    """The map at another `(height, width)`, bilinear, averaged where it shrinks; as it is for None."""
    anomaly_map = np.asarray(anomaly_map, np.float32)
    if shape is None or anomaly_map.shape == tuple(shape):
        return anomaly_map
    height, width = shape
    return np.asarray(Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR))
