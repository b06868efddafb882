"""What a user can decide by: found defects, false alarms and regions, with thresholds of before and of now.

    python -m benchmarks.decisions study FOLDER      # with a folder for each of SETS, in MVTec layout
    python -m benchmarks.decisions coverage FOLDER   # the rate of false alarms over 200 random splits of good pictures
    python -m benchmarks.decisions simulation        # the same of simulated pictures
    python -m benchmarks.decisions picture FOLDER    # docs/images/decisions.png, from a defect of the bottles
    python -m benchmarks.decisions table

Local features decide, so no GAN is trained. `before` is a reference of four fifths of the good pictures, and thresholds
of scores and pixels of the other fifth at α = 0.05; `now` is `cross_calibrate` with all of them.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from PIL import Image

import anogan_tf as agt
from anogan_tf import judging, metrics, thresholds
from benchmarks import measuring

SETS = {
    "pill": "mvtec256/pill",
    "bottle": "mvtec256/bottle",
    "tile": "magnetic_tile256",
    "hazelnut": "hazelnut_small256",
}
OUT = Path("benchmarks/results/decisions")
SIDE, GOOD, TEST_GOOD, TEST_DEFECTS, ALPHA = 256, 150, 30, 60, 0.05


def files_of(folder):
    """The good pictures of a folder in MVTec layout, and the others, in a fixed order."""
    good = [*sorted((folder / "train" / "good").iterdir()), *sorted((folder / "test" / "good").iterdir())]
    return good, [file for file in sorted((folder / "test").glob("*/*")) if file.parent.name != "good"]


def read(files, channels):
    """Pictures `(n, SIDE, SIDE, channels)` in [-1, 1]."""
    pictures = (Image.open(file).convert("RGB" if channels == 3 else "L").resize((SIDE, SIDE)) for file in files)
    return np.stack([np.asarray(p, np.float32).reshape(SIDE, SIDE, channels) for p in pictures]) / 127.5 - 1.0


def mask_of(folder, file):
    """The mask of a defect, `(SIDE, SIDE)`, or None."""
    mask = folder / "ground_truth" / file.parent.name / f"{file.stem}_mask.png"
    return np.asarray(Image.open(mask).convert("L").resize((SIDE, SIDE))) > 127 if mask.exists() else None


def scorer_of(channels):
    """A scorer by local features, around networks that nobody asks."""
    gan = agt.DCGAN((SIDE // 4, SIDE // 4, channels), 4, width=2)
    return agt.LocalNeighbours(agt.AnoGAN(gan, steps=0, score="paper"))


def study(folder, seed):
    """Figures of before and of now, by name."""
    good, bad = files_of(folder)
    rng = np.random.default_rng(seed)
    good = [good[i] for i in rng.permutation(len(good))]
    bad = [bad[i] for i in rng.permutation(len(bad))[:TEST_DEFECTS]]
    n = min(GOOD, len(good) * 2 // 3)
    channels = 1 if Image.open(good[0]).mode == "L" else 3
    own, new, defects = (read(files, channels) for files in (good[:n], good[n : n + TEST_GOOD], bad))
    masks = [mask_of(folder, file) for file in bad]
    now, before = scorer_of(channels), scorer_of(channels)
    now.cross_calibrate(own, ALPHA)
    held_out = n // 5
    features = agt.neighbours._features([{"image": picture} for picture in own[held_out:]])
    before.reference = agt.neighbours.Scales.fit(features, before.seed, type(now.reference.fine))
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
        found = metrics.regions(anomaly_map, pixel_threshold)
        if always and not found:
            found = judging.outlined([metrics.strongest_region(anomaly_map)], alarm)
        shown.append(bool(found))
        if mask is not None:
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("study",))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    started_on = measuring.machine()
    for seed in range(options.seeds):
        for name, place in SETS.items():
            file = options.out / f"{name}_{seed}.json"
            if not file.exists():
                found = study(options.folder / place, seed)
                measuring.write(file, "decisions", started_on, {"set": name, "seed": seed, **found})
                print(json.dumps({"set": name, "seed": seed, **found}), flush=True)


if __name__ == "__main__":
    main()
