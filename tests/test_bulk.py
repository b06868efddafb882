import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import anogan_tf as agt
from anogan_tf.commands.cli import main
from tests.conftest import small_gan

pa = pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")

import pyarrow.parquet as pq

from anogan_tf import blocks, bulk
from anogan_tf.data.images import Encoded

LOOPBACK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # Ray listens beyond it
CALL = (
    "from anogan_tf import bulk; import sys; bulk.BLOCK = 8; print(bulk.score(*sys.argv[1:4], pictures=2, workers=2))"
)
N, BROKEN = 60, (7, 40)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one pass over images of 8×8 pixels, in chunks of 8."""
    fanogan = agt.FAnoGAN(small_gan("WGANGP"), chunk=8, score="paper")
    fanogan.calibrate(fanogan.gan.generate(40))
    path = tmp_path_factory.mktemp("bulk") / "run"
    agt.save_run(path, fanogan)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures, of which two cannot be read."""
    folder = tmp_path_factory.mktemp("bulk") / "pictures"
    folder.mkdir()
    levels = np.random.default_rng(0).integers(0, 255, (N, 12, 12), np.uint8)
    for number, picture in enumerate(levels):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    for number in BROKEN:
        (folder / f"{number:03d}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def alone(run, pictures, tmp_path_factory):
    """The rows of `anogan-tf score`, by id."""
    out = tmp_path_factory.mktemp("bulk") / "alone"
    result = CliRunner().invoke(main, ["score", str(run), str(pictures), "--out", str(out), "--pictures", "0"])
    assert result.exit_code == 0, result.output
    with open(out / "scores.csv", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def rows_of(out):
    return pq.read_table(out / "scores").to_pylist()


def check(out, alone):
    """Each image is there once, with the bits of one process."""
    rows = rows_of(out)
    assert sorted(row["id"] for row in rows) == sorted(alone)
    for row in rows:
        one = alone[row["id"]]
        assert (row["error"] is None) == bool(one["anomaly_score"])
        if row["error"] is None:
            assert (row["anomaly_score"], row["p_value"]) == (float(one["anomaly_score"]), float(one["p_value"]))
            assert (row["prediction"], row["decision"]) == (int(one["prediction"]), one["decision"])
        else:
            assert one["prediction"] == f"skipped: {row['error']}"
