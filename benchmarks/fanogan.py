"""f-AnoGAN on MNIST with one normal digit: the encoder's modes against the search, in AUROC and time per image.

    python -m benchmarks.fanogan --normal 2 8 --data-dir FOLDER

It trains through the command line, into `--runs`, and goes on where it was stopped. Every score is the papers' A(x), on
2,000 test images, drawn so that each class has its share. Settings were chosen on digit 4, with anomalies of the
training split.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import anogan_tf as agt
from anogan_tf import plots, report
from anogan_tf.commands import baselines, cli
from anogan_tf.commands.settings import load_splits

TESTED, TIMED = 2000, 64
MODES = {"izi_f": [], "izi": ["--mode", "izi"], "ziz": ["--mode", "ziz"], "variational": ["--variational"]}
SETTINGS = ["--width", "16", "--batch-size", "64", "--epochs", "34", "--encoder-epochs", "10", "--score", "paper"]


def train(normal, folder, data_options):
    """Trains one GAN and four encoders; paths of the runs by mode."""
    paths = {mode: f"{folder}/mnist-{normal}" + ("" if mode == "izi_f" else f"-{mode}") for mode in MODES}
    for mode, options in MODES.items():
        source = ["--encoder-only", paths["izi_f"], "--encoder-epochs", "10", "--score", "paper"]
        if mode == "izi_f":
            source = ["mnist", "--normal", normal, *SETTINGS, *data_options]
        command = ["train", *source, "--method", "f-anogan", *options, "--out", paths[mode]]
        cli.main(command, standalone_mode=False)
    return paths


def measure(paths, *, searches=True):
    """Figures of each way to score, of the encoders alone without `searches`; and reconstructions to look at."""
    splits = load_splits(agt.runs.read_run(paths["izi_f"])["settings"])
    images, labels = stratified(splits)
    held_out = np.concatenate([batch["image"] for batch in splits.validation])[:256]
    reference = np.concatenate([batch["image"] for batch in splits.reference])
    mean_error = baselines.mean_image(reference, held_out).mean()
    rows, drawn = {}, {}
    scorers = {mode: agt.load_run(path) for mode, path in paths.items()}
    gan, encoder = scorers["izi_f"].gan, scorers["izi_f"].encoder
    if searches:
        scorers["AnoGAN, 50 steps"] = agt.AnoGAN(gan, score="paper")
        scorers["hybrid, 20 steps"] = agt.AnoGAN(gan, encoder=encoder, steps=20, score="paper")
    for name, scorer in scorers.items():
        drawn[name] = scorer.score(held_out)["reconstruction"]
        error = float(np.square(held_out - drawn[name]).mean() / mean_error)
        rows[name] = {"auroc": roc_auc_score(labels, scorer.score(images)["anomaly_score"]), "error": error}
    if searches:
        scorers["AnoGAN, 500 steps"] = agt.AnoGAN(gan, steps=500, score="paper")
    for name, seconds in timed(scorers, images[:TIMED]).items():
        rows.setdefault(name, {})["seconds_per_image"] = seconds
    for name, score in {"mean image": baselines.mean_image, "PCA-32": baselines.pca}.items():
        rows[name] = {"auroc": roc_auc_score(labels, score(reference, images).mean(axis=(1, 2)))}
    return rows, (held_out[:8], drawn["izi_f"][:8])


def timed(scorers, images, repetitions=5):
    """The median of seconds per image; repetitions of all scorers are interleaved, as other work may come and go."""
    seconds = {name: [] for name in scorers}
    for _ in range(repetitions):
        for name, scorer in scorers.items():
            start = time.perf_counter()
            scorer.score(images)
            seconds[name].append((time.perf_counter() - start) / len(images))
    return {name: float(np.median(values)) for name, values in seconds.items()}


def stratified(splits):
    """`TESTED` test images and their labels, each class with its share."""
    batches = list(splits.test)
    images, labels = (np.concatenate([batch[name] for batch in batches]) for name in ("image", "label"))
    classes = splits.samples.part("test").classes
    chosen, _ = train_test_split(np.arange(len(images)), train_size=TESTED, stratify=classes, random_state=0)
    return images[chosen], labels[chosen]


def table(results):
    """The figures in Markdown: a row for each way to score, for each digit AUROC, error and milliseconds per image."""
    columns = [
        ("auroc", 1, "AUROC", ".3f"),
        ("error", 1, "error", ".2f"),
        ("seconds_per_image", 1000, "ms an image", ".1f"),
    ]
    digits = list(results)
    head = [f"digit {digit}: {title}" for digit in digits for _, _, title, _ in columns]
    lines = ["| score | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for name in results[digits[0]]:
        cells = [
            format(scale * results[digit][name][key], style) if key in results[digit][name] else ""
            for digit in digits
            for key, scale, _, style in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normal", nargs="+", default=["2", "8"])
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--data-dir")
    parser.add_argument("--cache", help="folder to keep decoded images in")
    parser.add_argument("--pictures", type=Path, help="folder for reconstructions")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fanogan.json"))
    options = parser.parse_args()
    pairs = (("--data-dir", options.data_dir), ("--cache", options.cache))
    data_options = [word for name, value in pairs if value for word in (name, value)]
    results = {}
    for normal in options.normal:
        results[normal], examples = measure(train(normal, options.runs, data_options))
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            plots.reconstructions(*examples).savefig(options.pictures / f"fanogan_{normal}.png", dpi=80)
    print(table(results))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.fanogan --normal {' '.join(options.normal)}"
    report.write_json(options.out, {"command": command, "versions": report.versions(), "normal": results})


if __name__ == "__main__":
    main()
