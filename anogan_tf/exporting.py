"""Exports: one model from pictures to decisions that needs no anogan_tf, proved to give the same."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from anogan_tf import decoding, formats, metrics, outlines, report, resampling, scoring, thresholds
from anogan_tf.neighbours import LocalNeighbours
from anogan_tf.scoring import Scorer, unwrapped

TOLERANCE = 1e-4  # of differences, as parts of the largest value; of a score, of the spread of normal scores at least
BY_CLUSTERS = 0.01  # of maps, where a place that is as near to two clusters may fall to the other by a rounding
SEARCHED = 0.01  # of the mean residual of all pictures after a search, which amplifies each rounding
PROVED = ("anomaly_score", "anomaly_map", "residual", "discrimination", "reconstruction")
SECONDS = 900  # that a fresh process may take


def export(
    scorer: Scorer,
    path: str | os.PathLike,
    *,
    format: str = "saved_model",
    search: bool = False,
    pictures: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Writes a scorer as one model from pictures to decisions, after a fresh process has shown that it gives the same.

    What an export takes and gives is told by the `model.json` beside it, and in docs/export.md. It is loaded by the
    format's own runtime alone, and called on the pictures; where it differs from `scorer` by more than 1e-4 (the mean
    residual after a search: 1 %), or decides otherwise, nothing is left of it.

    Args:
        scorer: A calibrated scorer.
        path: A folder; made where it is missing. An earlier export in it is replaced.
        format: A name of `formats.FORMATS`.
        search: Whether an `AnoGAN` searches z, and so draws. Without it an `AnoGAN` with an encoder draws G(E(x)), as
            with `steps=0`, and one without draws nothing.
        pictures: What to compare on, uint8 arrays `(height, width, 3)` of any sizes; None for pictures that the
            generator draws, some with a patch of another brightness.

    Returns:
        The largest differences, by the name of the output: `decision` and `anomaly_mask` as the parts that differ.

    Raises:
        ValueError: Before anything is written, if the format cannot do what is asked, or the scorer has no calibration;
            afterwards, if the export does not give the same.
        FileExistsError: If the folder holds anything but an export.
    """
    chosen, path = formats.of_name(format), Path(path)
    scorer, draw = as_asked(scorer, search)
    searched = search and getattr(unwrapped(scorer), "steps", 0) > 0
    _check(scorer, chosen, format, searched)
    _check_folder(path)
    pictures = example_pictures(scorer) if pictures is None else list(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"partial-{path.name}-", dir=path.parent) as partial:
        folder = Path(partial) / "export"
        folder.mkdir()
        many = chosen.loops or (chosen.batches and not _one_by_one(scorer))
        functions = _functions(scorer, draw=draw, many=many, loops=chosen.loops)
        chosen.write(functions, folder)
        description = _description(scorer, functions, format, searched)
        report.write_json(folder / formats.DESCRIPTION, description)
        differences = _compared(scorer, folder, pictures, draw=draw, searched=searched)
        report.write_json(folder / formats.DESCRIPTION, description | {"differences": differences})
        if path.exists():
            shutil.rmtree(path)
        folder.rename(path)
    return differences


def answers(scorer: Scorer, pictures: tf.Tensor, *, draw: bool) -> dict[str, tf.Tensor]:
    """All that an export gives for pictures, as tensors.

    Args:
        scorer: A calibrated scorer.
        pictures: uint8 `(n, height, width, 3)`.
        draw: As in `Scorer.score`.
    """
    preprocessing, calibration = scoring.preprocessing_of(scorer), scorer.calibration
    levels = resampling.cropped(tf.cast(pictures, tf.float32), preprocessing.crop)
    if preprocessing.image_shape[2] == 1:
        levels = resampling.gray(levels)
    size = tf.unstack(tf.shape(levels)[1:3])
    wanted, smallest = preprocessing.image_shape[:2], _smallest(preprocessing)
    if preprocessing.scale is not None:
        wanted = [tf.cast(tf.round(tf.cast(side, tf.float32) * preprocessing.scale), tf.int32) for side in size]
    images = resampling.resized(levels, wanted) / 127.5 - 1.0
    images.set_shape((None, *preprocessing.common_shape))
    outputs = scorer.tensors(images, draw=draw)
    outputs.pop("z", None)
    fits = tf.reduce_all(tf.shape(pictures)[1:3] >= smallest)
    score = tf.where(fits, outputs["anomaly_score"], np.nan)
    limits = np.float32((calibration.threshold, calibration.strict[0], calibration.pixel_threshold))
    above = tf.constant(calibration.scores, tf.float32) >= score[:, None]
    outputs |= {
        "anomaly_score": score,
        "p_value": (1.0 + tf.reduce_sum(tf.cast(above, tf.float32), axis=1)) / (1.0 + len(calibration.scores)),
        "decision": 2 - tf.reduce_sum(tf.cast(score[:, None] <= limits[:2], tf.int32), axis=1),  # 2 for NaN, too
    }
    if "anomaly_map" in outputs:
        maps = resampling.smoothed(outputs["anomaly_map"], scorer.smoothing * max(scorer.image_shape[:2]))
        maps = resampling.resized_maps(maps, size)
        outputs |= {"anomaly_map": maps, "anomaly_mask": outlines.masks(maps, limits[2], score > limits[0])}
    return outputs


def example_pictures(scorer: Scorer) -> list[np.ndarray]:
    """Pictures that the generator draws, with and without a patch of another brightness, in sizes of their own."""
    drawn = np.clip((unwrapped(scorer).gan.generate(4) + 1.0) * 127.5, 0, 255).astype(np.uint8)
    drawn[2:, 1 : drawn.shape[1] // 3, 1 : drawn.shape[2] // 3] ^= 255
    height, width, _ = scorer.image_shape
    crop = scoring.preprocessing_of(scorer).crop
    least = crop if isinstance(crop, tuple) else (crop, crop) if isinstance(crop, int) else (1, 1)
    sizes = ((height, width), (2 * height + 5, 2 * width - 3), (height + 7, width), (2 * height, 3 * width + 1))
    sizes = [tuple(map(max, size, least)) for size in sizes]
    return [resized_picture(picture, size) for picture, size in zip(drawn, sizes, strict=True)]


def resized_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture `(height, width, 1 or 3)` in bytes at another size, in colour."""
    picture = picture[..., 0] if picture.shape[-1] == 1 else picture
    image = Image.fromarray(picture).convert("RGB")
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def as_asked(scorer: Scorer, search: bool) -> tuple[Scorer, bool]:
    """The scorer that is exported, with a search or without, and whether it draws; see `export`."""
    inner = unwrapped(scorer)
    if search or not hasattr(inner, "steps"):
        return scorer, True
    if scorer.needs_z and inner.steps:
        raise ValueError(
            f'score="{inner.score_kind}" decides by the z that a search finds: export it with search=True (--search).'
        )
    if inner.encoder is None:
        return scorer, scorer.needs_z
    return _without_steps(scorer), True


def _without_steps(scorer):
    """A copy that draws at E(x)."""
    copied = copy.copy(scorer)
    if hasattr(scorer, "scorer"):
        copied.scorer = _without_steps(scorer.scorer)
    else:
        copied.steps = 0
    return copied


def _check(scorer, chosen, name, searched):
    if scorer.calibration is None:
        raise ValueError("There are no thresholds to export: call calibrate(normal validation images) first.")
    if searched and not chosen.loops:
        able = ", ".join(key for key, format in formats.FORMATS.items() if format.loops)
        raise ValueError(
            f'format="{name}" has no gradients, so that a search in it would stay where it begins. Formats with '
            f"search=True (--search): {able}."
        )
    if not chosen.loops and _one_by_one(scorer) and scorer.any_size:
        raise ValueError(f'format="{name}" has no loop over tiles that are compared one by one: take "saved_model".')


def _one_by_one(scorer):
    """Whether somewhere inside pictures are compared one at a time."""
    return isinstance(scorer, LocalNeighbours) or (hasattr(scorer, "scorer") and _one_by_one(scorer.scorer))


def _check_folder(path):
    if path.exists() and not (path / formats.DESCRIPTION).is_file() and (path.is_file() or any(path.iterdir())):
        raise FileExistsError(f"{path} holds something else than an export: name another folder.")


def _smallest(preprocessing):
    """`(height, width)` of the smallest picture that can be scored."""
    crop = preprocessing.crop
    rows, columns = crop if isinstance(crop, tuple) else (crop, crop) if isinstance(crop, int) else (1, 1)
    if preprocessing.scale is not None:
        sides = (int(np.ceil((side - 0.5) / preprocessing.scale)) for side in preprocessing.image_shape[:2])
        rows, columns = map(max, (rows, columns), sides)
    return rows, columns


def _functions(scorer, *, draw, many, loops):
    """The signatures of an export by name, with all variables as constants; with `loops` one of encoded pictures, too.

    TensorFlow optimizes loops as it does all else only where they are lowered to a part of the graph around them, which
    other formats do not read.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((None if many else 1, None, None, 3), tf.uint8, name=formats.INPUT)
    function = tf.function(lambda pictures: answers(scorer, pictures, draw=draw), autograph=False)
    concrete = function.get_concrete_function(spec)
    shapes = {name: value.shape for name, value in sorted(concrete.structured_outputs.items())}
    constant = convert_variables_to_constants_v2(concrete, lower_control_flow=loops)

    @tf.function(input_signature=[spec], autograph=False)
    def serving_default(pictures):
        outputs = {name: tf.identity(value, name) for name, value in zip(shapes, constant(pictures), strict=True)}
        for name, value in outputs.items():
            value.set_shape(shapes[name])  # which loops forget when they are lowered
        return outputs

    @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="encoded")], autograph=False)
    def of_encoded(encoded):
        return serving_default(decoding.decoded(encoded)[None])

    return {"serving_default": serving_default} | ({"encoded": of_encoded} if loops else {})


def _description(scorer, functions, name, searched):
    """What `model.json` tells."""
    calibration, preprocessing = scorer.calibration, scoring.preprocessing_of(scorer)
    outputs = functions["serving_default"].get_concrete_function().structured_outputs
    strict, strict_alpha = calibration.strict
    return {
        "format": name,
        "signatures": list(functions),
        "inputs": {
            formats.INPUT: {"dtype": "uint8", "shape": functions["serving_default"].input_signature[0].shape.as_list()}
        },
        "outputs": {key: {"dtype": value.dtype.name, "shape": value.shape.as_list()} for key, value in outputs.items()},
        "decisions": thresholds.DECISIONS,
        "thresholds": {
            "threshold": calibration.threshold,
            "alpha": calibration.attained_alpha,
            "strict_threshold": strict,
            "strict_alpha": strict_alpha,
            "pixel_threshold": calibration.pixel_threshold,
            "normal_scores": len(calibration.scores),
            "method": calibration.method,
        },
        "preprocessing": vars(preprocessing) | {"smallest": _smallest(preprocessing)},
        "search": searched,
        "scorer": {"method": scorer.method, "settings": scorer.settings},
        "fingerprint": _fingerprint(scorer),
        "data": scorer.info.get("fingerprint"),
        "versions": report.versions(),
    }


def _fingerprint(scorer):
    """A digest of all that decides: networks, what was learned, settings and thresholds."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(scoring.fingerprint(*unwrapped(scorer).gan.networks, scorer.encoder).encode())
    for name, array in sorted(scorer.reference.arrays.items()) if scorer.reference is not None else ():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    told = {"settings": scorer.settings, "calibration": vars(scorer.calibration)}
    digest.update(json.dumps(told, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _compared(scorer, folder, pictures, *, draw, searched):
    """The largest differences between the scorer and the export in a folder, or a ValueError if they are too large."""
    found, expected = _called(folder, pictures), _expected(scorer, pictures, draw)
    spread = float(np.std(scorer.calibration.scores))
    differences = {}
    for name in sorted(expected[0]):
        pairs = [(np.asarray(want[name]), got[name][0]) for want, got in zip(expected, found, strict=True)]
        differences[name] = max(_difference(name, *pair, spread) for pair in pairs)
    if searched:
        wanted, got = (np.mean([outputs["residual"] for outputs in each]) for each in (expected, found))
        differences["mean_residual"] = float(abs(got / wanted - 1.0))
    limits = _limits(scorer, searched)
    beyond = [name for name, limit in limits.items() if name in differences and not differences[name] <= limit]
    if beyond:
        told = ", ".join(f"{name} {differences[name]:.2g} (at most {limits[name]:g})" for name in beyond)
        raise ValueError(f"The export does not give the same, and was not kept. Largest differences: {told}.")
    return differences


def _limits(scorer, searched):
    """What differences may be at most, by name; of what a search's z makes only the mean residual has a limit."""
    limits = dict.fromkeys(PROVED, TOLERANCE) | {"decision": 0.0}
    if getattr(scorer.reference, "has_clusters", False):
        limits["anomaly_map"] = BY_CLUSTERS
    if not searched:
        return limits
    of_z = {"residual", "discrimination", "reconstruction"}
    of_z |= {"anomaly_map"} if scorer.maps_need_z else set()
    of_z |= {"anomaly_score", "decision"} if scorer.needs_z else set()
    return {name: limit for name, limit in limits.items() if name not in of_z} | {"mean_residual": SEARCHED}


def _difference(name, want, got, spread):
    if name in ("decision", "anomaly_mask"):
        return float(np.mean(want != got))
    if want.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    scale = max(float(np.abs(want).max()), spread if name == "anomaly_score" else 0.0)
    away = float(np.abs(want.astype(np.float64) - got).max())
    return away / scale if scale else away


def _expected(scorer, pictures, draw):
    """What the scorer gives for pictures, a dict for each."""
    pixel_threshold = scorer.calibration.pixel_threshold
    each = []
    for rows, outputs in scoring.scored_chunks(scorer, list(pictures), draw=draw):
        for i, row in enumerate(rows):
            own = {name: values[i] for name, values in outputs.items() if name not in ("z", "anomaly_mask")}
            score = own["anomaly_score"]
            limits = scorer.calibration.threshold, scorer.calibration.strict[0]
            own["p_value"] = thresholds.p_values([score], scorer.calibration.scores)[0]
            own["decision"] = thresholds.DECISIONS.index(thresholds.decision(score, *limits))
            if "anomaly_map" in own:
                own["anomaly_map"] = metrics.resize_map(own["anomaly_map"], (int(row["height"]), int(row["width"])))
                found = metrics.regions(own["anomaly_map"], pixel_threshold, is_alarm=bool(own["decision"]))
                own["anomaly_mask"] = metrics.region_mask(own["anomaly_map"], found, pixel_threshold)
            each.append(own)
    return each


def _called(folder, pictures):
    """What an export gives for pictures in a process of its own, a dict for each."""
    with tempfile.TemporaryDirectory() as between:
        given, found = Path(between) / "pictures.npz", Path(between) / "outputs.npz"
        np.savez(given, **{str(number): picture[None] for number, picture in enumerate(pictures)})
        command = [sys.executable, "-m", "anogan_tf.formats", str(folder), str(given), str(found)]
        where = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
        ended = subprocess.run(command, env=os.environ | where, capture_output=True, text=True, timeout=SECONDS)
        if ended.returncode:
            raise ValueError(f"The export cannot be called: {ended.stderr.strip()[-1000:]}")
        each = [{} for _ in pictures]
        with np.load(found) as file:
            for key in file:
                number, _, name = key.partition("/")
                each[int(number)][name] = file[key]
    return each
