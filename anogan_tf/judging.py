"""From scores to decisions: images judged, a labelled test measured, and what there is to draw of both."""

import dataclasses
import functools
import heapq
import os
import time
import warnings

import numpy as np

from anogan_tf import metrics, plots, report, thresholds
from anogan_tf.data import images as image_files
from anogan_tf.scoring import PARTS, scored_chunks

LABELLED_THRESHOLDS = {"f1": thresholds.best_f1, "midpoint": thresholds.midpoint}
SHOWN = 8  # of the most anomalous images, in a result that shows itself


@dataclasses.dataclass(frozen=True, repr=False)
class TestResult:
    """The outcome of a test; unpacks into `results, threshold, accuracy`, and shows itself in a notebook.

    Attributes:
        results: A dict an image: `id`, `anomaly_score`, `residual`, `discrimination`, `p_value`, `prediction`, `label`.
        regions: For each image the anomalous regions of its map, see `metrics.regions`; in the picture's own pixels.
        threshold_method: `"conformal"`, `"given"`, or `"f1"` and `"midpoint"`, which looked at the test labels.
        shown: The most anomalous images: number (from 1) to a dict of `image`, `reconstruction` and `anomaly_map`.

    The others are figures of `metrics.image_metrics` and `metrics.pixel_metrics`; None where undefined.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    results: list
    regions: list
    threshold: float
    threshold_method: str
    alpha: float | None
    accuracy: float
    balanced_accuracy: float | None
    auroc: float | None
    average_precision: float | None
    f1: float | None
    base_rate: float
    confusion: dict
    n: int
    seconds_per_image: float
    shown: dict
    pixel_auroc: float | None = None
    aupro: float | None = None

    def __iter__(self):
        return iter((self.results, self.threshold, self.accuracy))

    def __repr__(self):
        figures = (f"{name}={value:.4g}" for name, value in self.metrics.items() if isinstance(value, (int, float)))
        return f"TestResult({', '.join(figures)})"

    def _repr_html_(self):
        return report.result_html(self.results, self.shown, self.metrics)

    @property
    def metrics(self):
        """All but the images, as a dict."""
        return {name: value for name, value in vars(self).items() if name not in ("results", "regions", "shown")}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Images with their decisions.

    Attributes:
        results: A dict an image, as in `TestResult`; `label` is None where unknown.
        regions: As in `TestResult`.
        threshold: The threshold used.
        threshold_method: How it was found.
        drawn: The images to draw: number (from 1) to a dict of `image`, `reconstruction`, `anomaly_map`, `size` and
            `picture`, see `report.write`.
        masks: Masks of all images, if the data have them.
        maps: Their anomaly maps.
    """

    results: list
    regions: list
    threshold: float
    threshold_method: str
    drawn: dict
    masks: list
    maps: list


def judge(scorer, data, threshold=None, *, pictures=0, need_labels=False):
    """Scores images and decides on each.

    Args:
        scorer: The scorer.
        data: Images, see `image_rows`; labels are needed only for a threshold chosen on them.
        threshold: A float; None for the calibrated one; `"f1"` or `"midpoint"`.
        pictures: How many images to keep for drawing, the most anomalous ones.
        need_labels: Whether images without a label are refused.

    Returns:
        A `Judgement`.

    Raises:
        ValueError: Before scoring, if nothing sets a threshold; for labels that are not 0 or 1, or missing.
    """
    check_threshold(scorer, threshold)
    need_labels = need_labels or isinstance(threshold, str)
    results, regions, masks, maps, drawn = [], [], [], [], []
    for rows, outputs in scored_chunks(scorer, data):
        found, found_regions = _described(scorer, rows, outputs, need_labels)
        results.extend(found)
        regions.extend(found_regions)
        for i, (row, image) in enumerate(zip(rows, _drawable(rows, outputs), strict=True)):
            if "mask" in row:
                masks.append(np.array(row["mask"], bool))
                maps.append(image["anomaly_map"].copy())
            place = found[i]["anomaly_score"], len(results) - len(found) + i + 1
            if len(drawn) < pictures:
                heapq.heappush(drawn, (*place, _copied(image)))
            elif drawn and place > drawn[0][:2]:
                heapq.heapreplace(drawn, (*place, _copied(image)))
    if not results:
        raise ValueError("There are no images to score.")
    threshold, method = _threshold(scorer, threshold, results)
    drawn = {number: image for _, number, image in drawn}
    return Judgement(_decided(scorer, results, threshold), regions, threshold, method, drawn, masks, maps)


def decided_chunks(scorer, data):
    """Pairs of results and regions, see `Judgement`, by the calibrated threshold, a chunk at a time."""
    check_threshold(scorer, None)
    for rows, outputs in scored_chunks(scorer, data):
        results, regions = _described(scorer, rows, outputs)
        yield _decided(scorer, results, scorer.calibration.threshold), regions


def drawable(scorer, data):
    """Pairs of the id of an image and what there is to draw of it, see `report.show`, one after the other."""
    for rows, outputs in scored_chunks(scorer, data):
        yield from zip((row["id"] for row in rows), _drawable(rows, outputs), strict=True)


def test(scorer, data, threshold=None, *, results_dir=None, pictures=100, settings=None, figures=None):
    """Scores labelled images, decides, and measures how right the decisions are.

    Args:
        scorer: The scorer.
        data: Images with labels 0 (normal) or 1 (anomalous), see `image_rows`.
        threshold: A float; None for the calibrated threshold; `"f1"` or `"midpoint"` to choose it on the test labels,
            which flatters the accuracy.
        results_dir: Folder for CSV, JSON, pictures and figures, see `report.write`; made where it is missing.
        pictures: How many images to draw at most, the most anomalous first.
        settings: What to write into `metrics.json` besides, as a dict.
        figures: Further figures for the folder, by their names.

    Returns:
        A `TestResult`.

    Raises:
        OSError: Before scoring, if the folder cannot be written.
        ValueError: Before scoring, if nothing sets a threshold; for labels that are not 0 or 1, or missing.
    """
    if results_dir is not None:
        report.check(results_dir, *(figures or ()))
    start = time.perf_counter()
    kept = max(SHOWN, pictures if results_dir else 0)
    judged = judge(scorer, data, threshold, pictures=kept, need_labels=True)
    seconds = time.perf_counter() - start
    labels = [result["label"] for result in judged.results]
    result = TestResult(
        results=judged.results,
        regions=judged.regions,
        threshold=judged.threshold,
        threshold_method=judged.threshold_method,
        alpha=scorer.calibration.attained_alpha if judged.threshold_method == "conformal" else None,
        seconds_per_image=seconds / len(labels),
        shown={
            number: {name: image[name].copy() for name in ("image", "reconstruction", "anomaly_map")}
            for number, image in _most_anomalous(judged, SHOWN).items()
        },
        **metrics.image_metrics(labels, [result["anomaly_score"] for result in judged.results], judged.threshold),
        **(metrics.pixel_metrics(judged.masks, judged.maps) if judged.masks else {}),
    )
    if results_dir is not None:
        judged = dataclasses.replace(judged, drawn=_most_anomalous(judged, pictures))
        write_report(scorer, judged, results_dir, result.metrics | (settings or {}), figures)
    return result


def write_report(scorer, judged, results_dir, measured, figures=None):
    """A results folder of a `Judgement`, with what was `measured` in its `metrics.json`, and further figures."""
    measured = {**measured, **provenance(scorer)}
    drawn, pixel_threshold = judged.drawn, measured["pixel_threshold"]
    report.write(results_dir, judged.results, judged.regions, drawn, measured, pixel_threshold, figures=figures)


def provenance(scorer):
    """What scored, for `metrics.json`."""
    pixel_threshold = scorer.calibration.pixel_threshold if scorer.calibration else None
    settings = {"pixel_threshold": pixel_threshold, "seed": scorer.seed, "settings": scorer.settings}
    return settings | {"versions": report.versions()}


def _described(scorer, rows, outputs, need_labels=False):
    """For each row its scores, id and label in a dict, and the regions of its map."""
    results, regions = [], []
    for i, row in enumerate(rows):
        scores = {name: float(outputs[name][i]) for name in PARTS}
        results.append({"id": row["id"], **scores, "label": _label(row, need_labels)})
        regions.append(_regions(scorer, outputs["anomaly_map"][i], _size(row)))
    return results, regions


def _drawable(rows, outputs):
    for i, row in enumerate(rows):
        image = {name: outputs[name][i] for name in ("reconstruction", "anomaly_map")} | {"image": row["image"]}
        image["size"] = _size(row)
        if "file" in row:
            image["picture"] = functools.partial(_picture, row["file"], image["size"], row["bits"])
        yield image


def _copied(image):
    """What there is to draw of an image, without the chunk that it was a part of."""
    return {name: value.copy() if hasattr(value, "copy") else value for name, value in image.items()}


def _size(row):
    return (int(row["height"]), int(row["width"])) if "height" in row else None


def _decided(scorer, results, threshold):
    """The results with their p-values and predictions."""
    scores = [result["anomaly_score"] for result in results]
    p_values = thresholds.p_values(scores, scorer.calibration.scores) if scorer.calibration else [None] * len(results)
    return [
        {name: result[name] for name in ("id", *PARTS)}
        | {"p_value": p if p is None else float(p), "prediction": int(score > threshold), "label": result["label"]}
        for result, score, p in zip(results, scores, p_values, strict=True)
    ]


def _most_anomalous(judged, n):
    """Of the images to draw the n most anomalous, these first."""
    numbers = sorted(judged.drawn, key=lambda number: -judged.results[number - 1]["anomaly_score"])
    return {number: judged.drawn[number] for number in numbers[:n]}


def _label(row, needed):
    label = row.get("label")
    if needed and label is None:
        raise ValueError("A test needs labels, 0 for normal and 1 for anomalous; use score_batches without them.")
    if label is not None and label not in (0, 1):
        raise ValueError(
            f"Labels are 0 for normal and 1 for anomalous. Received: {label} for {row['id']}. If these are class "
            "indices, map them first, such as label != normal_class."
        )
    return None if label is None else int(label)


def _regions(scorer, anomaly_map, size):
    if scorer.calibration is None:
        return []
    return metrics.regions(metrics.resize_map(anomaly_map, size), scorer.calibration.pixel_threshold)


def _picture(file, size, bits):
    """What was scored, read again in more pixels than the networks take; None if the file is gone."""
    try:
        return image_files.read(os.fsdecode(file), (*plots.shown_size(size), 3), crop=size, bits=int(bits))[0]
    except ValueError as error:
        warnings.warn(f"Drawn as the networks see it: {error}", stacklevel=2)


def check_threshold(scorer, threshold):
    """Raises a ValueError if nothing sets the threshold, or `threshold` is none."""
    if threshold is None and scorer.calibration is None:
        raise ValueError(
            "No threshold yet: call calibrate(normal validation images) first, or give threshold= a number, or "
            '"f1" or "midpoint" to choose it on the test labels.'
        )
    if isinstance(threshold, str) and threshold not in LABELLED_THRESHOLDS:
        raise ValueError(f'threshold is a number, "f1" or "midpoint". Received: threshold={threshold!r}.')


def _threshold(scorer, threshold, results):
    if threshold is None:
        return scorer.calibration.threshold, "conformal"
    if isinstance(threshold, str):
        scores, labels = ([result[name] for result in results] for name in ("anomaly_score", "label"))
        return LABELLED_THRESHOLDS[threshold](scores, labels), threshold
    return float(threshold), "given"
