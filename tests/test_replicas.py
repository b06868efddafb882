"""TensorFlow's workers listen beyond loopback, so they run in a network namespace that holds nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from anogan_tf import replicas
from benchmarks.bulk import LOOPBACK

EPOCHS = 3
TRAIN = f"""
import os, signal, sys
os.environ["TF_DETERMINISTIC_OPS"] = "1"
out, fault, *more = sys.argv[1:]
if fault == "mirrored":
    import tensorflow as tf
    one = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [one, one])
from anogan_tf.commands.cli import main
if fault == "dies" and '"index": 1' in os.environ["TF_CONFIG"]:
    from anogan_tf.callbacks import StopOnNaN
    def die(self, epoch, logs=None):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    StopOnNaN.on_epoch_begin = die
options = "--workers auto --latent-dim 6 --width 4 --batch-size 16 --epochs {EPOCHS} --self-supervision none --steps 2"
options += " --encoder-epochs 5 --score paper"
main(["train", "digits", "--out", out, *options.split(), *more])
"""
TWO = """
import json, os, subprocess, sys
cluster = {"worker": ["127.0.0.1:12345", "127.0.0.1:12346"]}
workers = [
    subprocess.Popen(
        [sys.executable, "-c", *sys.argv[1:]],
        env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for index in (0, 1)
]
texts = [worker.communicate(timeout=600)[0] for worker in workers]
print(json.dumps([[worker.returncode, text] for worker, text in zip(workers, texts)]))
"""


def isolated(*command):
    """What a command prints in a network namespace of its own, if this system gives one."""
    if subprocess.run([*LOOPBACK, "true"], capture_output=True).returncode:
        pytest.skip("needs `unshare --net`, which only root may call")
    done = subprocess.run([*LOOPBACK, sys.executable, "-c", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_two(out, fault="none", *more):
    """The exit codes and the output of the chief and of the other one of two workers."""
    return json.loads(isolated(TWO, TRAIN, out, fault, *more).splitlines()[-1])


def weights(run, *networks):
    """All arrays in the weight files of a run, by name."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[item.file.filename, name] = item[()]

    for network in networks:
        with h5py.File(run / f"{network}.weights.h5") as file:
            file.visititems(keep)
    return {(Path(file).name, name): values for (file, name), values in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["anogan", "f-anogan"])  # a DCGAN and a WGAN-GP, each with an encoder
def test_a_lost_worker_ends_the_others_and_all_started_again_reach_the_weights_of_two_replicas(method, tmp_path):
    of_two, mirrored = tmp_path / "of two", tmp_path / "mirrored"
    isolated(TRAIN, mirrored, "mirrored", "--method", method)
    (code, told), (killed, _) = by_two(of_two, "dies", "--method", method)
    assert (code, killed) == (1, -9), told
    assert told.splitlines()[-1].startswith("Error: Another worker was lost. Start all workers again")
    (code, told), (other_code, other) = by_two(of_two, "none", "--method", method)
    assert (code, other_code) == (0, 0), told + other
    run, expected_run = (json.loads((path / "run.json").read_text()) for path in (of_two, mirrored))
    assert run["complete"]
    assert run["settings"] == expected_run["settings"]
    expected = weights(mirrored, "generator", "discriminator", "encoder")
    found = weights(of_two, "generator", "discriminator", "encoder")
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert sorted(run["calibration"]["scores"]) == sorted(expected_run["calibration"]["scores"])


def test_replicas_share_a_batch_evenly():
    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(ValueError, match="3 replicas share a batch, so its size is a multiple of that"):
        replicas.check_batch(Three(), 16)
    replicas.check_batch(Three(), 15)


@pytest.mark.parametrize(
    ("jobs", "task", "chief"),
    [
        (("worker",), ("worker", 0), True),
        (("worker",), ("worker", 1), False),
        (("chief", "worker"), ("worker", 0), False),
        (("chief", "worker"), ("chief", 0), True),
    ],
)
def test_one_worker_is_the_chief(jobs, task, chief):
    class Strategy:
        cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: ["a:1", "b:2"] if job == "worker" else ["c:1"] for job in jobs}), "", *task
        )

    assert replicas.is_chief(Strategy()) == chief


def test_one_process_is_its_own_chief():
    assert replicas.is_chief(tf.distribute.get_strategy())


def test_a_lost_worker_is_told_in_one_line():
    with pytest.raises(ConnectionError, match="Another worker was lost"), replicas.together():
        raise tf.errors.UnavailableError(None, None, "socket closed")
