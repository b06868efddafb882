"""Runs as MLflow models: the artifact is the run itself, and no pickle of ours is in it.

>>> import mlflow, anogan_tf as agt
>>> agt.mlflow.save_model("runs/parts", "model")
>>> model = mlflow.pyfunc.load_model("model")
>>> model.predict(pandas.DataFrame({"picture": [open("photo.png", "rb").read()]}))["decision"]
"""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np
import pandas as pd
from mlflow import pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from PIL import Image

import anogan_tf
from anogan_tf import published
from anogan_tf.data.images import Encoded
from anogan_tf.detector import RunDetector
from anogan_tf.runs import fingerprint, preprocessing_of, read_run

PICTURE = "picture"
COLUMNS = {
    "anomaly_score": "double",
    "p_value": "double",
    "prediction": "long",
    "decision": "string",
    "regions": "string",
}
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("binary", PICTURE)]),
    outputs=Schema([ColSpec(kind, name) for name, kind in COLUMNS.items()]),
)
LOADER = "anogan_tf.mlflow"


def save_model(run: str | os.PathLike, path: str | os.PathLike, **options: Any) -> None:
    """Saves a run as an MLflow model, which `mlflow.pyfunc.load_model` loads where this package is installed.

    The model takes a table with a column `picture`, encoded image files as bytes, and gives a row for each:
    `anomaly_score`, `p_value`, `prediction` and `decision` of `anogan-tf score`, bit by bit, and `regions` as JSON,
    `null` where they would cost a search.

    Args:
        run: The folder of a run, or the name of a published one.
        path: The folder of the model, which must not exist yet.
        **options: Others of `mlflow.pyfunc.save_model`, such as `metadata`.

    Raises:
        FileNotFoundError: If there is no run.
    """
    pyfunc.save_model(path, **_described(run) | options)


def log_model(run: str | os.PathLike, name: str, **options: Any) -> Any:
    """Logs a run as a model of the active MLflow run, see `save_model`.

    Args:
        run: As in `save_model`.
        name: What the model is called there.
        **options: Others of `mlflow.pyfunc.log_model`, such as `registered_model_name`.

    Returns:
        What `mlflow.pyfunc.log_model` returns, with its `model_uri`.
    """
    return pyfunc.log_model(name=name, **_described(run) | options)


class RunModel:
    """What `mlflow.pyfunc` calls: a table of pictures in, a table of verdicts out.

    Args:
        detector: What judges.
    """

    def __init__(self, detector: RunDetector) -> None:
        self.detector = detector

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The verdicts on the pictures in the column `picture`.

        Raises:
            ValueError: If one cannot be read.
        """
        rows = [self.detector.read(Encoded(content)) for content in model_input[PICTURE]]
        verdicts = [vars(verdict) for verdict in self.detector.judge(rows)]
        told = [verdict | {"regions": json.dumps(verdict["regions"])} for verdict in verdicts]
        return pd.DataFrame(told, columns=list(COLUMNS))


def _load_pyfunc(data_path: str) -> RunModel:
    """What MLflow calls to load a model: the run of `save_model` lies at `data_path`."""
    return RunModel(RunDetector(data_path))


def _described(run):
    """What MLflow is told of a run."""
    folder = published.find(run)
    return {
        "loader_module": LOADER,
        "data_path": os.fspath(folder),
        "signature": SIGNATURE,
        "input_example": pd.DataFrame({PICTURE: [_black_picture(folder)]}),
        "pip_requirements": [f"anogan-tf[mlflow]=={anogan_tf.__version__}"],
        "metadata": {"run": folder.resolve().name, "fingerprint": fingerprint(folder)},
    }


def _black_picture(folder):
    """A PNG of the size that the run takes."""
    preprocessing = preprocessing_of(read_run(folder))
    content = io.BytesIO()
    Image.fromarray(np.zeros(preprocessing.image_shape[:2], np.uint8)).save(content, "png")
    return content.getvalue()
