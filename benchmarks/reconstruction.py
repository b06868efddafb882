"""What the reconstruction alone tells: AUROC of A(x), R, D, the difference in local features, and their pixels.

    python -m benchmarks.reconstruction runs/mvtec-bottle --out benchmarks/results/reconstruction/bottle-0.json

On the whole test part of a run with an encoder, by E(x) alone and by ten steps of the search from there; A(x), R and D
of squared distances. The difference in local features learns from the training part.
"""

import argparse
from pathlib import Path

from sklearn.metrics import roc_auc_score

import anogan_tf as agt
from anogan_tf import report, scoring
from anogan_tf.commands.settings import load_splits

STEPS = (0, 10)


def measure(run, source=None):
    """A dict of what is known of the run's drawings, and of figures by the number of steps."""
    description = agt.runs.read_run(run)
    settings = description["settings"] | ({"source": source} if source else {})
    networks = scoring.unwrapped(agt.load_run(run))
    splits = load_splits(settings, networks.image_shape[:2])
    figures = {}
    for steps in STEPS:
        of_paper, of_difference = (
            agt.AnoGAN(networks.gan, encoder=networks.encoder, steps=steps, score=score, distance="l2")
            for score in ("paper", "difference")
        )
        result = of_paper.test(splits.test, threshold=0.0)
        labels = [row["label"] for row in result.results]
        parts = {name: roc_auc_score(labels, [row[name] for row in result.results]) for name in scoring.PARTS}
        of_difference.fit_reference(splits.reference)
        different = of_difference.test(splits.test, threshold=0.0)
        figures[steps] = parts | {
            "pixel_auroc": result.pixel_auroc,
            "difference": different.auroc,
            "difference_pixel_auroc": different.pixel_auroc,
        }
    return {"drawing": description["drawing"], "steps": figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run")
    parser.add_argument("--source", help="where its images are now; default: where they were")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    arguments = parser.parse_args()
    figures = measure(arguments.run, arguments.source)
    report.write_json(arguments.out, {"versions": report.versions(), **figures})
    for steps, found in figures["steps"].items():
        print(f"{steps} steps:", ", ".join(f"{name} {value:.3f}" for name, value in found.items() if value is not None))


if __name__ == "__main__":
    main()
