"""Whether likelihood and painted defects choose as real ones would: AUROC of both, by each way to compare.

    python -m benchmarks.proxies FOLDER      # with a folder for each of `benchmarks.decisions.SETS`, in MVTec layout

At most 200 good pictures are learned from, and at most as many test pictures scored; no GAN is trained.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from sklearn.metrics import roc_auc_score

from anogan_tf.choice import CLEAR, WAYS, aurocs, likelihood_gain
from anogan_tf.data.images import is_gray
from anogan_tf.distances import Scales
from anogan_tf.local_features import of_pictures
from anogan_tf.proxies import DEFECTS
from benchmarks import measuring
from benchmarks.decisions import SETS, files_of, read, scorer_of

MOST = 200


def measure(folder, seed):
    """The gain in likelihood, and the AUROC of real and of painted defects by how local features are compared."""
    good = sorted((folder / "train" / "good").iterdir())
    tested_good, defects = files_of(folder)[0][len(good) :], files_of(folder)[1]
    rng = np.random.default_rng(seed)
    good, tested_good, defects = (
        [files[i] for i in rng.permutation(len(files))[:most]]
        for files, most in ((good, MOST), (tested_good, MOST // 2), (defects, MOST // 2))
    )
    channels = 1 if is_gray(good[0]) else 3
    pictures, tested = read(good, channels), read(tested_good + defects, channels)
    labels = np.repeat([0, 1], (len(tested_good), len(defects)))
    scorer = scorer_of(channels)
    features, tested = of_pictures(pictures), of_pictures(tested)
    rows = {"gain": likelihood_gain(features, seed)}
    painted = aurocs(WAYS, pictures, features, scorer._scores, seed).mean(axis=1)
    for of_scale, of_defects in zip(WAYS, painted, strict=True):
        reference = Scales.fit(features, seed, of_scale)
        scores = scorer._scores(reference, reference.of_features(tested, pictures.shape[1:]))
        rows[of_scale.__name__] = {
            "real": roc_auc_score(labels, scores),
            "painted": of_defects.mean(),
            **dict(zip(DEFECTS, of_defects.tolist(), strict=True)),
        }
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/proxies.json"))
    options = parser.parse_args()
    started_on = measuring.machine()
    figures = {name: measure(options.folder / SETS[name], options.seed) for name in options.sets}
    rows = [
        [name, by_way["gain"], way.__name__, *by_way[way.__name__].values()]
        for name, by_way in figures.items()
        for way in WAYS
    ]
    print(measuring.table(["", f"gain (clear: {CLEAR})", "compared by", "real", "painted", *DEFECTS], rows))
    measuring.write(options.out, "proxies", started_on, {"seed": options.seed, "sets": figures})


if __name__ == "__main__":
    main()
