"""What every scorer does with its scores: chunk by chunk, learn a reference, calibrate."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from anogan_tf import kinds, precision, stages, thresholds
from anogan_tf.data import pictures, read_pictures
from anogan_tf.data.samples import Preprocessing
from anogan_tf.reference import Reference

Row: TypeAlias = dict[str, Any]  # an image with all that travels with it, see `image_rows`
Images: TypeAlias = np.ndarray | Iterable[Any] | os.PathLike | Image.Image  # an array, batches, pictures: `rows_of`
Outputs: TypeAlias = dict[str, np.ndarray]  # a row an image, see `Scorer.score_chunk`

PARTS = ("anomaly_score", "residual", "discrimination")
REFERENCE_IMAGES = 2048
MAPPED = 256  # calibration images whose maps set the pixel threshold, where a map costs a search
REGION_RATE = 0.2  # of normal images that show any region
FARTHEST = 2.0  # from 0, of the values of images: others are in another range
GUARD = 8  # rows at the end of a batch whose results are not used, see `guard`

precision.use_whole_float32()


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is known of normal images' scores.

    Attributes:
        scores: Scores of the n normal validation images, ascending.
        threshold: See `thresholds.conformal`.
        pixel_threshold: The same rule on the largest value of each map at a rate of its own: a normal image has any
            pixel above it with probability at most `REGION_RATE`. Where a map costs a search, of a random 256 of the
            images.
        alpha: The rate of false alarms asked for.
        attained_alpha: The rate that n images can promise, see `thresholds.conformal`.
        fingerprint: Of the networks that gave the scores; None where nobody told.
        peaks: The largest values of the maps of normal images, ascending; none in runs of before they were kept.
        method: `"split"` where nothing was learned from the images; `"cross"` where each was scored by a reference
            that was learned without its fold.
    """

    scores: tuple[float, ...]
    threshold: float
    pixel_threshold: float
    alpha: float
    attained_alpha: float
    fingerprint: str | None = None
    peaks: tuple[float, ...] = ()
    method: str = "split"

    @classmethod
    def of(cls, scores: Iterable[float], peaks: Iterable[float], alpha: float, **known: Any) -> Calibration:
        """The thresholds that scores of normal images, and the largest values of their maps, give."""
        scores, peaks = tuple(sorted(map(float, scores))), tuple(sorted(map(float, peaks)))
        threshold, attained_alpha = thresholds.conformal(scores, alpha)
        pixel_threshold, _ = thresholds.level(peaks, REGION_RATE)
        return cls(scores, threshold, pixel_threshold, alpha, attained_alpha, peaks=peaks, **known)

    def at(self, alpha: float) -> Calibration:
        """The same at another rate of false alarms; nothing is scored."""
        threshold, attained_alpha = thresholds.conformal(self.scores, alpha)
        return dataclasses.replace(self, threshold=threshold, alpha=alpha, attained_alpha=attained_alpha)

    def joined(self, scores: Iterable[float], peaks: Iterable[float]) -> Calibration:
        """This and what more normal images show; the pixel threshold stays where no largest values were kept."""
        more = Calibration.of([*self.scores, *scores], [*self.peaks, *peaks], self.alpha)
        kept = {"fingerprint": self.fingerprint, "method": self.method}
        if not self.peaks:
            kept |= {"peaks": (), "pixel_threshold": self.pixel_threshold}
        return dataclasses.replace(more, **kept)

    @property
    def strict(self) -> tuple[float, float]:
        """The threshold above which an image is anomalous and not only suspicious, that at α / `STRICTER`; its rate."""
        threshold, attained = thresholds.level(self.scores, self.alpha / thresholds.STRICTER)
        return max(threshold, self.threshold), attained


@runtime_checkable
class Scorer(Protocol):
    """What scores images: `AnoGAN` and `FAnoGAN`, which hold networks; `LocalNeighbours`,
    `JointNeighbours` and `Patched` around these.

    What decides on an image, and what is drawn of it, are two things: a score that is not made of the reconstruction
    G(z) needs no search for z.

    Attributes:
        method: The name of the class in a run.
        any_size: Whether images may be of any size.
        chunk: Images scored at once; may be set.
        seed: Of all that is random.
        smoothing: σ of the Gaussian over anomaly maps, as a fraction of the longer side.
        reference: What `fit_reference` learned; None before.
        reference_type: The class of that.
        calibration: What `calibrate` found; None before.
        info: What else the `run.json` told that it was loaded from.
    """

    method: ClassVar[str]
    any_size: ClassVar[bool]
    reference: Any
    calibration: Calibration | None
    info: dict[str, Any]

    @property
    def chunk(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def smoothing(self) -> float: ...

    @property
    def reference_type(self) -> type: ...

    @property
    def gan(self) -> Any:
        """The GAN, that of the scorer inside for one around another."""
        ...

    @property
    def encoder(self) -> keras.Model | None:
        """The encoder, likewise; None without one."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the images it takes; of a tile, for `Patched`."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Every argument but networks and scorers, as JSON can hold it."""
        ...

    @property
    def learns(self) -> bool:
        """Whether the score learns from normal images, in `fit_reference`."""
        ...

    @property
    def needs_z(self) -> bool:
        """Whether what decides is made of G(z)."""
        ...

    @property
    def maps_need_z(self) -> bool:
        """Whether anomaly maps are made of G(z)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the networks that decide, see `fingerprint`."""
        ...

    def score(self, images: Images, *, draw: bool = True) -> Outputs: ...

    def score_batches(self, data: Images, *, draw: bool = True) -> Iterator[Outputs]: ...

    def fit_reference(self, data: Images) -> None: ...

    def calibrate(self, data: Images, alpha: float = 0.05) -> None: ...

    def cross_calibrate(
        self, data: Images, alpha: float = 0.05, *, folds: int | None = None, groups: Sequence[Any] | None = None
    ) -> None: ...

    def recalibrate(self, alpha: float = 0.05) -> None: ...

    def test(
        self,
        data: Images,
        threshold: float | str | None = None,
        *,
        results_dir: str | os.PathLike | None = None,
        pictures: int = 100,
    ) -> Any: ...

    def raw_outputs(
        self, data: Images, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Iterator[tuple[list[Row], Outputs]]:
        """Pairs of rows of `data` and their outputs, a chunk at a time; maps are not smoothed yet."""
        ...

    def score_chunk(
        self, images: np.ndarray, *, decide: bool = True, draw: bool = True, progress: Any = None
    ) -> Outputs:
        """The outputs for a chunk of images and its guard; maps are not smoothed yet.

        Args:
            images: `(chunk + guard(chunk), height, width, channels)`.
            decide: Whether to give `anomaly_score`, and `anomaly_map` where it needs no z.
            draw: Whether to give `residual`, `discrimination`, `reconstruction`, `z`, and `anomaly_map` otherwise.
            progress: A tqdm bar to tell of a search.
        """
        ...

    def tensors(self, images: tf.Tensor, *, draw: bool) -> dict[str, tf.Tensor]:
        """As `score_chunk`, for graphs that are saved: of tensors, without state, in operations that all formats have.

        Args:
            images: `(n, height, width, channels)`, any number of them, without a guard.
            draw: As there.
        """
        ...

    def examples(self, images: np.ndarray, n: int = 8) -> np.ndarray:
        """At most n images as the networks take them, made of those that the scorer takes."""
        ...


def learned(scorer: Scorer) -> dict[str, Any]:
    """What a scorer has beside what it was made of, for its copies and pickles."""
    return {"reference": scorer.reference, "calibration": scorer.calibration, "info": _plain(scorer.info)}


def _plain(value: Any) -> Any:
    """Dicts and lists without what Keras wraps around those of its models."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def unwrapped(scorer: Any) -> Any:
    """The scorer that holds the networks: itself, or the one inside."""
    while hasattr(scorer, "scorer"):
        scorer = scorer.scorer
    return scorer


def score(scorer: Scorer, images: Images, draw: bool = True) -> Outputs:
    """All outputs for all images, in one dict of arrays.

    Raises:
        ValueError: If there are no images, or they are of different sizes, which only `score_batches` takes.
    """
    chunks = []
    for chunk in score_batches(scorer, images, draw):
        chunks.append(chunk)
        sizes = {outputs["anomaly_map"].shape[1:] for outputs in (chunks[0], chunk) if "anomaly_map" in outputs}
        if len(sizes) > 1:
            raise ValueError(
                f"Images of different sizes do not fit into one array: use score_batches. Received: {sorted(sizes)}."
            )
    if not chunks:
        raise ValueError("There are no images to score.")
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def score_batches(scorer: Scorer, data: Images, draw: bool = True) -> Iterator[Outputs]:
    """The outputs a chunk at a time, as dicts of arrays with `id`; memory stays flat."""
    for rows, outputs in scored_chunks(scorer, data, draw=draw):
        yield {"id": np.array([row["id"] for row in rows]), **outputs}


def scored_chunks(
    scorer: Scorer, data: Images, *, decide: bool = True, draw: bool = True, stage: str = "Scoring"
) -> Iterator[tuple[list[Row], Outputs]]:
    """Pairs of rows (see `image_rows`) and the outputs of the scorer for them, maps smoothed, a chunk at a time.

    `stage` is what the time is counted as, and the bar is called.

    Raises:
        ValueError: If the networks are no longer those that the reference or the calibration is of.
    """
    _check_networks(scorer)
    sigma = scorer.smoothing * max(scorer.image_shape[:2])
    with stages.bar(stage, total=_count(data)) as progress:
        chunks = scorer.raw_outputs(data, decide=decide, draw=draw, progress=progress)
        for rows, outputs in stages.each(stage, chunks):
            if "anomaly_score" in outputs:
                _check_scores(rows, outputs["anomaly_score"])
            if "anomaly_map" in outputs:
                outputs["anomaly_map"] = smooth(outputs["anomaly_map"], sigma)
                if scorer.calibration is not None:
                    outputs["anomaly_mask"] = outputs["anomaly_map"] > scorer.calibration.pixel_threshold
            yield rows, outputs
            progress.update(len(rows))


def raw_outputs(
    scorer: Scorer, rows: Iterator[Row], *, decide: bool = True, draw: bool = True, progress: Any = None
) -> Iterator[tuple[list[Row], Outputs]]:
    """Pairs of rows and what `score_chunk` says of their images, a chunk at a time; maps are not smoothed yet.

    Each chunk has the scorer's own size, the last filled up with copies of its first image: a score does not depend on
    the batches that images came in, the order or the other images.
    """
    for chunk, images, n in _chunks(rows, scorer.chunk):
        outputs = scorer.score_chunk(images, decide=decide, draw=draw, progress=progress)
        yield chunk, {name: values[:n] for name, values in outputs.items()}


def image_rows(data: Images, image_shape: tuple[int | None, int | None, int]) -> Iterator[Row]:
    """A dict an image: `image`, `id`, and `label`, `height`, `width`, `mask`, `file`, `bits` where the data have them.

    Args:
        data: An array of images, or batches: of images, (image, label), or dicts; without ids they are numbered from 1.
            Or a list of what this function gave before.
        image_shape: What the scorer takes; None for a side of any length.

    Raises:
        ValueError: For images of another shape, or with values that are not finite or far outside [-1, 1]; for what is
            no images.

    Warns:
        UserWarning: If some values are outside [-1, 1], or none of a first batch that was not read here is below 0.
    """
    number = 0
    for batch in stages.each("Reading", batches(data)):
        if isinstance(batch, dict) and np.ndim(batch["image"]) == 3:
            yield batch
            continue
        if not isinstance(batch, dict):
            images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
            batch = {"image": images} | ({} if labels is None else {"label": labels})
        batch = {name: np.asarray(column) for name, column in batch.items()}
        if batch["image"].ndim == 0 or batch["image"].dtype.kind not in "biuf":
            raise _no_images(batch["image"].flat[0])
        batch["image"] = _as_floats(batch["image"])
        n = len(batch["image"])
        if "label" in batch:
            batch["label"] = _one_label_each(batch["label"], n)
        batch["id"] = [_text(name) for name in batch.get("id", range(number + 1, number + n + 1))]
        read_here = "height" in batch  # from files, by `data`, so that bright ones are no mistake
        _check_images(batch["image"], image_shape, look=number == 0 and not read_here, names=batch["id"])
        number += n
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            if not row.pop("has_mask", True):
                del row["mask"]
            if "mask" in row:
                row["mask"] = row["mask"][: row["height"], : row["width"]]
            yield row


def rows_of(scorer: Scorer, data: Images) -> Iterator[Row]:
    """The `image_rows` of data for a scorer.

    Pictures are read as `preprocessing_of` tells, so that they score as by the command line: files and folders, by
    path, images of Pillow, arrays of 8 or 16 unsigned bits, of any size, or a list of these, see `data.pictures`.
    """
    preprocessing = preprocessing_of(scorer)
    if pictures.are_pictures(data):
        data = read_pictures(data, preprocessing)
    return image_rows(data, preprocessing.common_shape)


def preprocessing_of(scorer: Scorer) -> Preprocessing:
    """How pictures become what a scorer takes: as the run that it was loaded from tells, else by its `image_shape`.

    A `Patched` that no run tells of takes pictures in their own size.
    """
    told = scorer.info.get("preprocessing")
    return Preprocessing.of(told or {"image_shape": scorer.image_shape, "scale": 1.0 if scorer.any_size else None})


class Reservoir:
    """At most n of the rows that are added, each as likely as any other; their images are copied.

    Nobody knows how many there will be, so the i-th replaces one of those kept before with the probability that keeps
    it so (Vitter, "Random Sampling with a Reservoir", 1985, algorithm R).
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.rows: list[Row] = []
        self._added = 0
        self._rng = np.random.default_rng(seed)

    def add(self, row: Row) -> None:
        place = self._added if self._added < self.n else int(self._rng.integers(self._added + 1))
        self._added += 1
        if place < self.n:
            self.rows[place : place + 1] = [{**row, "image": row["image"].copy()}]  # a view would keep its whole batch


def sample(rows: Iterable[Row], n: int, seed: int) -> list[Row]:
    """At most n of the rows, see `Reservoir`."""
    reservoir = Reservoir(n, seed)
    for row in rows:
        reservoir.add(row)
    return reservoir.rows


@stages.stage("Learning the reference")
def fit_reference(scorer: Any, data: Images) -> None:
    """Learns what the score needs from normal training images, of a random 2,048 where there are more.

    Nothing for scores that learn nothing. `scorer` holds networks, and has `evidence(images)`. How much a discriminator
    tells of what was done to normal images is found from mirror images of these, as it knows them by heart, unless it
    was trained on their mirror images too: what is moved by chance it does not.

    Raises:
        ValueError: If there are no images, or too few for what is learned.
    """
    if not scorer.learns:
        return
    rows = sample(rows_of(scorer, data), REFERENCE_IMAGES, scorer.seed)
    if not rows:
        raise ValueError("There are no images to learn from.")
    evidence = _evidence(scorer, rows)
    new = _evidence(scorer, rows, mirrored=True) if "tasks" in evidence else evidence
    scorer.reference = Reference.fit(evidence, scorer.seed, kinds.told(scorer.gan, new))
    scorer.reference.fingerprint = scorer.fingerprint
    scorer.calibration = None  # it was of another score


def _evidence(scorer, rows, mirrored=False):
    """What the score of each row is made of, by kind."""
    chunks = ((images[:, :, ::-1] if mirrored else images, n) for _, images, n in _chunks(iter(rows), scorer.chunk))
    found = [{name: value.numpy()[:n] for name, value in scorer.evidence(images).items()} for images, n in chunks]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def calibrate(scorer: Scorer, data: Images, alpha: float = 0.05) -> None:
    """Scores normal images that nothing was learned from, and sets the thresholds.

    Args:
        scorer: The scorer.
        data: Normal images, see `image_rows`.
        alpha: The rate of false alarms to allow.

    Raises:
        ValueError: If some images are labelled anomalous.
    """
    scores, peaks, unmapped = [], [], Reservoir(MAPPED, scorer.seed)
    for rows, outputs in scored_chunks(scorer, data, draw=False, stage="Calibrating"):
        check_normal(rows)
        scores.extend(outputs["anomaly_score"].tolist())
        if "anomaly_map" in outputs:
            peaks.extend(_peaks(outputs))
        else:
            for row in rows:
                unmapped.add({"image": row["image"], "id": row["id"]})
    for _, outputs in scored_chunks(scorer, unmapped.rows, decide=False, stage="Calibrating") if unmapped.rows else ():
        peaks.extend(_peaks(outputs))
    scorer.calibration = Calibration.of(scores, peaks, alpha, fingerprint=scorer.fingerprint)


def recalibrate(scorer: Scorer, alpha: float = 0.05) -> None:
    """Sets the thresholds at another rate of false alarms, from the scores that calibration kept.

    Raises:
        ValueError: Without a calibration, or for an alpha outside (0, 1).
    """
    if scorer.calibration is None:
        raise ValueError("There are no scores to set another threshold on: call calibrate(normal images) first.")
    scorer.calibration = scorer.calibration.at(alpha)


def refuse_cross(scorer: Scorer) -> None:
    """Raises a ValueError that says why a scorer is not cross-calibrated."""
    raise ValueError(
        f"A {type(scorer).__name__} is calibrated on images that were held out, by calibrate(validation images): "
        "networks that were trained on an image may not judge it as new, and training them once a fold costs too much. "
        "A LocalNeighbours, whose reference is learned in seconds, takes cross_calibrate(all normal images)."
    )


def check_normal(rows: Iterable[Row]) -> None:
    """Raises a ValueError if images are labelled anomalous."""
    anomalous = [row["id"] for row in rows if row.get("label", 0) != 0]
    if anomalous:
        raise ValueError(f"Calibration takes normal images only. Received: images labelled anomalous, {anomalous}.")


def fingerprint(*networks: keras.Model | None) -> str:
    """A digest of the weights of networks, by which reference and calibration know theirs; None among them is none."""
    digest = hashlib.blake2b(digest_size=16)
    for network in networks:
        for weight in () if network is None else network.get_weights():
            digest.update(np.ascontiguousarray(weight).view(np.uint8).data)
    return digest.hexdigest()


def smooth(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Maps `(batch, height, width)` under a Gaussian of σ pixels."""
    return ndimage.gaussian_filter(maps, (0, sigma, sigma)) if sigma else maps


def _peaks(outputs: Outputs) -> list[float]:
    return outputs["anomaly_map"].max(axis=(1, 2)).tolist()


def batches(data: Images) -> Iterable[Any]:
    """Data as batches, one of an array or a dict; a ValueError for what is neither that nor any iterable of batches."""
    if hasattr(data, "shape") or isinstance(data, dict):
        return [data]
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise _no_images(data)
    return data


def _no_images(thing: object) -> ValueError:
    return ValueError(
        "Scorers take an array (n, height, width, channels) in [-1, 1]; batches: a tf.data.Dataset or another iterable "
        "of images, (image, label) or dicts; or pictures: files, folders, images of Pillow, arrays of unsigned 8 or 16 "
        f"bits, or a list of these. Received: {type(thing).__name__}."
    )


def _one_label_each(labels: np.ndarray, n: int) -> np.ndarray:
    """Labels `(n,)`, also of `(n, 1)`."""
    if labels.shape == (n, 1):
        return labels[:, 0]
    if labels.shape != (n,):
        raise ValueError(
            f"Labels are one number an image, (n,), 0 for normal and 1 for anomalous. Received: labels of shape "
            f"{labels.shape}; of one-hot labels take labels.argmax(axis=1) != normal_class."
        )
    return labels


def _text(name: object) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def guard(chunk: int) -> int:
    """How many rows follow a chunk of so many images, where no image ever lies.

    Matrix products round the last rows of a batch in another way than the others, where the batch is no multiple of
    the kernel's block (6 on AVX2). With a guard all images are treated alike, bit by bit; one image alone always is.
    """
    return GUARD if chunk > 1 else 0


def _chunks(rows: Iterator[Row], size: int) -> Iterator[tuple[list[Row], np.ndarray, int]]:
    """Triples of up to `size` rows, their images with a `guard`, filled up with the first, and their number."""
    while chunk := list(itertools.islice(rows, size)):
        images = [row["image"] for row in chunk]
        filling = images[:1] * (size + guard(size) - len(images))
        yield chunk, np.stack(images + filling).astype(np.float32), len(chunk)


def _check_networks(scorer: Scorer) -> None:
    """Raises a ValueError if the networks changed since reference and calibration were made."""
    now = None
    for what, call in ((scorer.reference, "fit_reference"), (scorer.calibration, "calibrate")):
        then = getattr(what, "fingerprint", None)
        if then is not None and then != (now := now or scorer.fingerprint):
            raise ValueError(
                f"The networks were changed (trained on?) after {call}, so what it found is of others: call "
                "fit_reference(training images) and calibrate(validation images) again."
            )


def _check_scores(rows: list[Row], scores: np.ndarray) -> None:
    broken = [row["id"] for row, score in zip(rows, scores, strict=True) if not np.isfinite(score)]
    if broken:
        raise ArithmeticError(
            f"The scores of {len(broken)} images are not finite numbers, as the networks or the reference are not. The "
            f"first: {broken[0]}."
        )


def _as_floats(images: np.ndarray) -> np.ndarray:
    """Images of bytes in [-1, 1]; those of floats as they are."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 127.5 - 1.0
    if images.dtype.kind != "f":
        raise ValueError(f"Images are floats in [-1, 1], or bytes (uint8). Received: a batch of {images.dtype}.")
    return images


def _check_images(images: np.ndarray, image_shape: tuple, look: bool, names: list[str]) -> None:
    """Checks shapes and values; with `look` it warns if none is below 0."""
    sides = zip(image_shape, images.shape[1:], strict=False)
    if images.ndim != 4 or any(wanted not in (None, side) for wanted, side in sides):
        shape = ", ".join("any" if side is None else str(side) for side in image_shape)
        raise ValueError(
            f"The scorer takes images (n, {shape}) of floats in [-1, 1]; pictures of any size are arrays of bytes "
            f"(uint8), and labelled images are batches, [(images, labels)]. Received: {images.shape} of {images.dtype}."
        )
    broken = ~np.isfinite(images).all(axis=(1, 2, 3))
    if broken.any():
        raise ValueError(f"Image {names[broken.argmax()]} has values that are not finite numbers.")
    if not images.size:
        return
    low, high = images.min(), images.max()
    told = f"Images are floats in [-1, 1], such as image / 127.5 - 1 of bytes. Received: a batch in [{low:g}, {high:g}]"
    if low < -FARTHEST or high > FARTHEST:
        raise ValueError(f"{told}.")
    if low < -1.0 or high > 1.0:
        warnings.warn(f"{told}; what comes of them means little.", stacklevel=2)
    elif look and low >= 0.0:
        warnings.warn(f"{told}; unless these are bright all over, what comes of them means little.", stacklevel=2)


def _count(data: Images) -> int | None:
    """The number of images in `data`, where it can be told without reading them."""
    return data.shape[0] if hasattr(data, "shape") else getattr(data, "images", None)
