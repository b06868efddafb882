"""Ray listens beyond loopback, so what starts it runs in a network namespace that holds nothing else."""

import contextlib
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import anogan_tf as agt
from anogan_tf import blocks, bulk
from anogan_tf.commands.cli import main
from anogan_tf.data.images import Encoded
from benchmarks.bulk import LOOPBACK, compare
from tests.conftest import small_gan

N, BROKEN, DEADLY = 60, (7, 40), 50
RAY = """
import os, signal, sys
from pathlib import Path
from anogan_tf import bulk
from anogan_tf.commands.cli import main

deadly = Path(sys.argv[1]).read_bytes()


class Worker(bulk.Worker):
    tries = 1

    def judged(self, contents):
        if deadly in contents:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().judged(contents)


bulk.BLOCK = 8
bulk.Worker = Worker
main(sys.argv[2:])
"""


def isolated(*command):
    """A command in a network namespace of its own, if this system gives one."""
    pytest.importorskip("ray")
    if subprocess.run([*LOOPBACK, "true"], capture_output=True).returncode:
        pytest.skip("needs `unshare --net`, which only root may call")
    return subprocess.run([*LOOPBACK, *map(str, command)], capture_output=True, text=True, timeout=900)


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
    for number, levels in enumerate(np.random.default_rng(0).integers(0, 255, (N, 12, 12), np.uint8)):
        Image.fromarray(levels).save(folder / f"{number:03d}.png")
    for number in BROKEN:
        (folder / f"{number:03d}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def alone(run, pictures, tmp_path_factory):
    """What `anogan-tf score` says: the rows of its table by id."""
    out = tmp_path_factory.mktemp("bulk") / "alone"
    result = CliRunner().invoke(main, ["score", str(run), str(pictures), "--out", str(out), "--pictures", "0"])
    assert result.exit_code == 0, result.output
    with open(out / "scores.csv", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def scorer(run):
    return agt.load_run(run)


@pytest.fixture
def in_process(monkeypatch, scorer):
    """Blocks are judged in this process, by one scorer and in another order, in place of Ray."""
    pytest.importorskip("ray")
    judged = []

    def judged_blocks(ray, out, left, task, workers, gpus_per_worker):
        worker = bulk.Worker(*task)
        for listed in reversed(list(blocks.listed(out, left))):
            for row in worker(listed).to_pylist():
                judged.append(row["block"])
                yield row["block"], row["rows"], row["content"]

    monkeypatch.setattr(bulk, "_judged_blocks", judged_blocks)
    monkeypatch.setattr(bulk, "_cluster", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(bulk, "load_run", lambda path: scorer)
    monkeypatch.setattr(bulk, "BLOCK", 8)
    return judged


@pytest.mark.parametrize("deaths", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ray_gives_the_rows_and_the_page_of_one_process_though_workers_die(deaths, run, pictures, alone, tmp_path):
    """One dies at a picture of block 6 whenever it is judged: with its block, and alone, after which it is left out."""
    deadly = pictures / f"{DEADLY:03d}.png" if deaths else Path(os.devnull)
    options = ["--engine", "ray", "--workers", "1", "--pictures", "2"]
    command = ["score", run, pictures, "--out", tmp_path / "out", *options]
    done = isolated(sys.executable, "-c", RAY, deadly, *command)
    assert done.returncode == 0, done.stderr
    expected = {name: row["anomaly_score"] or row["error"] for name, row in alone.items()}
    expected |= {str(deadly): bulk.DIED} if deaths else {}
    unreadable = 2 + deaths
    figures = {"images": N, "unreadable": unreadable, "twice": 0, "lost": 0, "other_bits": 0}
    assert compare(tmp_path / "out", expected) == figures
    assert f"of {N - unreadable} images look anomalous" in done.stdout
    assert f"Skipped {unreadable} images" in done.stdout
    assert "scores/ has all" not in (tmp_path / "out" / "index.html").read_text()  # as the page lists them all
    assert len(list((tmp_path / "out").glob("test_image_*.png"))) == 2


@pytest.mark.slow
def test_killed_workers_nodes_and_drivers_lose_no_image(tmp_path):
    done = isolated(sys.executable, "-m", "benchmarks.bulk", "faults", "--quick", "--out", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["faults"]
    assert set(found) == {"driver killed", "workers killed", "node killed"}
    assert 0 < found["driver killed"]["blocks_before"] < found["driver killed"]["blocks"]
    assert found["workers killed"]["deaths"] == found["workers killed"]["meant"] == 3
    for figures in found.values():
        assert {name: figures[name] for name in ("images", "twice", "lost", "other_bits")} == {
            "images": 40,
            "twice": 0,
            "lost": 0,
            "other_bits": 0,
        }


def test_rows_tell_what_the_table_of_one_process_tells(scorer, pictures, alone):
    files = sorted(pictures.iterdir())
    rows = bulk.judged(scorer, [file.read_bytes() for file in files])
    for file, row in zip(files, rows, strict=True):
        one = alone[str(file)]
        if row["error"]:
            assert (one["error"], one["prediction"]) == (row["error"], "")
            continue
        for name in ("anomaly_score", "residual", "discrimination", "p_value"):
            assert row[name] == float(one[name])
        assert (row["prediction"], row["decision"]) == (int(one["prediction"]), one["decision"])


def test_a_picture_at_which_workers_die_is_passed_over(run, in_process, pictures):
    deadly, deaths, judged = {3, 5}, blocks.Deaths(), []
    files = [file.read_bytes() for file in sorted(pictures.iterdir())[20:28]]

    class Worker(bulk.Worker):
        def judged(self, contents):
            judged.append(len(contents))
            if any(files[place] in contents for place in deadly):
                raise InterruptedError
            return super().judged(contents)

    (block,) = blocks.blocks_of(((file.name, str(file)) for file in sorted(pictures.iterdir())[20:28]), 8)
    table = pa.Table.from_pylist([{"block": 4, **block}], blocks.LISTED)
    for _ in range(bulk.TRIES + len(deadly)):
        with pytest.raises(InterruptedError):
            Worker({}, "f", deaths=deaths)(table)
    (found,) = Worker({}, "f", deaths=deaths)(table).to_pylist()
    assert judged == [8, 8, 8, *[1] * 4, *[1] * 5, *[1] * 6]
    rows = pq.read_table(pa.BufferReader(found["content"])).to_pylist()
    assert [place for place, row in enumerate(rows) if row["error"]] == sorted(deadly)
    assert rows[3]["error"] == bulk.DIED
    together = bulk.Worker({}, "f").judged([content for place, content in enumerate(files) if place not in deadly])
    scores = [row["anomaly_score"] for row in rows if not row["error"]]
    assert scores == [row["anomaly_score"] for row in together]


def test_only_blocks_that_are_missing_are_judged(run, pictures, in_process, tmp_path):
    counts = bulk.score(run, pictures, tmp_path, pictures=1)
    assert sorted(in_process) == list(range(8))
    before = [pq.read_table(file) for file in sorted((tmp_path / "scores").iterdir())]
    in_process.clear()
    blocks.scores(tmp_path, 3).unlink()
    (pictures / "000.png").rename(pictures / "moved.png")  # the listing is that of the beginning
    try:
        assert bulk.score(run, pictures, tmp_path, pictures=1) == counts
    finally:
        (pictures / "moved.png").rename(pictures / "000.png")
    assert in_process == [3]
    assert [pq.read_table(file) for file in sorted((tmp_path / "scores").iterdir())] == before


def test_a_folder_holds_the_scores_of_one_job(run, pictures, in_process, tmp_path):
    bulk.score(run, pictures, tmp_path, pictures=0, workers=1)
    with pytest.raises(ValueError, match=r"threshold: None there, 0\.2 now"):
        bulk.score(run, pictures, tmp_path, threshold=0.2)


@pytest.mark.parametrize("kind", ["glob", "address", "paths", "bytes"])
def test_sources_are_folders_globs_and_parquet_anywhere(run, pictures, alone, in_process, tmp_path, kind):
    files = sorted(pictures.iterdir())
    names = list(map(str, files))
    if kind == "glob":
        source = pictures / "*.png"
    elif kind == "address":
        source = f"file://{pictures}"
    else:
        source = tmp_path / "list.parquet"
        contents = {"paths": {"path": names}, "bytes": {"id": names, "bytes": [file.read_bytes() for file in files]}}
        pq.write_table(pa.table(contents[kind]), source, row_group_size=25)
    bulk.score(run, source, tmp_path / "out", pictures=1)
    rows = pq.read_table(tmp_path / "out" / "scores").to_pylist()
    found = {row["id"].removeprefix("file://"): row["anomaly_score"] for row in rows}
    assert found == {
        name: float(row["anomaly_score"] or "nan") if row["anomaly_score"] else None for name, row in alone.items()
    }
    assert (tmp_path / "out" / "test_image_001.png").exists()


def test_a_file_that_is_gone_is_a_row_with_the_reason(run, pictures, in_process, tmp_path):
    names = [str(pictures / "000.png"), str(pictures / "gone.png")]
    pq.write_table(pa.table({"path": names}), tmp_path / "list.parquet")
    counts = bulk.score(run, tmp_path / "list.parquet", tmp_path / "out")
    assert (counts["total"], counts["skipped"]) == (1, 1)
    _, gone = pq.read_table(tmp_path / "out" / "scores").to_pylist()
    assert (gone["id"], gone["anomaly_score"]) == (names[1], None)
    assert "FileNotFoundError" in gone["error"]


def test_what_is_no_source_is_told(run, in_process, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is nothing at"):
        bulk.score(run, tmp_path / "nowhere", tmp_path / "out")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match="Received: columns name"):
        bulk.score(run, tmp_path / "list.parquet", tmp_path / "out")
    (tmp_path / "note.txt").touch()
    with pytest.raises(ValueError, match="There are no pictures to score at"):
        bulk.score(run, tmp_path / "*.txt", tmp_path / "out")
    assert not (tmp_path / "out" / "listing.parquet").exists()


@pytest.mark.parametrize(
    ("said", "raised", "told"),
    [
        (FileNotFoundError("no such bucket"), FileNotFoundError, "There is nothing at memory://parts"),
        (RuntimeError("no credentials"), OSError, r"memory://parts cannot be listed \(RuntimeError: no credentials\)"),
    ],
)
def test_what_a_file_system_says_is_told_of_the_source(run, in_process, tmp_path, monkeypatch, said, raised, told):
    def find(self, path):
        raise said

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with pytest.raises(raised, match=told):
        bulk.score(run, "memory://parts", tmp_path / "out")


def test_options_of_ray_go_with_ray(run, pictures, tmp_path):
    result = CliRunner().invoke(main, ["score", str(run), str(pictures), "--workers", "2", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "--workers go with --engine ray" in result.output


def test_workers_leave_no_machine_without_room():
    assert bulk._workers({"CPU": 4.0}, None, 0.0) == 3
    assert bulk._workers({"CPU": 1.0}, None, 0.0) == 1
    assert bulk._workers({"CPU": 8.0, "GPU": 2.0}, None, 0.5) == 4
    with pytest.raises(ValueError, match="5 workers for 4 CPUs"):
        bulk._workers({"CPU": 4.0}, 5, 0.0)


def test_a_file_in_memory_is_read_as_one_on_disk(scorer, pictures):
    file = pictures / "000.png"
    in_memory = scorer.score([Encoded(file.read_bytes())], draw=False)["anomaly_score"]
    np.testing.assert_array_equal(in_memory, scorer.score([file], draw=False)["anomaly_score"])
    with pytest.raises(ValueError, match=r"note\.txt: not a readable image"):
        agt.data.images.read(Encoded(b"text", "note.txt"), (8, 8, 1))
