"""f-AnoGAN on CIFAR-10 with one normal class: AUROC of A(x) beside PCA and the mean image.

    python -m benchmarks.cifar10 --normal ship --data-dir FOLDER

It trains through the command line, into `--runs`. Scores are of all 10,000 test images; the settings are those of
`benchmarks.fanogan`, chosen on MNIST, with a z of 128.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import anogan_tf as agt
from anogan_tf import report
from anogan_tf.commands import baselines, cli
from anogan_tf.commands.settings import load_splits

SETTINGS = ["--width", "16", "--latent-dim", "128", "--batch-size", "64", "--epochs", "30", "--encoder-epochs", "15"]


def measure(run):
    """A dict of figures."""
    splits = load_splits(agt.runs.read_run(run)["settings"])
    reference, held_out, test = (
        np.concatenate([batch["image"] for batch in part])
        for part in (splits.reference, splits.validation, splits.test)
    )
    labels = np.concatenate([batch["label"] for batch in splits.test])
    fanogan = agt.load_run(run)
    error = np.square(held_out - fanogan.score(held_out)["reconstruction"]).mean()
    return {
        "error": float(error / baselines.mean_image(reference, held_out).mean()),
        "auroc": roc_auc_score(labels, fanogan.score(test)["anomaly_score"]),
        "auroc_pca_32": roc_auc_score(labels, baselines.pca(reference, test).mean(axis=(1, 2))),
        "auroc_mean_image": roc_auc_score(labels, baselines.mean_image(reference, test).mean(axis=(1, 2))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normal", default="ship")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--data-dir")
    parser.add_argument("--cache", help="folder to keep decoded images in")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cifar10.json"))
    options = parser.parse_args()
    run = f"{options.runs}/cifar10-{options.normal}"
    pairs = (("--data-dir", options.data_dir), ("--cache", options.cache))
    data_options = [word for name, value in pairs if value for word in (name, value)]
    source = ["cifar10", "--normal", options.normal, "--method", "f-anogan", "--score", "paper"]
    cli.main(["train", *source, *SETTINGS, *data_options, "--out", run], standalone_mode=False)
    figures = measure(run)
    command = f"python -m benchmarks.cifar10 --normal {options.normal}"
    report.write_json(options.out, {"command": command, "versions": report.versions(), **figures})
    print(figures)


if __name__ == "__main__":
    main()
