"""From scores, labels, anomaly maps and masks to the figures that describe a detector."""

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

AUPRO_LIMIT = 0.3


def image_metrics(labels, scores, threshold):
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


def pixel_metrics(masks, maps):
    """How well anomaly maps point at the anomalous pixels of all images together.

    Args:
        masks: Boolean arrays `(height, width)`, each of its own size; empty for a normal image.
        maps: Anomaly maps `(map_height, map_width)`; each is resized to its mask.

    Returns:
        A dict with `pixel_auroc` and `aupro`, both None if no mask, or every mask, is all anomalous pixels.
    """
    masks = [np.asarray(mask, bool) for mask in masks]
    values = np.concatenate([resize_map(m, mask.shape).ravel() for m, mask in zip(maps, masks, strict=True)])
    labels = np.concatenate([mask.ravel() for mask in masks])
    if labels.all() or not labels.any():
        return {"pixel_auroc": None, "aupro": None}
    return {
        "pixel_auroc": float(sklearn_metrics.roc_auc_score(labels, values)),
        "aupro": _aupro(labels, values, np.concatenate([_region_weights(mask).ravel() for mask in masks])),
    }


def _aupro(labels, values, weights, limit=AUPRO_LIMIT):
    """Area under the per-region overlap up to a false-positive rate of `limit`, divided by it.

    Where each region weighs the same, the mean overlap over regions is a weighted true-positive rate.

    References:
        Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.1.
    """
    false_positive_rate, overlap, _ = sklearn_metrics.roc_curve(labels, values, sample_weight=weights)
    inside = false_positive_rate < limit
    rates = np.append(false_positive_rate[inside], limit)
    overlaps = np.append(overlap[inside], np.interp(limit, false_positive_rate, overlap))
    return float(sklearn_metrics.auc(rates, overlaps) / limit)


def _region_weights(mask):
    """1 on normal pixels, 1 / area on the pixels of each connected region."""
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(regions.ravel())
    areas[0] = 1
    return (1.0 / areas)[regions]


def regions(anomaly_map, threshold):
    """The connected regions of the map above a threshold, the highest peak first.

    Args:
        anomaly_map: `(height, width)`.
        threshold: A float; pixels are anomalous where the map exceeds it.

    Returns:
        A list of dicts: `box` as (top, left, bottom, right) in pixels, the last two exclusive; `area` in pixels;
        `peak`, the largest value; `peak_at`, its (row, column).
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
                "box": (rows.start, columns.start, rows.stop, columns.stop),
                "area": int(inside.sum()),
                "peak": float(values[row, column]),
                "peak_at": (int(rows.start + row), int(columns.start + column)),
            }
        )
    return sorted(found, key=lambda region: -region["peak"])


def resize_map(anomaly_map, shape):
    """The map at another `(height, width)`, bilinear, averaged where it shrinks; as it is for None."""
    anomaly_map = np.asarray(anomaly_map, np.float32)
    if shape is None or anomaly_map.shape == tuple(shape):
        return anomaly_map
    height, width = shape
    return np.asarray(Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR))
