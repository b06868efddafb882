"""The formats of exports: how each is written, and how its runtime alone calls what was written.

    python -m anogan_tf.formats EXPORT PICTURES.npz OUTPUTS.npz

calls an export on each array of a file, with nothing but NumPy and its runtime.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DESCRIPTION = "model.json"
INPUT = "pictures"
SHAPES = 8  # of pictures, for which OpenVINO keeps what it compiled
Call = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of exports.

    Attributes:
        write: Writes functions, by the names of their signatures, into a folder.
        load: The function from pictures to outputs that was written into a folder.
        needs: Packages beside TensorFlow that writing and calling take; the extra of the same name installs them.
        loops: Whether it has loops that stack what they find, gradients and strings, so that there are many pictures in
            a batch for every scorer, a search, and encoded pictures.
        batches: Whether it takes several pictures at once where no loops are needed for that.
    """

    write: Callable[[Any, Path], None]
    load: Callable[[Path], Call]
    needs: tuple[str, ...] = ()
    loops: bool = False
    batches: bool = True


def _write_saved_model(functions, folder):
    import tensorflow as tf

    module = tf.Module()
    module.functions = list(functions.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=functions, options=options)


def _load_saved_model(folder):
    import tensorflow as tf

    from anogan_tf.precision import use_whole_float32

    use_whole_float32()
    loaded = tf.saved_model.load(str(folder))
    call = loaded.signatures["serving_default"]

    def of_pictures(pictures):
        return {name: tensor.numpy() for name, tensor in call(**{INPUT: tf.constant(pictures)}).items()}

    of_pictures.loaded = loaded  # whose constants live as long
    return of_pictures


def _write_onnx(functions, folder):
    import tf2onnx

    function = functions["serving_default"]
    tf2onnx.convert.from_function(
        function,
        function.input_signature,
        opset=18,
        output_path=str(folder / "model.onnx"),
        custom_op_handlers={"Log1p": (_onnx_log1p, [])},
    )


def _onnx_log1p(context, node, name, arguments):
    """log(1 + x), as ONNX has no log1p."""
    one = context.make_const(f"{name}_one", np.array(1.0, np.float32))
    total = context.make_node("Add", [node.input[0], one.output[0]])
    context.remove_node(name)
    return context.make_node("Log", [total.output[0]], name=name, outputs=node.output)


def _load_onnx(folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait cost CPU time
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pictures: dict(zip(names, session.run(names, {INPUT: pictures}), strict=True))


def _write_litert(functions, folder):
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as saved:
        _write_saved_model(functions, Path(saved))
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serving_default"])
        (folder / "model.tflite").write_bytes(converter.convert())


def _load_litert(folder):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"))  # of one thread: several cost more than they save
    call = interpreter.get_signature_runner()
    return lambda pictures: call(**{INPUT: pictures})


def _openvino():
    """OpenVINO, without what would tell its makers each time that it is used."""
    sys.modules.setdefault("openvino_telemetry", None)  # so that its import fails, which OpenVINO provides for
    import openvino

    return openvino


def _write_openvino(functions, folder):
    openvino = _openvino()
    with tempfile.TemporaryDirectory() as saved:
        _write_saved_model(functions, Path(saved))
        openvino.save_model(openvino.Core().read_model(saved), folder / "model.xml", compress_to_fp16=False)


def _load_openvino(folder):
    core = _openvino().Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}

    @functools.lru_cache(SHAPES)
    def compiled(shape):  # for pictures of any shape the first call may give anything
        model = core.read_model(folder / "model.xml")
        model.reshape(list(shape))
        return core.compile_model(model, "CPU", options)

    def of_pictures(pictures):
        found = compiled(pictures.shape)(pictures)
        return {output.get_any_name(): value for output, value in found.items()}

    return of_pictures


FORMATS = {
    "saved_model": Format(_write_saved_model, _load_saved_model, loops=True),
    "onnx": Format(_write_onnx, _load_onnx, ("tf2onnx", "onnxruntime")),
    "openvino": Format(_write_openvino, _load_openvino, ("openvino",), batches=False),
    "litert": Format(_write_litert, _load_litert, ("ai_edge_litert",), batches=False),
}


def of_name(name: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: If there is none, or a package that it needs is missing.
    """
    if name not in FORMATS:
        raise ValueError(f"format is one of {tuple(FORMATS)}. Received: format={name!r}.")
    missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(f'format="{name}" needs {", ".join(missing)}: pip install "anogan-tf[{name}]".')
    return FORMATS[name]


def load(path: str | os.PathLike) -> Call:
    """The function that an export is, by its own runtime; TensorFlow is imported for a SavedModel only.

    Args:
        path: The folder that `anogan-tf export` wrote.

    Returns:
        A function from uint8 pictures `(n, height, width, 3)` to a dict of arrays, whose names and meaning the
        `model.json` beside it tells.

    Raises:
        FileNotFoundError: If the folder holds no export.
    """
    file = Path(path) / DESCRIPTION
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} is no export: no {DESCRIPTION} in it. `anogan-tf export RUN {path}` makes one."
        )
    told = json.loads(file.read_text(encoding="utf-8"))
    call = of_name(told["format"]).load(Path(path))
    return _one_by_one(call) if told["outputs"]["anomaly_score"]["shape"] == [1] else call


def _one_by_one(call):
    """A function of several pictures, of one that takes one."""

    def of_pictures(pictures):
        each = [call(picture[None]) for picture in pictures]
        return {name: np.concatenate([found[name] for found in each]) for name in each[0]}

    return of_pictures


def main() -> None:
    """Calls an export on each array of an `.npz` file, and saves its outputs as `{number}/{name}` into another."""
    export, pictures, outputs = sys.argv[1:]
    call = load(export)
    found = {}
    with np.load(pictures) as file:
        for number in file:
            found |= {f"{number}/{name}": value for name, value in call(file[number]).items()}
    np.savez(outputs, **found)


if __name__ == "__main__":
    main()
