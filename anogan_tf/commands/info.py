"""Prints what a run is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anogan_tf import drawing
from anogan_tf.diagnosis import unkept
from anogan_tf.runs import calibration_of, check_complete, read_run
from anogan_tf.thresholds import STRICTER

BARS, WIDTH = 12, 40


def run(run: str | Path) -> None:
    """Prints what a run was made of, what decides, its thresholds, and what may be wrong with it.

    Args:
        run: The folder of a run, or the name of a published one.

    Raises:
        ValueError: If its training has not finished.
    """
    description = read_run(run)
    check_complete(run, description)
    for name, value in _lines(description):
        print(f"{name:20} {value}")
    if description["calibration"]:
        print("\nscores of good images that nothing was learned from")
        calibration = description["calibration"]
        print("\n".join(histogram(calibration["scores"], calibration["threshold"])))
    for sentence in _diagnosis(description):
        print(f"Mind: {sentence}")


def histogram(scores: Sequence[float], threshold: float) -> list[str]:
    """Lines of a histogram of scores, from the lowest; those at or above the threshold are told apart."""
    edges = np.histogram_bin_edges([*scores, threshold], BARS)
    counts, _ = np.histogram(scores, edges)
    scale = min(1.0, WIDTH / max(counts.max(), 1))
    lines = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        mark = "  < threshold" if low <= threshold < high or (high == edges[-1] == threshold) else ""
        lines.append(f"{low:10.4g} {'#' * int(np.ceil(count * scale)):{WIDTH}} {count}{mark}")
    return lines


def _lines(description):
    settings, preprocessing = description.get("settings", {}), description.get("preprocessing") or {}
    gan, encoder, around = description["gan"], description["encoder"], description.get("around", [])
    yield "run of", f"anogan-tf {description['versions'].get('anogan-tf')}"
    yield "method", " of ".join([*reversed(around), description["method"]])
    yield "what decides", _what_decides(description)
    yield "source", settings.get("source", "unknown, saved from Python")
    if "images" in description:
        yield "images", ", ".join(f"{count} {part or 'not used'}" for part, count in description["images"].items())
    if description.get("added"):
        yield "", f"{description['added']} added by anogan-tf calibrate"
    and_encoder = ", with an encoder" if encoder else ""
    yield "networks", f"{gan['kind']}, {_size(gan['image_shape'])}, z of {gan['latent_dim']}{and_encoder}"
    if preprocessing:
        tiles = ", pictures of any size in tiles of that" if preprocessing.get("scale") else ""
        yield "pictures", _size(preprocessing["image_shape"]) + tiles
    if description.get("drawing"):
        yield "drawing", drawing.in_words(description["drawing"])
    if description["calibration"]:
        yield from _thresholds(calibration_of(description))


def _thresholds(calibration):
    alpha, (strict, strict_rate) = calibration.alpha, calibration.strict
    how = "each held out in turn" if calibration.method == "cross" else "held out"
    yield "calibrated with", f"{len(calibration.scores)} good images, {how}"
    yield "suspicious above", f"{calibration.threshold:.4g}; α = {alpha:g}, attained {calibration.attained_alpha:.3g}"
    yield "anomalous above", f"{strict:.4g}; α = {alpha / STRICTER:g}, attained {strict_rate:.3g}"
    yield "regions above", f"{calibration.pixel_threshold:.4g} in the map"


def _what_decides(description):
    if {"local-neighbours", "joint-neighbours"} & set(description.get("around", [])):
        compared_with = description.get("reference", {}).get("in_words") or "the nearest of good pictures"
        return f"{_features(description)}, against {compared_with}"
    parts = (description.get("reference", {}).get("parts") or {}).items()
    of_each = f" ({', '.join(f'{name} {part:.0%}' for name, part in parts)})" if parts else ""
    return f"the networks, score {description['scorer'].get('score')!r}{of_each}"


def _features(description):
    network = description.get("features")
    of_network = network and f"features of a pretrained network, {network['network']}"
    if "joint-neighbours" in description["around"]:
        return f"local features of fixed filters and {of_network}"
    return of_network or "local features of fixed filters"


def _diagnosis(description):
    calibration = description["calibration"]
    found = [unkept(len(calibration["scores"]), calibration["alpha"])] if calibration else []
    return [*description.get("diagnosis", []), *filter(None, found)]


def _size(shape):
    return "×".join(map(str, shape))
