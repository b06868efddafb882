"""Judges images: scores become decisions, a labelled test is measured, the most anomalous images are drawn."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from anogan_tf import metrics, page, plots, report, thresholds
from anogan_tf.data import images as image_files
from anogan_tf.data.pictures import are_pictures
from anogan_tf.scoring import PARTS, Images, Outputs, Row, Scorer, batches, rows_of, scored_chunks

LABELLED_THRESHOLDS = {"f1": thresholds.best_f1, "midpoint": thresholds.midpoint}
SHOWN = 8  # of the most anomalous images, in a result that shows itself
KEPT = 64 * 2**20  # bytes of maps, and of what else there is to draw, that are kept until it is drawn


@dataclasses.dataclass(frozen=True, repr=False)
class TestResult:
    """The outcome of a test; unpacks into `results, threshold, accuracy`, and shows itself in a notebook.

    Attributes:
        results: A dict an image: `id`, `anomaly_score`, `residual`, `discrimination`, `p_value`, `prediction` (1 above
            the threshold), `label`, `decision`: `"normal"`, `"suspicious"` above the threshold, or `"anomalous"` above
            that of a fifth of its rate of false alarms, too (`Calibration.strict`).
        regions: For each image the anomalous regions of its map, see `metrics.regions`; in the picture's own pixels. Of
            an image above the threshold that has none, the strongest, see `metrics.strongest_region`.
        threshold_method: `"conformal"`, `"given"`, or `"f1"` and `"midpoint"`, which looked at the test labels.
        shown: The most anomalous images: number (from 1) to a dict of `image`, `reconstruction` and `anomaly_map`.

    The others are figures of `metrics.image_metrics` and `metrics.pixel_metrics`; None where undefined.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    results: list[dict[str, Any]]
    regions: list[list[dict[str, Any]]]
    threshold: float
    threshold_method: str
    alpha: float | None
    accuracy: float
    balanced_accuracy: float | None
    auroc: float | None
    average_precision: float | None
    f1: float | None
    base_rate: float
    confusion: dict[str, int]
    n: int
    seconds_per_image: float
    shown: dict[int, dict[str, np.ndarray]]
    pixel_auroc: float | None = None
    aupro: float | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.results, self.threshold, self.accuracy))

    def __repr__(self) -> str:
        figures = (f"{name}={value:.4g}" for name, value in self.metrics.items() if isinstance(value, (int, float)))
        return f"TestResult({', '.join(figures)})"

    def _repr_html_(self):
        return report.result_html(self.results, self.shown, self.metrics)

    @property
    def metrics(self) -> dict[str, Any]:
        """Every figure by its name, without results, regions and images."""
        return {name: value for name, value in vars(self).items() if name not in ("results", "regions", "shown")}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Images that were judged.

    Attributes:
        results: A dict an image, as in `TestResult`; `label` is None where unknown, and so are `residual` and
            `discrimination` of images that were not reconstructed.
        regions: As in `TestResult`.
        threshold: The threshold used.
        threshold_method: How it was found.
        drawn: The most anomalous images: number (from 1) to a dict of `image`, `reconstruction`, `anomaly_map`, `size`
            and `picture`, see `report.write`.
        masks: Masks of all images, if the data have them.
        maps: Their anomaly maps.
        thumbnails: The most anomalous images, as many as a page lists: number to `page.thumbnail`, if they were asked
            for.
    """

    results: list[dict[str, Any]]
    regions: list[list[dict[str, Any]]]
    threshold: float
    threshold_method: str
    drawn: dict[int, dict[str, Any]]
    masks: list[np.ndarray]
    maps: list[np.ndarray]
    thumbnails: dict[int, bytes] = dataclasses.field(default_factory=dict)


class Kept:
    """What was found of the most anomalous images, so that it need not be found again to draw them.

    Args:
        n: How many images at most; fewer where these would take more than `KEPT` bytes.

    Attributes:
        outputs: The outputs of each image that has an anomaly map, by its id.
    """

    def __init__(self, n: int) -> None:
        self.outputs: dict[str, dict[str, np.ndarray]] = {}
        self._n = n
        self._heap: list[tuple[float, int, str]] = []
        self._bytes = 0
        self._added = 0

    def add(self, name: str, outputs: dict[str, Any]) -> None:
        self._added += 1
        score = float(outputs["anomaly_score"])
        if "anomaly_map" not in outputs or not _is_kept(self._heap, self._n, score, self._added):
            return
        self.outputs[name] = {key: np.copy(value) for key, value in outputs.items()}  # views keep their whole chunk
        self._bytes += _size_of(self.outputs[name])
        heapq.heappush(self._heap, (score, self._added, name))
        while len(self._heap) > self._n or self._bytes > KEPT:
            *_, lowest = heapq.heappop(self._heap)
            self._bytes -= _size_of(self.outputs.pop(lowest))


def judge(
    scorer: Scorer,
    data: Images,
    threshold: float | str | None = None,
    *,
    pictures: int = 0,
    need_labels: bool = False,
    thumbnails: bool = False,
) -> Judgement:
    """Judges images: scores each and decides on it; draws the most anomalous ones.

    Where anomaly maps are made of reconstructions only these have regions, unless the data have masks, with which the
    maps of all images are compared.

    Args:
        scorer: The scorer.
        data: Images, see `scoring.image_rows`; labels are needed only for a threshold chosen on them.
        threshold: A float; None for the calibrated one; `"f1"` or `"midpoint"`.
        pictures: How many images to draw, the most anomalous ones.
        need_labels: Whether images without a label are refused.
        thumbnails: Whether to make thumbnails, for a report.

    Raises:
        ValueError: Before scoring, if nothing sets a threshold; for labels that are not 0 or 1, or missing.
    """
    check_threshold(scorer, threshold)
    need_labels = need_labels or isinstance(threshold, str)
    results, regions, masks, maps, kept, small = [], [], [], [], [], []
    limit = -np.inf if isinstance(threshold, str) else _threshold(scorer, threshold, ())[0]  # labels tell theirs last
    data, have_masks = _peeked(data)
    for rows, outputs in scored_chunks(scorer, data, draw=scorer.maps_need_z and have_masks):
        for row, own in _each_row(rows, outputs):
            results.append(_result(row, own, need_labels))
            regions.append(_regions(scorer, row, own, limit))
            if "mask" in row:
                masks.append(row["mask"].copy())
                maps.append(own["anomaly_map"].copy())
            score, number = results[-1]["anomaly_score"], len(results)
            if _is_kept(kept, pictures, score, number):  # copied, as views keep their whole chunk
                copies = {name: np.copy(value) for name, value in own.items()}
                _keep(kept, pictures, (score, number, {**row, "image": row["image"].copy()}, copies))
            if thumbnails and _is_kept(small, page.LISTED, score, number):
                _keep(small, page.LISTED, (score, number, page.thumbnail(row["image"])))
    if not results:
        raise ValueError("There are no images to score.")
    drawn = {}
    for number, row, outputs in _reconstructed(scorer, kept):
        drawn[number] = _drawing(row, outputs)
        results[number - 1] |= _scores(outputs)
        regions[number - 1] = regions[number - 1] or _regions(scorer, row, outputs, limit)
    threshold, method = _threshold(scorer, threshold, results)
    results = _decisions(scorer, results, threshold)
    regions = [outlined(few, result["prediction"]) for few, result in zip(regions, results, strict=True)]
    return Judgement(results, regions, threshold, method, drawn, masks, maps, {number: t for _, number, t in small})


def judged_chunks(
    scorer: Scorer, data: Images, threshold: float | None = None, kept: Kept | None = None
) -> Iterator[tuple[list[dict], list[list[dict]]]]:
    """Judges by the calibrated or another threshold, a chunk at a time: pairs of results and regions. Draws nothing.

    Both as in `Judgement`. Where maps are made of reconstructions there are no regions yet, see `drawn_images`, for
    which what was found is `kept`.
    """
    check_threshold(scorer, threshold)
    threshold, _ = _threshold(scorer, threshold, [])
    for rows, outputs in scored_chunks(scorer, data, draw=False):
        each = list(_each_row(rows, outputs))
        results = _decisions(scorer, [_result(row, own) for row, own in each], threshold)
        if kept is not None:
            for row, own in each:
                kept.add(row["id"], own)
        yield results, [_regions(scorer, row, own, threshold) for row, own in each]


def judged_images(
    scorer: Scorer, data: Images, threshold: float | None = None, *, mapped: bool = True
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], np.ndarray | None]]:
    """Judges by the calibrated or another threshold, and tells of each image its result, its regions and its map.

    Both as in `Judgement`; the map has the size that the scorer takes. Where maps are made of reconstructions, those
    are made if the images are to be `mapped`; without a map there are no regions.
    """
    check_threshold(scorer, threshold)
    threshold, _ = _threshold(scorer, threshold, [])
    for rows, outputs in scored_chunks(scorer, data, draw=mapped and scorer.maps_need_z):
        each = list(_each_row(rows, outputs))
        results = _decisions(scorer, [_result(row, own) for row, own in each], threshold)
        for (row, own), result in zip(each, results, strict=True):
            found = _regions(scorer, row, own, threshold)
            yield result, outlined(found, result["prediction"]), own.get("anomaly_map")


def outlined(regions: list[dict], prediction: int) -> list[dict]:
    """Which regions are outlined: all that exceed the pixel threshold, and of an alarm the strongest in any case."""
    return [region for region in regions if prediction or "level" not in region]


def drawn_images(
    scorer: Scorer, data: Images, known: dict[str, dict[str, np.ndarray]] | None = None
) -> Iterator[tuple[str, dict[str, float], dict[str, Any]]]:
    """Draws each image: its id, its R and D, and what there is to draw with its regions, as `report.show` takes it.

    The regions are those of an alarm, see `outlined`.

    Args:
        scorer: The scorer.
        data: Images, as in `judge`.
        known: What `Kept` has of each of them; None for nothing.
    """
    if known is not None and scorer.needs_z:  # G(z) was made to decide
        chunks = (([row], {}) for row in rows_of(scorer, data))
    else:
        decide = known is None and not scorer.maps_need_z
        chunks = scored_chunks(scorer, data, decide=decide, stage="Drawing")
    for rows, outputs in chunks:
        for row, own in _each_row(rows, outputs):
            own |= known[row["id"]] if known is not None else {}
            yield row["id"], _scores(own), _drawing(row, own) | {"regions": _regions(scorer, row, own)}


def test(
    scorer: Scorer,
    data: Images,
    threshold: float | str | None = None,
    *,
    results_dir: str | os.PathLike | None = None,
    pictures: int = 100,
    settings: dict[str, Any] | None = None,
    figures: dict[str, Figure] | None = None,
    masks: bool = False,
) -> TestResult:
    """Judges labelled images, and measures how right the decisions are.

    Args:
        scorer: The scorer.
        data: Images with labels 0 (normal) or 1 (anomalous), see `scoring.image_rows`.
        threshold: A float; None for the calibrated threshold; `"f1"` or `"midpoint"` to choose it on the test labels,
            which flatters the accuracy.
        results_dir: Folder for CSV, JSON, pictures and figures, see `report.write`; made where it is missing.
        pictures: How many images to draw at most, the most anomalous first.
        settings: What to write into `metrics.json` besides, as a dict.
        figures: Further figures for the folder, by their names.
        masks: Whether to write the pixels of regions as pictures, too.

    Returns:
        A `TestResult`.

    Raises:
        OSError: Before scoring, if the folder cannot be written.
        ValueError: Before scoring, if nothing sets a threshold; for labels that are not 0 or 1, or missing.
    """
    if results_dir is not None:
        report.check(results_dir, *(figures or ()))
    start = time.perf_counter()
    kept = pictures if results_dir else min(pictures, SHOWN)
    thumbnails = results_dir is not None
    judged = judge(scorer, data, threshold, pictures=kept, need_labels=True, thumbnails=thumbnails)
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
        write_report(scorer, judged, results_dir, result.metrics | (settings or {}), figures, masks)
    return result


def write_report(
    scorer: Scorer,
    judged: Judgement,
    results_dir: str | os.PathLike,
    measured: dict[str, Any],
    figures: dict[str, Figure] | None = None,
    masks: bool = False,
) -> None:
    """Writes a `Judgement` into a results folder, what was `measured` into its `metrics.json`, and further figures."""
    measured = {**measured, **provenance(scorer)}
    drawn, pixel_threshold = judged.drawn, measured["pixel_threshold"]
    more = {
        "figures": figures,
        "masks": masks,
        "normal_scores": scorer.calibration.scores if scorer.calibration else (),
    }
    more["thumbnails"] = lambda row: judged.thumbnails.get(row["number"])
    report.write(results_dir, judged.results, judged.regions, drawn, measured, pixel_threshold, **more)


def unlabelled_figures(
    scorer: Scorer, threshold: float | None, *, n: int, skipped: int, run: str | os.PathLike
) -> dict[str, Any]:
    """What `metrics.json` tells of n images without labels, judged by the calibrated or another threshold."""
    given = threshold is not None
    return {
        "threshold": threshold if given else scorer.calibration.threshold,
        "threshold_method": "given" if given else "conformal",
        "alpha": None if given else scorer.calibration.attained_alpha,
        "n": n,
        "skipped": skipped,
        "run": str(run),
        **provenance(scorer),
    }


def provenance(scorer: Scorer) -> dict[str, Any]:
    """What `metrics.json` tells of a scorer: settings, thresholds, calibration, and the versions it ran on."""
    calibration = scorer.calibration
    strict_threshold, strict_alpha = calibration.strict if calibration else (None, None)
    return {
        "pixel_threshold": calibration.pixel_threshold if calibration else None,
        "strict_threshold": strict_threshold,
        "strict_alpha": strict_alpha,
        "calibration": calibration and {"method": calibration.method, "images": len(calibration.scores)},
        "seed": scorer.seed,
        "settings": scorer.settings,
        "versions": report.versions(),
    }


def _peeked(data: Images) -> tuple[Images, bool]:
    """The data, and whether they are batches with masks: the first of an iterator is looked at, and not lost."""
    if hasattr(data, "shape") or isinstance(data, dict) or are_pictures(data):
        return data, isinstance(data, dict) and "mask" in data
    if hasattr(data, "element_spec"):
        return data, isinstance(data.element_spec, dict) and "mask" in data.element_spec
    first, rest = itertools.tee(batches(data), 2)
    return rest, any("mask" in batch for batch in itertools.islice(first, 1) if isinstance(batch, dict))


def _each_row(rows: list[Row], outputs: Outputs) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Each of the rows with its own outputs."""
    for i, row in enumerate(rows):
        yield row, {name: values[i] for name, values in outputs.items()}


def _scores(outputs: dict[str, Any]) -> dict[str, float]:
    return {name: float(outputs[name]) for name in PARTS if name in outputs}


def _result(row: Row, outputs: dict[str, Any], need_labels: bool = False) -> dict[str, Any]:
    """The scores of a row, None where there are none, with its id and its label."""
    return {"id": row["id"], **dict.fromkeys(PARTS), **_scores(outputs), "label": _label(row, need_labels)}


def _size_of(outputs: dict[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in outputs.values())


def _is_kept(kept: list, most: int, score: float, number: int) -> bool:
    """Whether an image is among the most anomalous so far."""
    return len(kept) < most or bool(kept and (score, number) > kept[0][:2])


def _keep(kept: list, most: int, item: tuple) -> None:
    """Keeps an item that begins with a score and a number, in a heap of at most so many."""
    heapq.heappush(kept, item)
    if len(kept) > most:
        heapq.heappop(kept)


def _reconstructed(scorer: Scorer, kept: list) -> Iterator[tuple[int, Row, dict[str, Any]]]:
    """Numbers, rows and outputs of kept images, with their reconstructions, which are made where they are missing."""
    missing = [{"image": row["image"], "id": row["id"]} for *_, row, own in kept if "reconstruction" not in own]
    chunks = scored_chunks(scorer, missing, decide=False, stage="Drawing") if missing else ()
    more = (own for chunk in chunks for _, own in _each_row(*chunk))
    for _, number, row, own in kept:
        yield number, row, own if "reconstruction" in own else own | next(more)


def _drawing(row: Row, outputs: dict[str, Any]) -> dict[str, Any]:
    """What there is to draw of a row, see `Judgement.drawn`."""
    image = {name: outputs[name] for name in ("reconstruction", "anomaly_map")} | {"image": row["image"]}
    image["size"] = _size(row)
    if "file" in row:
        image["picture"] = functools.partial(_picture, row["file"], image["size"], row["bits"])
    return image


def _size(row):
    return (int(row["height"]), int(row["width"])) if "height" in row else None


def _decisions(scorer, results, threshold):
    """The results with their p-values, predictions and decisions."""
    strict = max(threshold, scorer.calibration.strict[0]) if scorer.calibration else threshold
    scores = [result["anomaly_score"] for result in results]
    p_values = thresholds.p_values(scores, scorer.calibration.scores) if scorer.calibration else [None] * len(results)
    return [
        {name: result[name] for name in ("id", *PARTS)}
        | {"p_value": p if p is None else float(p), "prediction": int(score > threshold), "label": result["label"]}
        | {"decision": thresholds.decision(score, threshold, strict)}
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


def _regions(scorer: Scorer, row: Row, outputs: dict[str, Any], limit: float = -np.inf) -> list[dict[str, Any]]:
    """The anomalous regions of a row in its own pixels; of a score above the limit the strongest, if there is none."""
    if scorer.calibration is None or "anomaly_map" not in outputs:
        return []
    anomaly_map = metrics.resize_map(outputs["anomaly_map"], _size(row))
    is_alarm = outputs.get("anomaly_score", np.inf) > limit
    return metrics.regions(anomaly_map, scorer.calibration.pixel_threshold, is_alarm=is_alarm)


def _picture(file, size, bits):
    """What was scored, read again in more pixels than the networks take; None if the file is gone."""
    try:
        return image_files.read(_file(file), (*plots.shown_size(size), 3), crop=size, bits=int(bits))[0]
    except ValueError as error:
        warnings.warn(f"Drawn as the networks see it: {error}", stacklevel=2)


def _file(file):
    """A file by the name that a `tf.data` pipeline gives in bytes; one in memory, or a name in text, as it is."""
    return os.fsdecode(file) if isinstance(file, bytes) else file


def check_threshold(scorer: Scorer, threshold: float | str | None) -> None:
    """Raises a ValueError if `threshold` is no number and no known name, or is None and nothing was calibrated."""
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
