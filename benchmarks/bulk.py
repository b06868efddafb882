"""Bulk scoring: what it survives, and what it costs beyond scoring in one process.

    python -m benchmarks.bulk faults   # workers, a node and a driver are killed; 1 % of the files cannot be read
    python -m benchmarks.bulk cost     # CPU seconds an image, and memory of the command

On MNIST as PNG files (`ANOGAN_TF_DATA`; with `--quick` a few random pictures), by a run of one pass whose networks were
not trained. Ray listens beyond loopback, so both run in a network namespace that holds nothing else, which needs root.
"""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import anogan_tf as agt
from anogan_tf import blocks, bulk
from benchmarks import measuring

LOOPBACK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
REPEATS = 2
MINUTES = 30  # after which whatever was started is ended
STORE = 200 * 2**20  # bytes of Ray's shared memory, a node


def make_pictures(folder, n):
    """n PNG files of MNIST, or of random levels for a few; one in a hundred, and the second, cannot be read."""
    folder.mkdir()
    for number, levels in enumerate(_levels(n)):
        file = folder / f"{number:06d}.png"
        if number % 100 == 1:
            file.write_bytes(b"no picture")
        else:
            Image.fromarray(levels).save(file)
    return folder


def _levels(n):
    if n < 1000:
        return np.random.default_rng(0).integers(0, 255, (n, 28, 28), np.uint8)
    import tensorflow_datasets as tfds

    folder = Path(os.environ.get("ANOGAN_TF_DATA", "../shared/data")) / "tensorflow_datasets"
    examples = tfds.load("mnist", split="train", data_dir=folder, download=False).take(n)
    return (example["image"][..., 0] for example in examples.as_numpy_iterator())


def make_run(folder, chunk=64):
    """A run that scores in one pass."""
    fanogan = agt.FAnoGAN(agt.WGANGP((28, 28, 1), latent_dim=32, width=16), score="paper", chunk=chunk)
    fanogan.calibrate(fanogan.gan.generate(100))
    agt.save_run(folder, fanogan)
    return folder


def score_alone(run, pictures, out):
    """What `anogan-tf score` says in one process, scores, or why not, by file; and what it took, see `watched`."""
    figures = watched([sys.executable, "-m", "anogan_tf", "score", run, pictures, "--out", out, "--pictures", "0"])
    with open(out / "scores.csv", newline="") as file:
        rows = {row["id"]: row["anomaly_score"] or row["error"] for row in csv.DictReader(file)}
    return rows, figures


def compare(out, alone):
    """How many images a folder of bulk scores has, how many twice, how many not, and how many with other bits."""
    rows = pq.read_table(out / blocks.SCORES, columns=["id", "anomaly_score", "error"]).to_pylist()
    there = {row["id"]: row["error"] or repr(row["anomaly_score"]) for row in rows}
    return {
        "images": len(rows),
        "unreadable": sum(row["error"] is not None for row in rows),
        "twice": len(rows) - len(there),
        "lost": len(alone.keys() - there.keys()),
        "other_bits": sum(there[name] != alone[name] for name in there.keys() & alone.keys()),
    }


def dying(marks, victims):
    """A worker that kills itself before it answers for each of these blocks, once; `marks` is a folder for notes."""

    class Dying(bulk.Worker):
        def __call__(self, listed):
            answer = super().__call__(listed)
            for number in set(listed["block"].to_pylist()) & set(victims):
                if _first(marks / str(number)):
                    os.kill(os.getpid(), signal.SIGKILL)
            return answer

    return Dying


def _first(mark):
    """Whether nobody has left this mark before; leaves it."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def faults(folder, n, block):
    """Scores under each fault, and compares with one process: a dict by fault."""
    import ray
    from ray.cluster_utils import Cluster

    bulk.BLOCK = block
    run, pictures = make_run(folder / "run", min(64, block)), make_pictures(folder / "pictures", n)
    alone, _ = score_alone(run, pictures, folder / "alone")
    node = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=2, object_store_memory=STORE)
    found, last, own = {}, -(-n // block) - 1, bulk.Worker
    try:
        call = [sys.executable, "-m", "benchmarks.bulk", "killed", run, pictures, folder / "driver"]
        killed = subprocess.run([*map(str, call), cluster.address, str(block)], timeout=60 * MINUTES)
        assert killed.returncode == -signal.SIGKILL, killed
        before = len(blocks.done(folder / "driver"))
        ray.init(cluster.address, log_to_driver=False)
        bulk.score(run, pictures, folder / "driver", pictures=2, workers=1)
        found["driver killed"] = compare(folder / "driver", alone) | {"blocks_before": before, "blocks": last + 1}
        (folder / "marks").mkdir()
        victims = sorted({0, last // 2, last})
        bulk.Worker = dying(folder / "marks", victims)
        bulk.score(run, pictures, folder / "workers", pictures=0, workers=2)
        deaths = len(list((folder / "marks").iterdir()))
        found["workers killed"] = compare(folder / "workers", alone) | {"deaths": deaths, "meant": len(victims)}
        bulk.Worker = own
        removed = threading.Thread(target=_remove, args=(cluster, second, folder / "node"))
        removed.start()
        bulk.score(run, pictures, folder / "node", pictures=0, workers=2)
        removed.join()
        found["node killed"] = compare(folder / "node", alone)
    finally:
        bulk.Worker = own
        ray.shutdown()
        cluster.shutdown()
    return found


def _remove(cluster, node, out):
    """Kills a node once the first block is done."""
    end = time.monotonic() + 60 * MINUTES
    while not (out.is_dir() and blocks.done(out)) and time.monotonic() < end:
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)


def drive_and_die(run, pictures, out, address, block):
    """A driver that is killed when it has written a third of the blocks."""
    bulk.BLOCK = int(block)
    judged_blocks = bulk._judged_blocks

    def until_killed(ray, out, left, *rest):
        for number, judged in enumerate(judged_blocks(ray, out, left, *rest)):
            if number > len(left) // 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield judged

    bulk._judged_blocks = until_killed
    bulk.score(run, pictures, Path(out), pictures=0, workers=1, address=address)


def cost(folder, numbers, repeats):
    """CPU seconds and memory for numbers of images, in one process and by 1 and 2 workers: rows, and slopes.

    Each way in turns, some times; the least CPU seconds count, which the rest of the machine disturbed least.
    """
    run, best = make_run(folder / "run"), {}
    pictures = {n: make_pictures(folder / f"pictures-{n}", n) for n in numbers}
    for turn, n in itertools.product(range(repeats), numbers):
        alone, figures = score_alone(run, pictures[n], folder / f"alone-{turn}-{n}")
        found = [{"way": "score", "images": n, **figures}]
        for workers in (1, 2):
            out = folder / f"ray-{turn}-{n}-{workers}"
            call = [sys.executable, "-m", "anogan_tf", "score", run, pictures[n], "--out", out, "--pictures", "0"]
            figures = watched([*call, "--engine", "ray", "--workers", workers])
            found.append({"way": f"ray, {workers} workers", "images": n, **figures, **compare(out, alone)})
        for row in found:
            print(row, flush=True)
            key = row["way"], n
            before = best.get(key, row)
            all_of_them = [*before.get("cpu_seconds_of_all", ()), row["cpu_seconds"]]
            best[key] = min(before, row, key=lambda each: each["cpu_seconds"]) | {"cpu_seconds_of_all": all_of_them}
    rows = list(best.values())
    return {"rows": rows, "beyond_start_up": _slopes(rows)}


def _slopes(rows):
    """For each way what an image more costs, in milliseconds of CPU, from its smallest number to its largest.

    By the smallest all processes have begun, each of two workers with a block of its own.
    """
    slopes = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        first, *_, last = (row for row in rows if row["way"] == way)
        slopes[way] = 1000 * (last["cpu_seconds"] - first["cpu_seconds"]) / (last["images"] - first["images"])
    return slopes


def watched(command):
    """Runs a command, and sums the CPU seconds of all processes that it began: those in this network namespace.

    With the most memory that the command itself held, in MiB, and wall seconds.
    """
    start = time.monotonic()
    others = set(_here())
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    seconds, peak = {}, 0
    try:
        while process.poll() is None and time.monotonic() - start < 60 * MINUTES:
            seconds |= {pid: taken for pid in set(_here()) - others if (taken := _cpu_seconds(pid)) is not None}
            peak = max(peak, _peak(process.pid))
            time.sleep(0.1)
    finally:
        process.kill()
    if process.wait():
        raise RuntimeError(f"{command} ended with {process.returncode}.")
    return {
        "cpu_seconds": sum(seconds.values()),
        "wall_seconds": time.monotonic() - start,
        "memory_mib": round(peak / 2**10),
    }


def _here():
    """The processes of this network namespace."""
    own = os.readlink("/proc/self/ns/net")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "net") == own:
                yield int(folder.name)
        except OSError:
            continue


def _cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(pid):
    """The most memory that a process has held, in KiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def alone_on_loopback():
    """Whether this process sees no network but loopback."""
    return os.listdir("/sys/class/net") == ["lo"] or len(Path("/proc/net/dev").read_text().splitlines()) == 3


def main():
    if sys.argv[1:2] == ["killed"]:
        drive_and_die(*sys.argv[2:])
        return
    if not alone_on_loopback():
        os.execvp(LOOPBACK[0], [*LOOPBACK, sys.executable, "-m", "benchmarks.bulk", *sys.argv[1:]])
    parser = measuring.arguments(__doc__, "bulk")
    parser.add_argument("what", choices=["faults", "cost"])
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    started_on = measuring.machine()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "faults":
            figures = faults(Path(folder), *((40, 8) if options.quick else (options.images, 512)))
        else:
            numbers = (40, 80) if options.quick else (1000, options.images // 4, options.images)
            figures = cost(Path(folder), numbers, 1 if options.quick else REPEATS)
    print(json.dumps(figures, indent=2))
    written = json.loads(options.out.read_text()) if options.out.exists() else {}
    kept = {name: value for name, value in written.items() if name in ("faults", "cost")}
    measuring.write(options.out, "bulk", started_on, kept | {options.what: figures})


if __name__ == "__main__":
    main()
