"""The demonstration on all ten digits: AUROC of AnoGAN, of the mean image and of PCA, on the same splits.

python -m benchmarks.digits --out benchmarks/results/digits.json
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from anogan_tf import report
from anogan_tf.commands import digits

RUNS = [*((digit, 0) for digit in range(10)), (8, 1), (8, 2)]


def measure(digit, seed):
    """One run of the demonstration, as a dict."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result, compared = digits.run(folder, str(digit), seed)
    seconds = round(time.perf_counter() - start, 1)
    return {"digit": digit, "seed": seed, "anogan": result.auroc, **compared, "seconds": seconds}


def table(rows):
    """The runs as Markdown."""
    lines = ["| normal digit | AnoGAN | PCA-16 | mean image |", "|---|---|---|---|"]
    cells = "| {} | {:.3f} | {:.3f} | {:.3f} |"
    first = [row for row in rows if row["seed"] == 0]
    lines += [cells.format(row["digit"], *(row[name] for name in NAMES)) for row in first]
    lines.append(cells.format("mean", *(statistics.mean(row[name] for row in first) for name in NAMES)))
    of_8 = [row for row in rows if row["digit"] == 8]
    medians = (statistics.median(row[name] for row in of_8) for name in NAMES)
    lines.append(cells.format("8, median of 3 seeds", *medians))
    return "\n".join(lines)


NAMES = ("anogan", "pca_16", "mean_image")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/digits.json"))
    rows = [measure(*run) for run in RUNS]
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    report.write_json(out, {"command": "python -m benchmarks.digits", "versions": report.versions(), "runs": rows})
    print(json.dumps(rows[-1]))
    print(table(rows))


if __name__ == "__main__":
    main()
