"""Unsupervised anomaly detection in images with GANs.

>>> import anogan_tf as agt
>>> splits = agt.data.load("digits", normal="8")
>>> gan = agt.DCGAN(image_shape=(8, 8, 1), latent_dim=16, width=32)
>>> gan.compile()
>>> history = gan.fit(splits.train, epochs=600, shuffle=False)
>>> anogan = agt.AnoGAN(gan)
>>> anogan.fit_reference(splits.reference)
>>> anogan.calibrate(splits.validation)
>>> results, threshold, accuracy = anogan.test(splits.test)
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see; at run time all is imported at its first use
    from anogan_tf import anogan as anogan
    from anogan_tf import augmentation as augmentation
    from anogan_tf import bulk as bulk
    from anogan_tf import callbacks as callbacks
    from anogan_tf import data as data
    from anogan_tf import diagnosis as diagnosis
    from anogan_tf import drawing as drawing
    from anogan_tf import exporting as exporting
    from anogan_tf import fanogan as fanogan
    from anogan_tf import formats as formats
    from anogan_tf import gan as gan
    from anogan_tf import joint as joint
    from anogan_tf import local_features as local_features
    from anogan_tf import losses as losses
    from anogan_tf import metrics as metrics
    from anogan_tf import mlflow as mlflow
    from anogan_tf import neighbours as neighbours
    from anogan_tf import networks as networks
    from anogan_tf import patches as patches
    from anogan_tf import plots as plots
    from anogan_tf import pretrained as pretrained
    from anogan_tf import published as published
    from anogan_tf import reference as reference
    from anogan_tf import report as report
    from anogan_tf import runs as runs
    from anogan_tf import scoring as scoring
    from anogan_tf import search as search
    from anogan_tf import thresholds as thresholds
    from anogan_tf import transformations as transformations
    from anogan_tf import weights as weights
    from anogan_tf.anogan import AnoGAN as AnoGAN
    from anogan_tf.exporting import export as export
    from anogan_tf.fanogan import FAnoGAN as FAnoGAN
    from anogan_tf.gan import DCGAN as DCGAN
    from anogan_tf.gan import WGANGP as WGANGP
    from anogan_tf.joint import JointNeighbours as JointNeighbours
    from anogan_tf.neighbours import LocalNeighbours as LocalNeighbours
    from anogan_tf.networks import Discriminator as Discriminator
    from anogan_tf.networks import Encoder as Encoder
    from anogan_tf.networks import Generator as Generator
    from anogan_tf.patches import Patched as Patched
    from anogan_tf.runs import load_run as load_run
    from anogan_tf.runs import read_pictures as read_pictures
    from anogan_tf.runs import save_run as save_run
    from anogan_tf.weights import load_weights as load_weights
    from anogan_tf.weights import save_keras2_weights as save_keras2_weights

__version__ = "0.1.0"

_HOME = {
    "AnoGAN": "anogan",
    "DCGAN": "gan",
    "WGANGP": "gan",
    "FAnoGAN": "fanogan",
    "Generator": "networks",
    "Discriminator": "networks",
    "Encoder": "networks",
    "JointNeighbours": "joint",
    "LocalNeighbours": "neighbours",
    "Patched": "patches",
    "export": "exporting",
    "load_run": "runs",
    "read_pictures": "runs",
    "load_weights": "weights",
    "save_keras2_weights": "weights",
    "save_run": "runs",
}
_MODULES = (
    "anogan", "augmentation", "callbacks", "data", "diagnosis", "drawing", "exporting", "fanogan", "formats", "gan",
    "joint", "local_features", "losses", "metrics", "neighbours", "networks", "patches", "plots", "pretrained",
    "published", "reference", "report", "runs", "scoring", "search", "thresholds", "transformations", "weights",
)  # fmt: skip
_OF_EXTRAS = ("bulk", "mlflow")  # which `import *` must not need

__all__ = [*_HOME, *_MODULES]


if not TYPE_CHECKING:  # a checker that saw it would let any name pass

    def __getattr__(name: str) -> Any:
        """Imports on first use, as TensorFlow takes seconds that the command line's help must not pay."""
        if name not in (*__all__, *_OF_EXTRAS):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in ("metrics", "plots", "published", "report", "thresholds", "formats"):
            _check_keras()
        module = importlib.import_module(f"{__name__}.{_HOME.get(name, name)}")
        return getattr(module, name) if name in _HOME else module


def __dir__() -> list[str]:
    return [*__all__, *_OF_EXTRAS]


def _check_keras():
    """Tells of settings of Keras that ours does not work under, before Keras itself fails."""
    backend = _backend()
    if backend != "tensorflow":
        raise ImportError(
            "anogan_tf needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow before importing keras. Received: "
            f"{backend}."
        )
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):
        warnings.warn(
            "TF_USE_LEGACY_KERAS makes tf.keras Keras 2, whose optimizers and layers do not work here: take those of "
            "`import keras`.",
            stacklevel=3,
        )
    import keras

    if keras.config.image_data_format() != "channels_last":
        raise ImportError(
            'anogan_tf needs images with the channels last: keras.config.set_image_data_format("channels_last"), or '
            f"the same in ~/.keras/keras.json. Received: {keras.config.image_data_format()}."
        )


def _backend():
    """The backend of Keras, or the one that it would take, as the import of a missing one fails."""
    if "keras" in sys.modules:
        return sys.modules["keras"].config.backend()
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        configured = json.loads((home / "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError):
        configured = "tensorflow"
    return os.environ.get("KERAS_BACKEND") or configured
