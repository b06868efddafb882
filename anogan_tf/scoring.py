"""What every scorer does with its scores: chunk by chunk, learn a reference, calibrate, test.

A scorer has `chunk`, `image_shape`, `learns`, `smoothing`, `seed`, `settings`, `reference`, `calibration`,
`evidence(images)`, `score_chunk(images, progress)` and `raw_outputs(data, progress)`. The functions here are what its
methods of the same name call.
"""

import dataclasses
import itertools
import warnings

import keras
import numpy as np
from scipy import ndimage
from tqdm.auto import tqdm

from anogan_tf import thresholds
from anogan_tf.reference import Reference

PARTS = ("anomaly_score", "residual", "discrimination")
REFERENCE_IMAGES = 2048
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
            if not row.pop("has_mask", True):
                del row["mask"]
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
