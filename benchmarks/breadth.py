"""Image AUROC on pictures of many kinds, of local features as `train` uses them and of simpler methods.

    python -m benchmarks.breadth FOLDER        # with a folder for each of `benchmarks.decisions.SETS`, in MVTec layout

Beside these sets there are some that are made: pills turned at random, faint lines on grain, discs of which one has a
spot, X-rays of `FOLDER/pneumoniamnist` where it is there. Two thirds of their anomalies are nothing like those that
settings were chosen on. Local features decide, so no GAN is trained; at most 100 normal pictures are learned from.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from anogan_tf.commands import baselines
from anogan_tf.data.images import is_gray
from anogan_tf.local_features import of_pictures, undirected
from benchmarks import measuring
from benchmarks.decisions import SETS, SIDE, files_of, read, scorer_of

LEARNED, TESTED = 100, 60  # pictures to learn from; and to test on, of either kind


def of_folder(folder, seed):
    """Good pictures to learn from and to test on, and defective ones, `(n, SIDE, SIDE, channels)` in [-1, 1]."""
    good, defective = files_of(folder)
    rng = np.random.default_rng(seed)
    tested = sorted((folder / "test" / "good").iterdir())
    learned = [file for file in good if file not in set(tested)]
    channels = 1 if is_gray(good[0]) else 3
    for files, most in ((learned, LEARNED), (tested, TESTED), (defective, TESTED)):
        yield read([files[i] for i in rng.permutation(len(files))[:most]], channels)


def turned_pills(folder, seed):
    """Pills, a fifth smaller, turned by any angle."""
    rng = np.random.default_rng(seed)

    def turned(picture):
        ground = np.median(picture[0], axis=0)
        smaller = ndimage.zoom(picture - ground, (0.8, 0.8, 1), order=1)
        room = np.pad(smaller, [(n := (SIDE - len(smaller)) // 2, SIDE - len(smaller) - n)] * 2 + [(0, 0)])
        return (ndimage.rotate(room, rng.uniform(0, 360), reshape=False, order=1) + ground).astype(np.float32)

    for pictures in of_folder(folder / SETS["pill"], seed):
        yield np.stack([turned(picture) for picture in pictures])


def grain(folder, seed):
    """Grain, uneven light, and on the others a line of a third to a half of the grain's contrast."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]

    def noise(sigma, strength):
        blurred = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma)
        return strength * blurred / blurred.std()

    def picture(lined):
        levels = noise(0.7, 0.2) + noise(3, 0.1) + noise(40, 0.08) + rng.normal(0, 0.06)
        if lined:
            angle, (row, column) = rng.uniform(0, np.pi), rng.uniform(0.25, 0.75, 2) * SIDE
            along = np.cos(angle) * (columns - column) + np.sin(angle) * (rows - row)
            across = np.cos(angle) * (rows - row) - np.sin(angle) * (columns - column) + 4 * np.sin(along / 20)
            levels -= rng.uniform(0.15, 0.28) * np.exp(-(across**2) / 3) * (np.abs(along) < rng.uniform(40, 110))
        return levels.clip(-1, 1)[..., None].astype(np.float32)

    for n, lined in ((LEARNED, False), (TESTED, False), (TESTED, True)):
        yield np.stack([picture(lined) for _ in range(n)])


def discs(folder, seed):
    """Two to four shaded discs anywhere on a rough ground; on the others one of them has a dark spot."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]

    def places():
        found = []
        wanted = rng.integers(2, 5)
        while len(found) < wanted:
            (row, column), radius = rng.uniform(40, SIDE - 40, 2), rng.uniform(24, 36)
            if all(np.hypot(row - r, column - c) > radius + other + 4 for r, c, other in found):
                found.append((row, column, radius))
        return found

    def picture(spotted):
        levels = np.array([-0.3, -0.37, -0.45]) + 0.45 * ndimage.gaussian_filter(
            rng.normal(size=(SIDE, SIDE, 3)), (2, 2, 0)
        )
        for number, (row, column, radius) in enumerate(places()):
            away = np.hypot(rows - row, columns - column)
            disc = np.array([0.75, 0.6, 0.35]) * rng.uniform(0.85, 1.1) * (1 - 0.35 * (away / radius) ** 2)[..., None]
            disc = 2 * disc - 1 + 0.1 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE, 1)), (1, 1, 0))
            if spotted and number == 0:
                angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(4, 8)
                centre = row + 0.55 * radius * np.sin(angle), column + 0.55 * radius * np.cos(angle)
                spot = np.clip(size - np.hypot(rows - centre[0], columns - centre[1]), 0, 1)[..., None]
                disc -= 0.5 * spot
            inside = np.clip(radius - away, 0, 1)[..., None]
            levels = levels * (1 - inside) + disc * inside
        return levels.clip(-1, 1).astype(np.float32)

    for n, spotted in ((LEARNED, False), (TESTED, False), (TESTED, True)):
        yield np.stack([picture(spotted) for _ in range(n)])


def x_rays(folder, seed):
    """Chests, 28 pixels a side made larger: healthy ones, and pneumonia."""
    with np.load(next((folder / "pneumoniamnist").glob("*.npz"))) as arrays:
        for part, label, most in (("train", 0, LEARNED), ("test", 0, TESTED), ("test", 1, TESTED)):
            some = arrays[f"{part}_images"][arrays[f"{part}_labels"].ravel() == label]
            some = some[np.random.default_rng(seed).permutation(len(some))[:most]]
            larger = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE)), np.float32) for image in some]
            yield np.stack(larger)[..., None] / 127.5 - 1


MADE = {"pills, turned": turned_pills, "lines on grain": grain, "discs": discs, "X-rays": x_rays}


def measure(learned, good, defective):
    """AUROC of local features as cross-calibrated, what they chose, and AUROC of simpler methods on 64×64 pixels."""
    scorer = scorer_of(learned.shape[-1])
    scorer.cross_calibrate(learned)
    images, labels = np.concatenate([good, defective]), np.repeat([0, 1], (len(good), len(defective)))
    reference = scorer.reference
    registration = reference.registration
    features = of_pictures(registration(images, registration.poses(images)) if registration else images)
    at_places = scorer._scores(reference, reference.of_features(features, images.shape[1:]))
    whole = reference.overview(undirected(features).numpy())
    joined = reference.joined(np.stack([at_places, whole], axis=1))
    figures = {"local features": joined, "at places": at_places, "whole": whole}
    small, tested = scorer.smaller(learned), scorer.smaller(images)
    for name in ("mean_image", "pca", "nearest_neighbours", "position_gaussians"):
        figures[name] = getattr(baselines, name)(small, tested).mean(axis=(1, 2))
    aurocs = {name: roc_auc_score(labels, scores) for name, scores in figures.items()}
    false_alarms = np.mean(joined[labels == 0] > scorer.calibration.threshold)
    found = np.mean(joined[labels == 1] > scorer.calibration.threshold)
    compared_by = type(reference.fine).__name__ + " in one pose" * (registration is not None)
    return {"compared by": compared_by, **aurocs, "found": found, "false alarms": false_alarms}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *MADE], default=[*SETS, *MADE])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/breadth.json"))
    options = parser.parse_args()
    started_on, figures = measuring.machine(), {}
    for name in options.sets:
        made = MADE.get(name)
        parts = made(options.folder, options.seed) if made else of_folder(options.folder / SETS[name], options.seed)
        figures[name] = measure(*parts)
        print(name, figures[name], flush=True)
    rows = [[name, *row.values()] for name, row in figures.items()]
    print(measuring.table(["", *next(iter(figures.values()))], rows))
    measuring.write(options.out, "breadth", started_on, {"seed": options.seed, "sets": figures})


if __name__ == "__main__":
    main()
