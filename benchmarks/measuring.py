"""What the benchmarks of speed have in common: ways that take turns, the machine, a table and a JSON file."""

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path

from anogan_tf import report

REPETITIONS = 5
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
ENVIRONMENT = ("TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS")


class Timings:
    """Seconds of several ways to do a thing, each called twice to warm up, and then in turns.

    Other work on the machine comes and goes, so ways are compared within a turn, and the median of these ratios counts.

    Args:
        ways: Functions without arguments, by name.
        units: How many pieces of work one call does, by name: times are of one piece. None for one each.
        repetitions: Number of turns.
        limit: Seconds; a way whose second call takes longer has no turn, and is in `too_slow`, seconds by name.
    """

    def __init__(self, ways, units=None, repetitions=REPETITIONS, limit=float("inf")):
        units = units or dict.fromkeys(ways, 1)
        second_calls = {name: (_seconds(way), _seconds(way))[1] for name, way in ways.items()}
        self.too_slow = {name: seconds for name, (seconds, _) in second_calls.items() if seconds > limit}
        ways = {name: way for name, way in ways.items() if name not in self.too_slow}
        self.wall, self.cpu = {name: [] for name in ways}, {name: [] for name in ways}
        for _ in range(repetitions):
            for name, way in ways.items():
                wall, cpu = _seconds(way)
                self.wall[name].append(wall / units[name])
                self.cpu[name].append(cpu / units[name])

    def seconds(self, name):
        """The median time of one piece of work."""
        return statistics.median(self.wall[name])

    def ratio(self, name, other, clock="wall"):
        """How many times as long `name` takes as `other`, by the `"wall"` clock or in seconds of `"cpu"`."""
        seconds = getattr(self, clock)
        return statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))

    def figures(self, name):
        """Median seconds of one piece, on the clock and of CPU time, and the range of the former."""
        return {
            "seconds": self.seconds(name),
            "seconds_range": (min(self.wall[name]), max(self.wall[name])),
            "cpu_seconds": statistics.median(self.cpu[name]),
        }


def _seconds(way):
    """Seconds of one call, on the clock and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - wall, time.process_time() - cpu


def arguments(description, name):
    """A parser with `--quick` and `--out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny networks and few steps: does it run?")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/results/{name}.json"))
    return parser


def machine():
    """The machine and what else it does now, as a dict."""
    cpu = {}
    if Path("/proc/cpuinfo").exists():
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        cpu = {key.strip(): value.strip() for key, _, value in lines}
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": os.getloadavg(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def write(out, name, started_on, results):
    """Writes the results with the command and the machine as it was at the start, see `machine`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    words = ["PATH" if os.path.isabs(word) else word for word in sys.argv[1:]]  # others have theirs elsewhere
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *words])
    report.write_json(out, {"command": command, "machine": started_on, "versions": report.versions(), **results})


def table(titles, rows):
    """Markdown; cells that are no strings are numbers, and get three significant digits."""
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [cell if isinstance(cell, str) else "" if cell is None else f"{cell:.3g}" for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
