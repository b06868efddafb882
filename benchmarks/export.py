"""How far are exports from the runs that they were made of, what do they cost, and how large are they?

    python -m benchmarks.export [--run mnist-8 …] [--format onnx …] [--search]

Writes the table in docs/export.md. Each time is of CPU seconds, in one process, taking turns with Python's own; a
search is timed of one picture.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import re
import tempfile
from pathlib import Path

import numpy as np

import anogan_tf as agt
from anogan_tf import exporting, formats
from anogan_tf.commands import export
from benchmarks import measuring

PAGE = Path("docs/export.md")
TITLES = ("run", "format", "score", "map", "reconstruction", "CPU ms at 1", "at 64", "Python's, at 1", "at 64", "MB")
BATCHES = (1, 64)  # pictures


def figures(run, name, *, search, repetitions):
    """The differences, CPU milliseconds a picture at each batch, the export's and Python's, and the size in MB."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        differences = export.run(run, out, format=name, search=search)
        call = formats.load(out)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
        return {"differences": differences, "ms": _times(run, call, search, repetitions), "megabytes": size}


def _times(run, call, search, repetitions):
    scorer, draw = exporting.as_asked(agt.load_run(run), search)
    picture = exporting.example_pictures(scorer)[0]
    ways, units = {}, {}
    for n in BATCHES[:1] if search else BATCHES:
        batch = np.repeat(picture[None], n, axis=0) ^ np.arange(n, dtype=np.uint8)[:, None, None, None]  # none alike
        ways |= {f"export {n}": lambda batch=batch: call(batch)}
        ways |= {f"python {n}": lambda batch=batch: scorer.score(list(batch), draw=draw)}
        units |= {f"export {n}": n, f"python {n}": n}
    timings = measuring.Timings(ways, units, repetitions=repetitions)
    return {way: 1e3 * timings.figures(way)["cpu_seconds"] for way in ways}


def row(run, name, found):
    """A line of the table."""
    differences, ms = found["differences"], found["ms"]
    shown = [differences.get(key) for key in ("anomaly_score", "anomaly_map", "reconstruction")]
    return [
        run,
        name,
        *("" if value is None else f"{value:.0e}" for value in shown),
        *(_milliseconds(ms.get(f"{who} {n}")) for who in ("export", "python") for n in BATCHES),
        found["megabytes"],
    ]


def _milliseconds(found):
    return found and (f"{found:,.0f}" if found >= 100 else f"{found:.3g}")


def main():
    parser = measuring.arguments(__doc__, "export")
    parser.add_argument("--run", action="append", help="a published run; default: mnist-8 and mvtec-bottle")
    parser.add_argument("--format", action="append", choices=formats.FORMATS, help="default: all")
    parser.add_argument("--search", action="store_true", help="time the search, too, where a format has it")
    options = parser.parse_args()
    started_on = measuring.machine()
    names = options.format or (["saved_model"] if options.quick else list(formats.FORMATS))
    found, rows = {}, []
    for run in options.run or ("mnist-8", "mvtec-bottle"):
        for name in names:
            for search in (False, True) if options.search and formats.FORMATS[name].loops else (False,):
                what = name + (" --search" if search else "")
                found[f"{run} {what}"] = figures(run, name, search=search, repetitions=1 if options.quick else 3)
                rows.append(row(run, what, found[f"{run} {what}"]))
                print(rows[-1], flush=True)
    table = measuring.table(TITLES, rows)
    print(table)
    measuring.write(options.out, "export", started_on, {"exports": found})
    if not options.quick:
        PAGE.write_text(re.sub(r"(?m)^\| run \|(.*\n)(\|.*\n)+", lambda _: table + "\n", PAGE.read_text(), count=1))


if __name__ == "__main__":
    main()
