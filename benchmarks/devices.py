"""A GPU against the CPUs of its machine: training, search and scores, and how far scores differ.

    python -m benchmarks.devices --run RUN --pictures FOLDER

Each device has a process of its own, one after the other; that of the CPUs sees no GPU. Training is `fit` of random
images, its first steps left out, as they trace. The run scores the pictures of the folder, all at once and one by one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from anogan_tf import report
from benchmarks import measuring

DEVICES = {
    "GPU": {"TF_FORCE_GPU_ALLOW_GROWTH": "true"},
    "CPU": {"CUDA_VISIBLE_DEVICES": "-1"},
}
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_DETERMINISTIC_OPS": "1"}
SIDES = {"GPU": (64, 128, 256), "CPU": (64, 128)}
BATCH, WARM, STEPS, SEARCHED = 16, 5, 30, 64
SINGLE = 8  # pictures that are scored one by one, too


def measure(run, pictures, sides, steps):
    """Figures and outputs of this process, on the device that TensorFlow takes."""
    import tensorflow as tf

    import anogan_tf as agt

    figures = {"devices": [device.name for device in tf.config.list_physical_devices()]}
    for side in sides:
        images = np.random.default_rng(0).uniform(-1, 1, (SEARCHED, side, side, 3)).astype(np.float32)
        data = tf.data.Dataset.from_tensor_slices(images).batch(BATCH).repeat()
        options = {"image_shape": (side, side, 3), "latent_dim": 64, "width": 24}
        gans = {"DCGAN": agt.DCGAN(**options), "WGAN-GP": agt.WGANGP(**options)}
        for name, model in {**gans, "encoder": agt.FAnoGAN(gans["WGAN-GP"])}.items():
            model.compile()
            figures[f"{name} {side}, s a step"] = trained(model, data, steps)
        scorer = agt.AnoGAN(gans["DCGAN"], score="paper", steps=50)
        figures[f"search of 50 steps {side}, s an image"] = again(scorer.score, images) / len(images)
    scorer = agt.load_run(run)
    batch = np.concatenate([batch["image"] for batch in agt.read_pictures(run, pictures)])
    for draw in (False, True):
        figures["score, s a picture" + ", drawn" * draw] = again(scorer.score, batch, draw=draw) / len(batch)
    outputs = {name: np.asarray(value) for name, value in scorer.score(batch).items()}
    alone = [scorer.score(image[None])["anomaly_score"][0] for image in batch[:SINGLE]]
    figures["same bits alone"] = bool(np.array_equal(alone, outputs["anomaly_score"][:SINGLE]))
    return figures, outputs


def trained(model, data, steps):
    """Seconds of one step of `fit`."""
    model.fit(data, steps_per_epoch=WARM, shuffle=False, verbose=0)
    start = time.perf_counter()
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
    return (time.perf_counter() - start) / steps


def again(way, *args, **kwargs):
    """Seconds of the second call."""
    way(*args, **kwargs)
    start = time.perf_counter()
    way(*args, **kwargs)
    return time.perf_counter() - start


def of_device(device, arguments):
    """Figures and outputs of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.devices", *arguments, "--into", folder, "--device", device],
            env={**os.environ, **ENVIRONMENT, **DEVICES[device]},
            check=True,
        )
        figures = json.loads(Path(folder, "figures.json").read_text())
        with np.load(Path(folder, "outputs.npz")) as outputs:
            return figures, dict(outputs)


def differences(outputs, expected):
    """The largest difference of each output of numbers, as a part of the largest of its values."""
    return {
        name: float(np.abs(outputs[name] - value).max() / np.abs(value).max())
        for name, value in expected.items()
        if value.dtype.kind == "f" and value.size
    }


def main():
    parser = measuring.arguments(__doc__, "devices")
    parser.add_argument("--run", required=True, help="a run, or the name of a published one")
    parser.add_argument("--pictures", required=True, help="a folder of pictures for it")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # of a process of one device
    parser.add_argument("--device", choices=DEVICES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        sides, steps = ((8,), 2) if options.quick else (SIDES[options.device], STEPS)
        figures, outputs = measure(options.run, options.pictures, sides, steps)
        report.write_json(options.into / "figures.json", figures)
        np.savez(options.into / "outputs.npz", **outputs)
        return
    started_on = measuring.machine()
    found = {device: of_device(device, sys.argv[1:]) for device in DEVICES}
    figures = {device: figures for device, (figures, _) in found.items()}
    results = {**figures, "differences": differences(found["GPU"][1], found["CPU"][1])}
    measuring.write(options.out, "devices", started_on, results)
    rows = [
        (name, value, figures["CPU"].get(name), figures["CPU"][name] / value if name in figures["CPU"] else None)
        for name, value in figures["GPU"].items()
        if isinstance(value, float)
    ]
    print(measuring.table(("", *DEVICES, "CPU / GPU"), rows))
    print(results["differences"], {device: figures[device]["same bits alone"] for device in DEVICES})


if __name__ == "__main__":
    main()
