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

import importlib

__version__ = "0.1.0"

_HOME = {
    "AnoGAN": "anogan",
    "DCGAN": "gan",
    "WGANGP": "gan",
    "FAnoGAN": "fanogan",
    "Generator": "networks",
    "Discriminator": "networks",
    "Encoder": "networks",
    "LocalNeighbours": "neighbours",
    "Patched": "patches",
    "load_run": "runs",
    "load_weights": "weights",
    "save_keras2_weights": "weights",
    "save_run": "runs",
}
_MODULES = (
    "anogan", "callbacks", "data", "diagnosis", "fanogan", "gan", "local_features", "losses", "metrics", "neighbours",
    "networks", "patches", "plots", "published", "reference", "report", "runs", "scoring", "search", "thresholds",
    "transformations", "weights",
)  # fmt: skip

__all__ = [*_HOME, *_MODULES]


def __getattr__(name):
    """Imports on first use, as TensorFlow takes seconds that the command line's help must not pay."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in ("metrics", "plots", "published", "report", "thresholds"):
        _check_backend()
    module = importlib.import_module(f"{__name__}.{_HOME.get(name, name)}")
    return getattr(module, name) if name in _HOME else module


def __dir__():
    return __all__


def _check_backend():
    import keras

    if keras.config.backend() != "tensorflow":
        raise ImportError(
            "anogan_tf needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow before importing keras. Received: "
            f"{keras.config.backend()}."
        )
