"""What the package shows before any of its modules is imported."""

import ast
import json
import os
import sys
import warnings
from pathlib import Path

import keras
import pytest

import anogan_tf as agt
from anogan_tf.commands import cli


def test_checkers_and_editors_see_every_public_name():
    tree = ast.parse(Path(agt.__file__).read_text())
    imported = [name.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names]
    assert set(agt.__all__) <= set(imported)
    assert all(getattr(agt, name) is not None for name in agt.__all__)


@pytest.mark.parametrize("where", ["the environment", "keras.json"])
def test_another_backend_is_told_before_keras_fails(where, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if where == "the environment":
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    else:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}))
    with pytest.raises(ImportError, match=r"set KERAS_BACKEND=tensorflow .* Received: torch"):
        agt.DCGAN  # noqa: B018
    assert "keras" not in sys.modules


def test_channels_first_is_told(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(ImportError, match=r"channels last.* Received: channels_first"):
        agt.DCGAN  # noqa: B018


def test_keras_2_is_told(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    with pytest.warns(UserWarning, match="take those of `import keras`"):
        agt.DCGAN  # noqa: B018


def test_the_command_line_runs_on_tensorflow_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    cli.main.callback(debug=False)
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
