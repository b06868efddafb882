"""AnoGAN on MNIST with one normal digit: is the generator good, is the search, are the scores?

    python -m benchmarks.mnist --normal 2 --data-dir FOLDER

Settings were chosen on digit 4, with anomalies of a part of the training split. Scores are of 2,000 test images, drawn
so that each class has its share; those that need no search are also given for all 10,000.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from anogan_tf import data, plots, report
from anogan_tf.anogan import AnoGAN
from anogan_tf.callbacks import Progress
from anogan_tf.commands import baselines
from anogan_tf.gan import DCGAN

EPOCHS, BATCH_SIZE, WIDTH, LATENT_DIM = 28, 64, 32, 64
SEARCHED = 2000


def measure(normal, data_dir, out=None, seed=0, cache="auto"):
    """Trains, and returns the figures as a dict; draws what there is to look at into `out`."""
    splits = data.load("mnist", normal=normal, batch_size=BATCH_SIZE, data_dir=data_dir, cache=cache, seed=seed)
    gan = DCGAN((28, 28, 1), LATENT_DIM, width=WIDTH, seed=seed)
    gan.compile()
    start = time.perf_counter()
    gan.fit(splits.train, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[Progress()])
    figures = {"normal": normal, "seed": seed, "training_seconds": round(time.perf_counter() - start)}

    train, held_out = (images_of(part)[0] for part in (splits.reference, splits.validation))
    figures |= describe_samples(gan.generate(1000), train, normal, data_dir, cache)

    anogan = AnoGAN(gan, seed=seed)
    anogan.fit_reference(splits.reference)
    anogan.calibrate(splits.validation)
    some = held_out[:256]
    errors = np.square(some - anogan.score(some)["reconstruction"]).mean()
    figures["reconstruction_to_mean_image_error"] = float(errors / baselines.mean_image(train, some).mean())

    test, labels, classes = images_of(splits.test, splits.samples.part("test").classes)
    chosen, _ = train_test_split(np.arange(len(test)), train_size=SEARCHED, stratify=classes, random_state=0)
    start = time.perf_counter()
    scored = anogan.score(test[chosen])
    figures["seconds_per_image"] = (time.perf_counter() - start) / SEARCHED
    for name, key in (("features", "anomaly_score"), ("residual", "residual"), ("discrimination", "discrimination")):
        figures[f"auroc_{name}"] = roc_auc_score(labels[chosen], scored[key])
    paper = 0.9 * scored["residual"] + 0.1 * scored["discrimination"]
    figures["auroc_paper"] = roc_auc_score(labels[chosen], paper)
    alarms = scored["anomaly_score"][labels[chosen] == 0] > anogan.calibration.threshold
    figures["false_alarm_rate_at_alpha_0.05"] = float(alarms.mean())
    for name, scores in {
        "mean_image": baselines.mean_image(train, test).mean(axis=(1, 2)),
        "pca_32": baselines.pca(train, test).mean(axis=(1, 2)),
    }.items():
        figures[f"auroc_{name}"] = roc_auc_score(labels[chosen], scores[chosen])
        figures[f"auroc_{name}_all_10000"] = roc_auc_score(labels, scores)
    if out is not None:
        draw(out, gan, anogan, test[chosen][:8])
    return {name: round(float(v), 4) if isinstance(v, float) else v for name, v in figures.items()}


def describe_samples(samples, train, normal, data_dir, cache):
    """Whether a classifier of real digits sees the normal one in the samples, and how diverse they are."""
    every_digit = data.load(
        "mnist", normal=[str(d) for d in range(10)], data_dir=data_dir, cache=cache, validation_fraction=0.5
    ).samples
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(every_digit.parts != "test"))[:10_000]
    real = every_digit.images[every_digit.rows[chosen]].reshape(len(chosen), -1) / 255.0
    classifier = LogisticRegression(max_iter=200).fit(real, every_digit.classes[chosen])
    called = classifier.predict((samples.reshape(len(samples), -1) + 1) / 2)
    return {
        "samples_called_normal": float(np.mean(called == normal)),
        "sample_diversity": float(mean_distance(samples[:500]) / mean_distance(train[:500])),
    }


def mean_distance(images):
    """The mean Euclidean distance between two of the images."""
    flat = images.reshape(len(images), -1)
    squares = np.square(flat).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0))
    return distances.sum() / (len(flat) * (len(flat) - 1))


def images_of(dataset, classes=None):
    """All images and labels of an ordered data set, with the classes handed through."""
    batches = list(dataset)
    images, labels = (np.concatenate([batch[name] for batch in batches]) for name in ("image", "label"))
    return images, labels, classes


def draw(out, gan, anogan, queries):
    """Samples, and the search for some test images."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path, steps = anogan.search_path(queries), (0, 2, 5, 10, 20, 50)
    drawn = [gan.generator(path["z"][step], training=False).numpy() for step in steps]
    plots.samples(gan.generate(64), title="drawn by the generator").savefig(out / "samples.png", dpi=80)
    plots.search_path(queries, drawn, steps).savefig(out / "search_path.png", dpi=80)
    plots.mapping_loss(path["loss"]).savefig(out / "mapping_loss.png", dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normal", default="2")
    parser.add_argument("--data-dir")
    parser.add_argument("--cache", default="auto", help="folder to keep decoded images in")
    parser.add_argument("--pictures", type=Path, help="folder for samples and search path")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mnist.json"))
    options = parser.parse_args()
    figures = measure(options.normal, options.data_dir, options.pictures, cache=options.cache)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.mnist --normal {options.normal}"
    report.write_json(options.out, {"command": command, "versions": report.versions(), **figures})
    for name, value in figures.items():
        print(f"{name:38} {value}")


if __name__ == "__main__":
    main()
