"""Defects painted on normal pictures, to choose by where no anomalous picture is to be had."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Shape = tuple[int, ...]
Defect = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def painted(pictures: np.ndarray, defect: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with a defect each, somewhere, of any size and strength, and where it is.

    - `"line"`: a thin streak, darker or brighter, in any direction
    - `"spot"`: a soft spot, darker or brighter
    - `"patch"`: a piece of another picture, from another place and turned by a half
    - `"smear"`: a piece out of focus

    Args:
        pictures: Normal pictures `(n, height, width, channels)` in [-1, 1].
        defect: One of `DEFECTS`.
        seed: Of what is drawn by chance.

    Returns:
        The pictures, of the same shape, and masks `(n, height, width)`, True where more than half of it is the defect.

    Raises:
        ValueError: If `defect` is not one of `DEFECTS`.

    References:
        Li et al., "CutPaste", arXiv 2104.04015, section 2 (patches, and scars); Schlüter et al., "Natural Synthetic
        Anomalies", arXiv 2109.15222 (pieces of other pictures, blended).
    """
    if defect not in DEFECTS:
        raise ValueError(f"defect is one of {list(DEFECTS)}. Received: defect={defect!r}.")
    rng = np.random.default_rng(seed)
    others = np.roll(pictures, 1, axis=0)
    drawn = [DEFECTS[defect](picture, other, rng) for picture, other in zip(pictures, others, strict=True)]
    found, shares = zip(*drawn, strict=True)
    return np.clip(found, -1.0, 1.0).astype(np.float32), np.stack(shares)[..., 0] > 0.5


def _line(picture, other, rng):
    side = max(picture.shape[:2])
    share = _ellipse(picture.shape, rng, (rng.uniform(0.003, 0.008) * side, rng.uniform(0.08, 0.25) * side), 1.5)
    return picture + share * _step(rng), share


def _spot(picture, other, rng):
    radius = _size(picture.shape, rng, 0.02, 0.08)
    share = _ellipse(picture.shape, rng, (radius * rng.uniform(0.5, 1.0), radius), 1.5)
    share = ndimage.gaussian_filter(share, (radius / 3, radius / 3, 0))
    return picture + share * _step(rng), share


def _patch(picture, other, rng):
    share = _piece(picture.shape, rng)
    away = [int(rng.integers(-(side // 3), side // 3 + 1)) for side in picture.shape[:2]]
    return picture + share * (np.roll(other[::-1, ::-1], away, axis=(0, 1)) - picture), share


def _smear(picture, other, rng):
    share = _piece(picture.shape, rng)
    sigma = _size(picture.shape, rng, 0.015, 0.06)
    return picture + share * (ndimage.gaussian_filter(picture, (sigma, sigma, 0)) - picture), share


def _step(rng):
    """By how much a defect is darker or brighter."""
    return rng.choice([-1.0, 1.0]) * rng.uniform(0.15, 0.5)


def _size(shape, rng, least, most):
    """A size in pixels between parts of the longer side, small ones as likely as large ones."""
    return np.exp(rng.uniform(np.log(least), np.log(most))) * max(shape[:2])


def _piece(shape, rng):
    radius = _size(shape, rng, 0.03, 0.12)
    return _ellipse(shape, rng, (radius * rng.uniform(0.4, 1.0), radius), 3.0)


def _ellipse(shape: Shape, rng: np.random.Generator, radii: tuple[float, float], edge: float) -> np.ndarray:
    """How far each pixel is in an ellipse somewhere, turned somehow: 1 inside, 0 outside, `(height, width, 1)`.

    Args:
        shape: Of the picture.
        rng: Draws place and direction.
        radii: The short and the long one, in pixels.
        edge: Pixels over which it falls from 1 to 0.
    """
    height, width = shape[:2]
    row, column = rng.uniform(0.15, 0.85, 2) * (height, width)
    angle = rng.uniform(0.0, np.pi)
    rows, columns = np.mgrid[:height, :width] - np.reshape((row, column), (2, 1, 1))
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = np.cos(angle) * rows - np.sin(angle) * columns
    short, long = (max(radius, 0.5) for radius in radii)
    outside = (np.hypot(across / short, along / long) - 1.0) * short  # about pixels beyond the rim
    return np.clip(0.5 - outside / edge, 0.0, 1.0)[..., None]


DEFECTS: dict[str, Defect] = {"line": _line, "spot": _spot, "patch": _patch, "smear": _smear}
