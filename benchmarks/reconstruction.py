"""What the reconstruction alone tells, and how much of a defect it draws, for a run with an encoder.

    python -m benchmarks.reconstruction runs/mvtec-bottle --out benchmarks/results/reconstruction/bottle-0.json

On the whole test part, by E(x) alone and by searches from there: AUROC of A(x), R, D and of the difference in local
features, which learns from the training part, and of their pixels. `defect` is how far from normal that is which is
drawn where the defect lies: the squared distance of G(z) to the nearest training image within the mask, over the mean
of that of reconstructions of good test images; the median over all masks. 1 is a part as it should be.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import anogan_tf as agt
from anogan_tf import metrics, report, scoring
from anogan_tf.commands.settings import load_splits

SEARCHES = {
    "E(x)": {"steps": 0, "distance": "l2"},
    "10 steps, squares": {"steps": 10, "distance": "l2"},
    "10 steps": {"steps": 10, "distance": "l1", "learning_rate": 0.1, "feature_weight": 0.0},  # the recipe's
}
GOOD = 8  # reconstructions of good images that a defect is compared with
SMALLEST = 4  # pixels of a mask


def measure(run, source=None):
    """A dict of what is known of the run's drawings, and of figures by the search."""
    description = agt.runs.read_run(run)
    settings = description["settings"] | ({"source": source} if source else {})
    networks = scoring.unwrapped(agt.load_run(run))
    splits = load_splits(settings, networks.image_shape[:2])
    return {
        "drawing": description["drawing"],
        "searches": {name: _figures(networks, splits, options) for name, options in SEARCHES.items()},
    }


def _figures(networks, splits, options):
    of_paper, of_difference = (
        agt.AnoGAN(networks.gan, encoder=networks.encoder, score=score, **options) for score in ("paper", "difference")
    )
    paper = of_paper.test(splits.test, threshold=0.0)
    labels = [row["label"] for row in paper.results]
    figures = {name: roc_auc_score(labels, [row[name] for row in paper.results]) for name in scoring.PARTS}
    of_difference.fit_reference(splits.reference)
    different = of_difference.test(splits.test, threshold=0.0)
    figures |= {"pixel_auroc": paper.pixel_auroc}
    figures |= {"difference": different.auroc, "difference_pixel_auroc": different.pixel_auroc}
    rows = list(scoring.image_rows(splits.test, networks.image_shape))
    if any("mask" in row for row in rows):
        train = np.concatenate([batch["image"] for batch in splits.reference])
        figures["defect"] = defect_drawn(train, rows, of_paper.score(splits.test)["reconstruction"])
    return figures


def defect_drawn(train, rows, reconstructions):
    """How far from normal reconstructions are within the masks of anomalous images, see above."""
    good = [drawn for row, drawn in zip(rows, reconstructions, strict=True) if row["label"] == 0][:GOOD]
    ratios = []
    for row, drawn in zip(rows, reconstructions, strict=True):
        mask = metrics.resize_map(row["mask"], drawn.shape[:2]) > 0.5 if row["label"] and "mask" in row else np.zeros(1)
        if mask.sum() >= SMALLEST:
            normal = train[:, mask]
            ratios.append(_nearest(normal, drawn[mask]) / np.mean([_nearest(normal, each[mask]) for each in good]))
    return float(np.median(ratios))


def _nearest(normal, drawn):
    return np.square(normal - drawn).mean(axis=(1, 2)).min()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run")
    parser.add_argument("--source", help="where its images are now; default: where they were")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    arguments = parser.parse_args()
    figures = measure(arguments.run, arguments.source)
    report.write_json(arguments.out, {"versions": report.versions(), **figures})
    for search, found in figures["searches"].items():
        print(f"{search}:", ", ".join(f"{name} {value:.3f}" for name, value in found.items() if value is not None))


if __name__ == "__main__":
    main()
