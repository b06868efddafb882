import json
import random

import mlflow
import pandas as pd
import pytest

import anogan_tf.mlflow as models
from anogan_tf.detector import RunDetector
from anogan_tf.runs import fingerprint
from benchmarks import serve

pytestmark = [  # both are of MLflow itself: under pandas 3, and of types it hints at
    pytest.mark.filterwarnings("ignore:Operation with range"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred"),
]
PICTURES = [serve.picture(random.Random(seed), kind) for seed, kind in enumerate(("png", "jpg"))]


@pytest.fixture(scope="module")
def run(saved_digits):
    return saved_digits


def test_a_saved_model_is_the_run_and_says_what_it_says(run, tmp_path):
    models.save_model(run, tmp_path / "model", metadata={"line": 4})
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    answer = model.predict(pd.DataFrame({"picture": PICTURES}))
    detector = RunDetector(run)
    (expected, other) = (detector.judge([detector.read(models.Encoded(content))])[0] for content in PICTURES)
    assert answer["anomaly_score"].tolist() == [expected.anomaly_score, other.anomaly_score]
    assert answer["decision"][0] == expected.decision
    assert json.loads(answer["regions"][1]) == json.loads(json.dumps(other.regions))
    files = {path.name: path.read_bytes() for path in (tmp_path / "model/data/digits").iterdir()}
    assert files == {path.name: path.read_bytes() for path in run.iterdir()}
    assert not list((tmp_path / "model").rglob("*.pkl"))
    assert model.metadata.metadata == {"line": 4}


def test_the_input_example_is_what_the_signature_asks_for(run, tmp_path):
    models.save_model(run, tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    answer = model.predict(model.input_example)
    assert list(answer) == model.metadata.get_output_schema().input_names()
    assert model.metadata.metadata["fingerprint"] == fingerprint(run)
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        model.predict(pd.DataFrame({"path": ["a.png"]}))
    with pytest.raises(ValueError, match="the picture: not a readable image"):
        model.predict(pd.DataFrame({"picture": [b"no picture"]}))


def test_a_logged_model_is_loaded_by_its_address(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    with mlflow.start_run():
        address = models.log_model(run, "digits").model_uri
    answer = mlflow.pyfunc.load_model(address).predict(pd.DataFrame({"picture": PICTURES}))
    assert set(answer["decision"]) <= {"normal", "suspicious", "anomalous"}


def test_what_is_no_run_is_not_saved(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run"):
        models.save_model(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()
