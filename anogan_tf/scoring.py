"""What every scorer does with its scores: chunk by chunk, learn a reference, calibrate, test.

A scorer has `chunk`, `image_shape`, `learns`, `smoothing`, `seed`, `settings`, `reference`, `calibration`,
`evidence(images)`, `score_chunk(images, progress)` and `raw_outputs(data, progress)`. The functions here are what its
methods of the same name call.
"""

import dataclasses
import functools
import heapq
import itertools
import os
import time
import warnings

import keras
import numpy as np
from scipy import ndimage
from tqdm.auto import tqdm

from anogan_tf import metrics, plots, report, thresholds
from anogan_tf.data import images as image_files
from anogan_tf.reference import Reference

PARTS = ("anomaly_score", "residual", "discrimination")
LABELLED_THRESHOLDS = {"f1": thresholds.best_f1, "midpoint": thresholds.midpoint}
REFERENCE_IMAGES = 2048
SHOWN = 8  # of the most anomalous images, in a result that shows itself
GUARD = 8  # rows at the end of a batch whose results are not used, see `_chunks`


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is known of normal images' scores.

    Attributes:
        scores: Scores of the n normal validation images, ascending.
        threshold: See `thresholds.conformal`.
        pixel_threshold: The same rule on the largest value of each map: a normal image has any pixel above it with
            probability at most α.
        alpha: The rate of false alarms asked for.
        attained_alpha: The rate that n images can promise.
    """

    scores: tuple
    threshold: float
    pixel_threshold: float
    alpha: float
    attained_alpha: float


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


class Wrapper:
    """A scorer around another one, for pictures larger than its networks take: what it hands on, and what it adds.

    Args:
        scorer: The scorer of images of the networks' size.
    """

    def __init__(self, scorer):
        self.scorer = scorer
        self.calibration = None

    @property
    def chunk(self):
        return self.scorer.chunk

    @property
    def smoothing(self):
        return self.scorer.smoothing

    @property
    def seed(self):
        return self.scorer.seed

    def score_batches(self, data):
        """As `score`, a few images at a time; memory stays flat."""
        return score_batches(self, data)

    def calibrate(self, data, alpha=0.05):
        """Sets the thresholds from normal images that nothing was learned from, see `scoring.calibrate`."""
        calibrate(self, data, alpha)

    def test(self, data, threshold=None, *, results_dir=None, pictures=100):
        """Scores labelled images, decides and measures, see `scoring.test`; unpacks to results, threshold, accuracy."""
        return test(self, data, threshold, results_dir=results_dir, pictures=pictures)


def unwrapped(scorer):
    """The scorer that holds the networks: the one inside a `Wrapper`, else itself."""
    return scorer.scorer if isinstance(scorer, Wrapper) else scorer


def score(scorer, images):
    """All outputs for all images, in one dict of arrays.

    Raises:
        ValueError: If there are no images, or they are of different sizes, which only `score_batches` takes.
    """
    chunks = []
    for chunk in score_batches(scorer, images):
        chunks.append(chunk)
        sizes = {outputs["anomaly_map"].shape[1:] for outputs in (chunks[0], chunk)}
        if len(sizes) > 1:
            raise ValueError(
                f"Images of different sizes do not fit into one array: use score_batches. Received: {sorted(sizes)}."
            )
    if not chunks:
        raise ValueError("There are no images to score.")
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def score_batches(scorer, data):
    """The outputs a chunk at a time, as dicts of arrays with `id`; memory stays flat."""
    for rows, outputs in scored_chunks(scorer, data):
        yield {"id": np.array([row["id"] for row in rows]), **outputs}


def scored_chunks(scorer, data):
    """Pairs of rows (see `image_rows`) and the outputs of the scorer for them, maps smoothed, a chunk at a time."""
    sigma = scorer.smoothing * max(scorer.image_shape[:2])
    with tqdm(desc="Scoring", unit=" images", delay=2, disable=None, total=_count(data)) as progress:
        for rows, outputs in scorer.raw_outputs(data, progress):
            _check_scores(rows, outputs["anomaly_score"])
            outputs["anomaly_map"] = smooth(outputs["anomaly_map"], sigma)
            if scorer.calibration is not None:
                outputs["anomaly_mask"] = outputs["anomaly_map"] > scorer.calibration.pixel_threshold
            yield rows, outputs
            progress.update(len(rows))


def raw_outputs(scorer, rows, progress=None):
    """Pairs of rows and what `score_chunk` says of their images, a chunk at a time; maps are not smoothed yet.

    Each chunk has the scorer's own size, the last filled up with copies of its first image: a score does not depend on
    the batches that images came in, the order or the other images.
    """
    for chunk, images, n in _chunks(rows, scorer.chunk):
        yield chunk, {name: values[:n] for name, values in scorer.score_chunk(images, progress).items()}


def image_rows(data, image_shape):
    """A dict an image: `image`, `id`, and `label`, `height`, `width`, `mask`, `file`, `bits` where the data have them.

    Args:
        data: An array of images, or batches: of images, (image, label), or dicts; without ids they are numbered from 1.
        image_shape: What the scorer takes; None for a side of any length.

    Raises:
        ValueError: For images of another shape, or with values that are not finite.

    Warns:
        UserWarning: If the images cannot be in [-1, 1], or the first batch has no value below 0.
    """
    number = 0
    for batch in [data] if hasattr(data, "shape") else data:
        if not isinstance(batch, dict):
            images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
            batch = {"image": images} if labels is None else {"image": images, "label": labels}
        batch = {name: np.asarray(column) for name, column in batch.items()}
        n = len(batch["image"])
        batch["id"] = [_text(name) for name in batch.get("id", range(number + 1, number + n + 1))]
        _check_images(batch["image"], image_shape, first=number == 0, names=batch["id"])
        number += n
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            if "mask" in row:
                row["mask"] = row["mask"][: row["height"], : row["width"]]
            yield row


def _text(name):
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def sample(rows, n, seed):
    """A list of at most n of the rows, each as likely as any other; rows are read once, and their images copied.

    Nobody knows how many there will be, so the i-th replaces one of those drawn before with the probability that keeps
    it so (Vitter, "Random Sampling with a Reservoir", 1985, algorithm R).
    """
    drawn, rng = [], np.random.default_rng(seed)
    for number, row in enumerate(rows):
        place = number if number < n else rng.integers(number + 1)
        if place < n:
            drawn[place : place + 1] = [{**row, "image": row["image"].copy()}]  # a view would keep its whole batch
    return drawn


def fit_reference(scorer, data):
    """Learns what the score needs from normal training images, the first 2,048 at most; nothing for plain scores."""
    if not scorer.learns:
        return
    rows = itertools.islice(image_rows(data, scorer.image_shape), REFERENCE_IMAGES)
    found = [
        {k: v.numpy()[:n] for k, v in scorer.evidence(images).items()} for _, images, n in _chunks(rows, scorer.chunk)
    ]
    if not found:
        raise ValueError("There are no images to learn from.")
    scorer.reference = Reference.fit({name: np.concatenate([part[name] for part in found]) for name in found[0]})
    scorer.calibration = None  # it was of another score


def calibrate(scorer, data, alpha=0.05):
    """Scores normal images that nothing was learned from, and sets the thresholds.

    Args:
        scorer: The scorer.
        data: Normal images, see `image_rows`.
        alpha: The rate of false alarms to allow.

    Raises:
        ValueError: If some images are labelled anomalous.
    """
    scores, peaks = [], []
    for rows, outputs in scored_chunks(scorer, data):
        anomalous = [row["id"] for row in rows if row.get("label", 0) != 0]
        if anomalous:
            raise ValueError(f"Calibration takes normal images only. Received: images labelled anomalous, {anomalous}.")
        scores.extend(outputs["anomaly_score"].tolist())
        peaks.extend(outputs["anomaly_map"].max(axis=(1, 2)).tolist())
    threshold, attained_alpha = thresholds.conformal(scores, alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same few images, warned of once
        pixel_threshold, _ = thresholds.conformal(peaks, alpha)
    scorer.calibration = Calibration(tuple(sorted(scores)), threshold, pixel_threshold, alpha, attained_alpha)


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
                masks.append(row["mask"])
                maps.append(image["anomaly_map"])
            heapq.heappush(drawn, (found[i]["anomaly_score"], len(results) - len(found) + i + 1, image))
            if len(drawn) > pictures:
                heapq.heappop(drawn)
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


def test(scorer, data, threshold=None, *, results_dir=None, pictures=100, settings=None):
    """Scores labelled images, decides, and measures how right the decisions are.

    Args:
        scorer: The scorer.
        data: Images with labels 0 (normal) or 1 (anomalous), see `image_rows`.
        threshold: A float; None for the calibrated threshold; `"f1"` or `"midpoint"` to choose it on the test labels,
            which flatters the accuracy.
        results_dir: Folder for CSV, JSON, pictures and figures, see `report.write`; made where it is missing.
        pictures: How many images to draw at most, the most anomalous first.
        settings: What to write into `metrics.json` besides, as a dict.

    Returns:
        A `TestResult`.

    Raises:
        OSError: Before scoring, if the folder cannot be written.
        ValueError: Before scoring, if nothing sets a threshold; for labels that are not 0 or 1, or missing.
    """
    if results_dir is not None:
        report.check_writable(results_dir)
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
        write_report(scorer, judged, results_dir, result.metrics | (settings or {}))
    return result


def write_report(scorer, judged, results_dir, figures):
    """A results folder of a `Judgement`, with `figures` in its `metrics.json`."""
    figures = {**figures, **provenance(scorer)}
    drawn, pixel_threshold = judged.drawn, figures["pixel_threshold"]
    report.write(results_dir, judged.results, judged.regions, drawn, figures, pixel_threshold)


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


def _chunks(rows, size):
    """Triples of up to `size` rows, their images filled up to `size + GUARD` with the first, and their number.

    Matrix products round the last rows of a batch in another way than the others, where the batch is no multiple of
    the kernel's block (6 on AVX2). No image ever lies there, so all are treated alike, bit by bit.
    """
    while chunk := list(itertools.islice(rows, size)):
        images = [row["image"] for row in chunk]
        yield chunk, np.stack(images + images[:1] * (size + GUARD - len(images))).astype(np.float32), len(chunk)


def smooth(maps, sigma):
    """Maps `(batch, height, width)` under a Gaussian of σ pixels."""
    return ndimage.gaussian_filter(maps, (0, sigma, sigma)) if sigma else maps


def _check_scores(rows, scores):
    broken = [row["id"] for row, score in zip(rows, scores, strict=True) if not np.isfinite(score)]
    if broken:
        raise ArithmeticError(
            f"The scores of {len(broken)} images are not finite numbers, as the networks or the reference are not. The "
            f"first: {broken[0]}."
        )


def _check_images(images, image_shape, first, names):
    sides = zip(image_shape, images.shape[1:], strict=False)
    if images.ndim != 4 or any(wanted not in (None, side) for wanted, side in sides):
        shape = ", ".join("any" if side is None else str(side) for side in image_shape)
        raise ValueError(f"The networks take images (n, {shape}). Received: {images.shape}.")
    broken = ~np.isfinite(images).all(axis=(1, 2, 3))
    if broken.any():
        raise ValueError(f"Image {names[broken.argmax()]} has values that are not finite numbers.")
    if images.size and (images.min() < -1.0 or images.max() > 1.0 or (first and images.min() >= 0.0)):
        warnings.warn(
            f"Images are floats in [-1, 1], such as image / 127.5 - 1 of bytes. Received: a batch in "
            f"[{images.min():g}, {images.max():g}]; its scores mean little.",
            stacklevel=2,
        )


def _count(data):
    """The number of images in `data`, where it can be told without reading them."""
    return data.shape[0] if hasattr(data, "shape") else None
