"""How figures of `anogan-tf benchmark` vary with the seed.

for SEED in 1 2; do anogan-tf benchmark mnist --case 8 --case 9 --seed $SEED --out benchmark-mnist-$SEED; done
python -m benchmarks.seeds benchmarks/results/mnist benchmark-mnist-1 benchmark-mnist-2
"""

import argparse
import json
import statistics
from pathlib import Path

FIGURES = ("auroc", "pixel_auroc", "accuracy")


def table(folders):
    """The cases that all folders have, one a seed: each seed's image AUROC, then mean ± standard deviation."""
    found = [{path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")} for folder in folders]
    cases = [case for case in sorted(found[0]) if all(case in rows for rows in found)]
    lines = []
    for case in cases:
        rows = [rows[case] for rows in found]
        cells = [rows[0]["case"], " ".join(f"{row['auroc']:.3f}" for row in rows)]
        cells += [_spread([row[figure] for row in rows]) for figure in FIGURES]
        best = max(rows[0]["baselines"], key=lambda name: _mean_auroc(rows, name))
        lines.append("| " + " | ".join([*cells, f"{best} {_mean_auroc(rows, best):.3f}"]) + " |")
    return "\n".join(lines)


def _spread(values):
    return "–" if None in values else f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _mean_auroc(rows, baseline):
    return statistics.mean(row["baselines"][baseline]["auroc"] for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of the same protocol, one a seed, at least two")
    folders = parser.parse_args().folders
    missing = [folder for folder in folders if not list(folder.glob("*.json"))]
    if missing or len(folders) < 2:
        parser.error(f"at least two folders of results. Received: {', '.join(map(str, missing or folders))}")
    print("| normal | image AUROC, each seed | mean | pixel AUROC | accuracy | best baseline, mean |")
    print("|---|---|---|---|---|---|")
    print(table(folders))


if __name__ == "__main__":
    main()
