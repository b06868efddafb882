"""What a server or a model store asks for: of a picture as it comes, a verdict."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anogan_tf import formats, judging, metrics, published, thresholds
from anogan_tf.data.images import Source, name_of, open_cropped
from anogan_tf.runs import fingerprint, load_run
from anogan_tf.scoring import Row, Scorer, preprocessing_of

CARD = "README.md"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is said of a picture.

    Attributes:
        anomaly_score: Larger is more anomalous.
        p_value: The share of normal pictures that look at least as anomalous.
        prediction: 1 above the threshold, else 0.
        decision: `"normal"`, `"suspicious"` or `"anomalous"`, see `judging.TestResult`.
        size: `(height, width)` of the picture in its own pixels, after cropping.
        regions: The anomalous regions in these pixels, see `metrics.regions`; None where no map was made.
        anomaly_map: `(map_height, map_width)`, to be stretched to `size`; None where it was not asked for.
    """

    anomaly_score: float
    p_value: float
    prediction: int
    decision: str
    size: tuple[int, int]
    regions: list[dict[str, Any]] | None = None
    anomaly_map: np.ndarray | None = None


class Detector(Protocol):
    """What judges pictures: a run, here; or anything else that does the same.

    Attributes:
        name: What it is called.
        fingerprint: What tells it from another one of that name.
        chunk: Pictures judged at once.
        thresholds: `suspicious` and `anomalous`, which scores exceed, and `pixel`, which the map exceeds in regions.
        card: What a reader should know of it, as Markdown; None where nothing is written.
    """

    name: str
    fingerprint: str
    chunk: int
    thresholds: dict[str, float]
    card: str | None

    def read(self, picture: Source) -> Row:
        """A picture, decoded and brought to what `judge` takes; threads may do so beside each other.

        Raises:
            ValueError: If it cannot be read, in words for whoever sent it.
        """
        ...

    def judge(self, rows: Sequence[Row], *, mapped: bool = False) -> list[Verdict]:
        """Verdicts on pictures that were read, the same whatever the others are; with maps if they are to be mapped."""
        ...

    def warm_up(self) -> None:
        """Does what makes the first verdict take longer than others."""
        ...


class RunDetector:
    """A run as a `Detector`; its scores are those of `anogan-tf score`, bit by bit.

    Args:
        run: The folder of a run, or the name of a published one.
        scorer: The scorer of that run, in place of the one that it gives.
        threshold: A number in place of the calibrated threshold; None for that.

    Raises:
        ValueError: If nothing was calibrated.

    Example:
        >>> detector = RunDetector("mnist-8")
        >>> (verdict,) = detector.judge([detector.read("digit.png")])
        >>> verdict.decision
        'normal'
    """

    def __init__(self, run: str | os.PathLike, *, scorer: Scorer | None = None, threshold: float | None = None) -> None:
        folder = published.find(run)
        scorer = load_run(folder) if scorer is None else scorer
        if scorer.calibration is None:
            raise ValueError(
                f"{run} has no threshold, so it decides on nothing: anogan-tf calibrate {run} GOOD… sets one."
            )
        self.folder = folder
        self.name = folder.resolve().name
        self.fingerprint = fingerprint(folder)
        self.chunk = scorer.chunk
        self.card = _text_of(folder / CARD)
        calibration = scorer.calibration
        suspicious = calibration.threshold if threshold is None else threshold
        strict = max(suspicious, calibration.strict[0])
        self.thresholds = {"suspicious": suspicious, "anomalous": strict, "pixel": calibration.pixel_threshold}
        self._scorer = scorer
        self._threshold = threshold
        self._preprocessing = preprocessing_of(scorer)

    def read(self, picture: Source) -> Row:
        image, (height, width) = self._preprocessing.read(picture)
        return {"image": image, "id": "the picture", "height": height, "width": width}

    def judge(self, rows: Sequence[Row], *, mapped: bool = False) -> list[Verdict]:
        judged = judging.judged_images(self._scorer, list(rows), self._threshold, mapped=mapped)
        return [_verdict(row, *found, mapped) for row, found in zip(rows, judged, strict=True)]

    def warm_up(self) -> None:
        height, width, channels = self._preprocessing.image_shape
        black = np.full((height, width, channels), -1.0, np.float32)
        self.judge([{"image": black, "id": "a black picture", "height": height, "width": width}])


class ExportDetector:
    """What `anogan-tf export` wrote as a `Detector`, called by the runtime of its format alone.

    Args:
        export: The folder of an export.

    Raises:
        FileNotFoundError: If it holds no export.
        ValueError: If a package that it needs is missing.
    """

    def __init__(self, export: str | os.PathLike) -> None:
        folder = Path(export)
        self._call = formats.load(folder)
        description = json.loads((folder / formats.DESCRIPTION).read_text(encoding="utf-8"))
        told = description["thresholds"]
        self.name = folder.resolve().name
        self.fingerprint = description["fingerprint"][:16]
        self.chunk = 8  # taken together; called one by one, as each may have a size of its own
        self.card = _text_of(folder / CARD)
        self.thresholds = {
            "suspicious": told["threshold"],
            "anomalous": told["strict_threshold"],
            "pixel": told["pixel_threshold"],
        }
        self._crop = description["preprocessing"]["crop"]
        self._smallest = description["preprocessing"]["smallest"]

    def read(self, picture: Source) -> Row:
        crop = tuple(self._crop) if isinstance(self._crop, list) else self._crop
        planes = open_cropped(picture, crop=crop)  # and what is cropped stays as it is when it is cropped again
        width, height = planes[0].size
        if planes[0].mode == "F":
            raise ValueError(f"{name_of(picture)}: an export takes 8 bits a channel. Received: 16.")
        if height < self._smallest[0] or width < self._smallest[1]:
            least = "×".join(map(str, self._smallest))
            raise ValueError(f"{name_of(picture)}: at least {least} pixels are taken. Received: {height}×{width}.")
        return {"image": np.asarray(planes[0].convert("RGB")), "id": "the picture", "height": height, "width": width}

    def judge(self, rows: Sequence[Row], *, mapped: bool = False) -> list[Verdict]:
        return [self._judged(row, mapped) for row in rows]

    def warm_up(self) -> None:
        height, width = self._smallest
        self.judge([self.read(np.zeros((height, width, 3), np.uint8))])

    def _judged(self, row, mapped):
        found = {name: values[0] for name, values in self._call(row["image"][None]).items()}
        decision = int(found["decision"])
        anomaly_map = found.get("anomaly_map")
        regions = None
        if anomaly_map is not None:
            regions = metrics.regions(anomaly_map, self.thresholds["pixel"], is_alarm=bool(decision))
        return Verdict(
            anomaly_score=float(found["anomaly_score"]),
            p_value=float(found["p_value"]),
            prediction=int(decision > 0),
            decision=thresholds.DECISIONS[decision],
            size=(row["height"], row["width"]),
            regions=regions,
            anomaly_map=anomaly_map if mapped else None,
        )


def _verdict(row, result, regions, anomaly_map, mapped):
    kept = ("anomaly_score", "p_value", "prediction", "decision")
    return Verdict(
        **{name: result[name] for name in kept},
        size=(row["height"], row["width"]),
        regions=None if anomaly_map is None else regions,
        anomaly_map=anomaly_map if mapped else None,
    )


def _text_of(file):
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
