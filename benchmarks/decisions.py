"""What a user can decide by: found defects, false alarms and regions, with thresholds of before and of now.

    python -m benchmarks.decisions study FOLDER      # with a folder for each of SETS, in MVTec layout
    python -m benchmarks.decisions coverage FOLDER   # the rate of false alarms over 200 random splits of good pictures
    python -m benchmarks.decisions simulation        # the same of simulated pictures
    python -m benchmarks.decisions picture FOLDER    # docs/images/decisions.png, of the pills' scores
    python -m benchmarks.decisions table             # the figures of all studies so far

Local features decide, so no GAN is trained. `before` is a reference of four fifths of the good pictures, and thresholds
of scores and pixels of the other fifth at α = 0.05; `now` is `cross_calibrate` with all of them. Coverage is of
`cross_calibrate` too, with pictures of 128 pixels a side, whose features are made once.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

import anogan_tf as agt
from anogan_tf import look, metrics, neighbours, thresholds
from anogan_tf.choice import Choice, chosen
from anogan_tf.data.images import is_gray
from anogan_tf.distances import Kinds, Places
from anogan_tf.local_features import VERSION, of_pictures, undirected
from benchmarks import measuring

SETS = {
    "pill": "mvtec256/pill",
    "bottle": "mvtec256/bottle",
    "tile": "magnetic_tile256",
    "hazelnut": "hazelnut_small256",
}
OUT = Path("benchmarks/results/decisions")
SMALLER, OF_A_CHANNEL, EACH = 128, 11, 10  # pixels a side of pictures of many splits; features; splits between writes
SIDE, GOOD, TEST_GOOD, TEST_DEFECTS, ALPHA = 256, 150, 30, 60, 0.05


def files_of(folder):
    """The good pictures of a folder in MVTec layout, and the others, in a fixed order."""
    good = [*sorted((folder / "train" / "good").iterdir()), *sorted((folder / "test" / "good").iterdir())]
    return good, [file for file in sorted((folder / "test").glob("*/*")) if file.parent.name != "good"]


def read(files, channels, side=None):
    """Pictures `(n, side, side, channels)` in [-1, 1], of `SIDE` pixels a side if none are named."""
    side = side or SIDE
    pictures = (Image.open(file).convert("RGB" if channels == 3 else "L").resize((side, side)) for file in files)
    return np.stack([np.asarray(p, np.float32).reshape(side, side, channels) for p in pictures]) / 127.5 - 1.0


def mask_of(folder, file):
    """The mask of a defect, `(SIDE, SIDE)`, or None."""
    mask = folder / "ground_truth" / file.parent.name / f"{file.stem}_mask.png"
    return np.asarray(Image.open(mask).convert("L").resize((SIDE, SIDE))) > 127 if mask.exists() else None


def scorer_of(channels, side=None):
    """A scorer by local features, around networks that nobody asks."""
    side = (side or SIDE) // 4
    gan = agt.DCGAN((side, side, channels), 4, width=2)
    return agt.LocalNeighbours(agt.AnoGAN(gan, steps=0, score="paper"))


def study(folder, seed):
    """Figures of before and of now, by name."""
    good, bad = files_of(folder)
    rng = np.random.default_rng(seed)
    good = [good[i] for i in rng.permutation(len(good))]
    bad = [bad[i] for i in rng.permutation(len(bad))[:TEST_DEFECTS]]
    n = min(GOOD, len(good) * 2 // 3)
    channels = 1 if is_gray(good[0]) else 3
    own, new, defects = (read(files, channels) for files in (good[:n], good[n : n + TEST_GOOD], bad))
    masks = [mask_of(folder, file) for file in bad]
    now, before = scorer_of(channels), scorer_of(channels)
    now.cross_calibrate(own, ALPHA)
    held_out = n // 5
    features = of_pictures(own[held_out:])
    before.reference = neighbours.Scales.fit(features, before.seed, type(now.reference.fine))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before.calibrate(own[:held_out], ALPHA)
    pixels = thresholds.level(before.calibration.peaks, ALPHA)[0]
    return {
        "good": n,
        "places": now.reference.levelled,
        "before": figures(before, new, defects, masks, pixels, always=False),
        "now": figures(now, new, defects, masks, now.calibration.pixel_threshold, always=True),
    }


def figures(scorer, new, defects, masks, pixel_threshold, always):
    """What is found, how many false alarms there are, and how well regions lie on masks."""
    out, fine = (scorer.score(images, draw=False) for images in (defects, new))
    alarms = out["anomaly_score"] > scorer.calibration.threshold
    shown, overlaps = [], []
    for anomaly_map, alarm, mask in zip(out["anomaly_map"], alarms, masks, strict=True):
        found = metrics.regions(anomaly_map, pixel_threshold, is_alarm=always and alarm)
        shown.append(bool(found))
        if mask is not None and mask.any():
            inside = metrics.region_mask(anomaly_map, found, pixel_threshold)
            overlaps.append(
                (np.sum(inside & mask) / np.sum(inside | mask), alarm, len(found) and np.any(inside & mask))
            )
    strict = scorer.calibration.strict[0]
    false_regions = [len(metrics.regions(anomaly_map, pixel_threshold)) for anomaly_map in fine["anomaly_map"]]
    counts = {
        "defects": len(defects),
        "found": int(alarms.sum()),
        "found_anomalous": int((out["anomaly_score"] > strict).sum()),
        "new_good": len(new),
        "false_alarms": int((fine["anomaly_score"] > scorer.calibration.threshold).sum()),
        "alarms_with_region": int(np.array(shown)[alarms].sum()),
        "false_regions": float(np.mean(false_regions)),
    }
    labels = [0] * len(new) + [1] * len(defects)
    scores = [*fine["anomaly_score"], *out["anomaly_score"]]
    counts["auroc"] = metrics.image_metrics(labels, scores, scorer.calibration.threshold)["auroc"]
    if overlaps:
        iou, of_alarms, hit = map(np.array, zip(*overlaps, strict=True))
        counts |= {"iou": float(iou.mean()), "iou_alarms": float(iou[of_alarms].mean()) if of_alarms.any() else None}
        counts["regions_on_mask"] = float(hit[of_alarms].mean()) if of_alarms.any() else None
    return counts


class OfFeatures(agt.LocalNeighbours):
    """The package's scorer, of features that were made before; see `numbered`.

    Args:
        side: Of the pictures that they are of, in pixels.
        features: Of good pictures, `(n, rows, columns, features)`.
        way: How they are compared, such as `distances.Places`.
        seed: Of the folds and the clusters.
    """

    version, directed, seed = VERSION, True, 0

    def __init__(self, side, features, way, seed):
        super().__init__(scorer_of(1, side).scorer)
        self.made, self.way, self.seed = features, way, seed

    def _described(self, version=VERSION):
        return self

    def _chosen(self, rows):
        return Choice(self.way, self.of_pictures(row["image"] for row in rows))

    def of_pictures(self, pictures):
        """The features of pictures that `numbered` made."""
        return np.stack([self.made[round((float(picture[0, 0, 0]) + 1) / 2 * len(self.made))] for picture in pictures])

    def undirected(self, features):
        return features if features.shape[-1] < OF_A_CHANNEL else undirected(features)


def numbered(scorer, numbers):
    """Pictures that stand for those whose features were made: black, but for a pixel that tells the number."""
    pictures = np.full((len(numbers), *scorer.image_shape), -1.0, np.float32)
    pictures[:, 0, 0, 0] = 2 * np.float32(numbers) / len(scorer.made) - 1
    return pictures


def rate(side, features, own, new, way, seed, alpha=ALPHA):
    """The part of new good pictures above the threshold that own ones give by `cross_calibrate`."""
    scorer = OfFeatures(side, features, way, seed)
    scorer.cross_calibrate(numbered(scorer, own), alpha)
    scores = scorer.score(numbered(scorer, new), draw=False)["anomaly_score"]
    return float(np.mean(scores > scorer.calibration.threshold))


def summary(rates):
    """The mean of rates, its standard error, and the 5th and the 95th percentile."""
    low, high = np.percentile(rates, (5, 95))
    error = np.std(rates) / len(rates) ** 0.5
    return {"mean": float(np.mean(rates)), "error": float(error), "low": float(low), "high": float(high)}


def coverage(folder, splits):
    """The rate of false alarms over random splits of a set's good pictures, at most 200, after each split."""
    good, _ = files_of(folder)
    good = [good[i] for i in np.random.default_rng(0).permutation(len(good))[: GOOD + 50]]
    channels = 1 if is_gray(good[0]) else 3
    way = chosen(read(good, channels), scorer_of(channels)._scores).way
    features = of_pictures(read(good, channels, SMALLER))
    n, rates = len(good) * 3 // 4 if len(good) == GOOD + 50 else len(good) * 2 // 3, []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(good))
        rates.append(rate(SMALLER, features, order[:n], order[n:], way, seed))
        yield {"way": way.__name__, "n": n, "new": len(good) - n, "splits": seed + 1} | summary(rates)


def simulation(n, splits, new=100):
    """The same of pictures of 8×8 places with four features, correlated noise of Student's t, drawn anew each time."""
    rates = {Places: [], Kinds: []}
    for seed in range(splits):
        rng = np.random.default_rng([n, seed])
        noise = ndimage.gaussian_filter(rng.standard_t(5, size=(n + new, 8, 8, 4)), (0, 0.75, 0.75, 0))
        for way, found in rates.items():
            found.append(rate(64, np.float32(noise), np.arange(n), np.arange(n, n + new), way, seed))
    promised = thresholds.level(np.arange(n), ALPHA)[1]
    return {"n": n, "promised_of_split": promised, "places": summary(rates[Places]), "kinds": summary(rates[Kinds])}


@look.styled
def picture(folder):
    """Scores of good and of defective pictures, and the cost of decisions by α; and the scores."""
    good, bad = files_of(folder)
    good = [good[i] for i in np.random.default_rng(0).permutation(len(good))]
    scorer = scorer_of(3)
    scorer.cross_calibrate(read(good[:GOOD], 3), ALPHA)
    new, defects = (scorer.score(read(files, 3), draw=False)["anomaly_score"] for files in (good[GOOD:], bad))
    calibration = scorer.calibration
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.histogram_bin_edges(np.concatenate([calibration.scores, defects]), 40)
    for scores, name, colour in (
        (calibration.scores, "good, each held out", look.NORMAL),
        (defects, "defective", look.ANOMALOUS),
    ):
        left.hist(scores, bins, alpha=0.6, density=True, label=name, color=colour)
    for threshold, name, style in (
        (calibration.threshold, "suspicious above, α = 0.05", "--"),
        (calibration.strict[0], "anomalous above, α = 0.01", "-"),
    ):
        left.axvline(threshold, color="black", linestyle=style, label=name)
    left.set(xlabel="anomaly score", ylabel="density", title="150 good pills, 141 defective ones")
    left.legend(fontsize=10)
    alphas = np.arange(1, 46) / 151
    missed = [np.mean(defects <= calibration.at(float(alpha)).threshold) for alpha in alphas]
    for ratio in (1, 10, 100):
        cost = 0.01 * ratio * np.array(missed) + 0.99 * alphas
        right.plot(alphas, cost / cost.min(), label=f"a miss costs {ratio} × a false alarm")
    right.set(xlabel="α", ylabel="cost, of the least", ylim=(0.9, 4), title="one part in 100 is defective")
    right.legend(fontsize=10)
    figure.savefig("docs/images/decisions.png", dpi=90)
    rows = [
        (alpha, float(np.mean(new > t)), float(np.mean(defects > t)))
        for alpha in (0.01, 0.02, 0.05, 0.1, 0.2)
        for t in [calibration.at(alpha).threshold]
    ]
    return {"alpha, false alarms of new good pictures, found": rows}


def table(folder):
    """The studies in a folder as Markdown: sums over seeds of a set, and means."""
    studies = [json.loads(file.read_text()) for file in sorted(folder.glob("*_[0-9].json"))]
    rows = []
    for name in SETS:
        own = [study for study in studies if study["set"] == name]
        for when in ("before", "now") if own else ():
            each = [study[when] for study in own]
            total = {key: sum(row[key] for row in each) for key in each[0] if isinstance(each[0][key], int)}
            means = [
                np.mean([row[key] for row in each if row.get(key) is not None] or [np.nan])
                for key in ("false_regions", "iou", "iou_alarms", "auroc")
            ]
            rows.append(
                (
                    name,
                    f"{own[0]['good']}",
                    f"{len(own)}",
                    when,
                    f"{total['found']} of {total['defects']}",
                    f"{total['false_alarms']} of {total['new_good']}",
                    f"{total['alarms_with_region']} of {total['found']}",
                    *means,
                )
            )
    titles = [
        "set",
        "good",
        "seeds",
        "",
        "found",
        "false alarms",
        "alarms with a region",
        "regions a good picture",
        "IoU, all defects",
        "IoU, alarms",
        "AUROC",
    ]
    return measuring.table(titles, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("study", "coverage", "simulation", "picture", "table"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    started_on = measuring.machine()
    if options.what == "table":
        print(table(options.out))
    if options.what == "picture":
        measuring.write(options.out / "alphas.json", "decisions", started_on, picture(options.folder / SETS["pill"]))
    if options.what == "simulation":
        found = {"simulation": [simulation(n, options.splits) for n in (12, 30, 60, 150)]}
        measuring.write(options.out / "simulation.json", "decisions", started_on, found)
        print(json.dumps(found))
    for name in options.sets if options.what == "coverage" else ():
        for found in coverage(options.folder / SETS[name], options.splits):
            if found["splits"] in (options.splits, *range(0, options.splits, EACH)):
                file = options.out / f"coverage_{name}.json"
                measuring.write(file, "decisions", started_on, {"set": name} | found)
        print(name, json.dumps(found), flush=True)
    for seed in options.seeds if options.what == "study" else ():
        for name in options.sets:
            file = options.out / f"{name}_{seed}.json"
            if not file.exists():
                found = study(options.folder / SETS[name], seed)
                measuring.write(file, "decisions", started_on, {"set": name, "seed": seed, **found})
                print(json.dumps({"set": name, "seed": seed, **found}), flush=True)


if __name__ == "__main__":
    main()
