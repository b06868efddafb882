"""Recipes: for shapes, photos and parts what an option is where it is not given; docs/studies.md tells why.

A recipe is added here: what it sets, and when it is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    "shapes": {
        "self_supervision": ("rotation", "shift"),
        "score_kind": "features+transformations",
        "architecture": "principal-dcgan",
        "latent_dim": 32,
        "width": 32,
        "batch_size": 16,
        "training_steps": 4000,
        "encoder_part": 0.2,
        "start": "encoder",
        "steps": 0,
        "distance": "l2",
    },
    "photos": {
        "self_supervision": ("rotation", "shift"),
        "score_kind": "tasks+density",
        "architecture": "deep-dcgan",
        "task_weight": 10.0,
        "views": 9,
        "augment": ("translation", "mirror"),
        "width": 48,
        "batch_size": 16,
        "training_steps": 5000,
    },
    "parts": {
        "self_supervision": (),
        "score_kind": "neighbours",
        "architecture": "principal",
        "latent_dim": 128,
        "augment": ("translation",),
        "ema": 0.99,
        "width": 24,
        "batch_size": 16,
        "epochs": 1,
        "training_steps": 600,
        "learning_rate": 3e-4,
        "start": "encoder",
        "mode": "joint",
        "steps": 10,
        "search_rate": 0.1,
        "feature_weight": 0.0,
    },
}
QUALITIES = {"standard": 1, "high": 3}  # how many times the recipe's steps networks are trained
PAPERS: dict[str, Any] = {  # where no recipe says otherwise
    "architecture": "dcgan",
    "latent_dim": 64,
    "task_weight": 1.0,
    "views": 3,
    "augment": (),
    "ema": 0.0,
    "encoder_part": 1.0,  # of the GAN's training steps, for an encoder
    "start": "prior",
    "mode": "izi_f",
    "steps": 50,
    "search_rate": None,
    "feature_weight": None,
    "distance": None,
}


def of_source(is_files: bool, channels: int) -> str:
    """The recipe of a source of which nothing else is known: of parts for files, else by the channels."""
    if is_files:
        return "parts"
    return "shapes" if channels == 1 else "photos"


def width_of(width: int, image_shape: Sequence[int]) -> int:
    """A recipe's width for images of 64×64 pixels, halved with each doubling of the side: layers cost as much then."""
    side = math.sqrt(math.prod(image_shape[:2]))
    return width >> max(0, round(math.log2(side / 64)))
