"""The demonstration: the whole path on photographs of a flower, with the commands that one would use oneself."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from anogan_tf import data, judging, report
from anogan_tf.commands import baselines, flower, options, train
from anogan_tf.runs import preprocessing_of, read_run

STEPS = 300  # of the training
SIZE = 32


def run(out: str | Path, seed: int = 0, steps: int = STEPS) -> tuple[judging.TestResult, dict[str, float]]:
    """Trains on good photographs, tests on others, writes the results folder `out`, and explains what it shows.

    Inside it also keeps the photographs, in `pictures`, and the run, in `run`.

    Returns:
        The `judging.TestResult` and the baselines' AUROC by name.
    """
    out = Path(out)
    pictures, folder = out / "pictures", out / "run"
    report.check(out)
    out.mkdir(parents=True, exist_ok=True)
    flower.write(pictures, seed)
    good, defects = flower.GOOD["train"], ", ".join(flower.DEFECTS)
    print(
        f"1. Photographs: one flower, seen {good} times as it should be, to learn from; for the test "
        f"{flower.GOOD['test']} more,\n   and {flower.EACH} of each of these defects, painted in: {defects}."
    )
    arguments = [str(pictures), "--out", str(folder), "--size", str(SIZE), "--training-steps", str(steps)]
    arguments += ["--calibration", "split", "--seed", str(seed)]
    print(f"2. Learn what it should look like:\n   {shlex.join(['anogan-tf', 'train', *arguments])}")
    scorer = train.run(**options.of_training(arguments))
    print(f"3. Test:\n   {shlex.join(['anogan-tf', 'test', str(folder), '--out', str(out)])}")
    described = read_run(folder)
    tested = data.load_labelled(str(pictures), preprocessing_of(described))
    compared = compare(pictures)
    settings = {"run": str(folder), "baselines": compared}
    result = judging.test(scorer, tested, results_dir=out, settings=settings)
    _explain(out, result, compared)
    return result, compared


def compare(pictures: Path) -> dict[str, float]:
    """AUROC of what needs no training: distances to the mean image, and to the principal components, of pixels."""
    splits = data.load(str(pictures), image_shape=(SIZE, SIZE, 3))
    train_images = np.concatenate([batch["image"] for batch in splits.reference])
    test_images = np.concatenate([batch["image"] for batch in splits.test])
    labels = np.concatenate([batch["label"] for batch in splits.test])
    maps = {
        "mean_image": baselines.mean_image(train_images, test_images),
        "pca_32": baselines.pca(train_images, test_images, 32),
    }
    return {name: float(roc_auc_score(labels, values.mean(axis=(1, 2)))) for name, values in maps.items()}


def _explain(out, result, compared):
    tn, fp, fn, tp = (result.confusion[name] for name in ("tn", "fp", "fn", "tp"))
    others = ", ".join(f"{name.replace('_', ' ')} {auroc:.3f}" for name, auroc in compared.items())
    print(f"""
AUROC {result.auroc:.3f}: take a random good flower and a random defective one; that often the latter scores higher.
  Without any learning of features: {others}.
Threshold {result.threshold:.4g}: set on good photographs alone: about {result.alpha:.0%} of new good ones exceed it.
  Of {tp + fn} defective flowers {tp} were found; of {tn + fp} good ones {fp} raised a false alarm.

Open {out / "index.html"}: each flower, what is wrong with it, and what the network draws in its place.""")
