"""The demonstration: the whole path on real images that come with scikit-learn."""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from anogan_tf import data, judging, plots, report
from anogan_tf.anogan import AnoGAN
from anogan_tf.callbacks import Progress
from anogan_tf.commands import baselines
from anogan_tf.gan import DCGAN

EPOCHS = 600
PCA_COMPONENTS = 16


def run(
    out: str | Path, normal: str = "8", seed: int = 0, epochs: int = EPOCHS
) -> tuple[judging.TestResult, dict[str, float]]:
    """Trains on one digit, tests on all, writes the results folder `out`, and explains what it shows.

    Returns:
        The `judging.TestResult` and the baselines' AUROC by name.
    """
    out = Path(out)
    report.check(out, "losses", "samples")
    splits = data.load("digits", normal=normal, seed=seed)
    sizes = {part: len(splits.samples.part(part)) for part in ("train", "validation", "test")}
    print(
        f"1. Train a GAN on {sizes['train']} images of the digit {normal}, 8×8 pixels, and on nothing else.\n"
        f"   {sizes['validation']} more are kept for the threshold, {sizes['test']} images of all digits for the test."
    )
    gan, history = train(splits, seed, epochs)

    print("2. Learn the features of normal images, and from images not trained on how high normal scores go.")
    anogan = AnoGAN(gan, seed=seed)
    anogan.fit_reference(splits.reference)
    anogan.calibrate(splits.validation, alpha=0.05)

    print("3. Test: search for each image the nearest one that the GAN can draw, score it, decide.")
    queries = next(iter(splits.test))["image"].numpy()[:8]
    path = anogan.search_path(queries)
    steps = (0, 2, 5, 10, 20, 50)
    drawn = [gan.generator(path["z"][step], training=False).numpy() for step in steps]
    figures = {
        "losses": plots.losses(history),
        "samples": plots.samples(gan.generate(64), title="drawn by the generator"),
        "mapping_loss": plots.mapping_loss(path["loss"]),
        "search_path": plots.search_path(queries, drawn, steps),
    }
    compared = compare(splits)
    settings = {"baselines": compared}
    result = judging.test(anogan, splits.test, results_dir=out, pictures=40, settings=settings, figures=figures)
    _explain(out, normal, result, compared)
    return result, compared


def train(splits: data.Splits, seed: int, epochs: int = EPOCHS) -> tuple[DCGAN, dict[str, list]]:
    """A small DCGAN trained on the digits, and the history of its losses."""
    gan = DCGAN(splits.preprocessing.image_shape, latent_dim=16, width=32, seed=seed)
    gan.compile()
    history = gan.fit(splits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=[Progress()])
    return gan, history.history


def compare(splits: data.Splits) -> dict[str, float]:
    """AUROC of the baselines on the same split."""
    train_images = np.concatenate([batch["image"] for batch in splits.reference])
    test_images = np.concatenate([batch["image"] for batch in splits.test])
    labels = np.concatenate([batch["label"] for batch in splits.test])
    scores = {
        "mean_image": baselines.mean_image(train_images, test_images).mean(axis=(1, 2)),
        f"pca_{PCA_COMPONENTS}": baselines.pca(train_images, test_images, PCA_COMPONENTS).mean(axis=(1, 2)),
    }
    return {name: float(roc_auc_score(labels, values)) for name, values in scores.items()}


def _explain(out, normal, result, compared):
    tn, fp, fn, tp = (result.confusion[name] for name in ("tn", "fp", "fn", "tp"))
    others = ", ".join(f"{name.replace('_', ' ')} {auroc:.3f}" for name, auroc in compared.items())
    print(f"""
AUROC {result.auroc:.3f}: take a random {normal} and a random other digit; that often the other scores higher.
  Without a GAN: {others}.
Threshold {result.threshold:.4g}: set on normal images alone: about {result.alpha:.0%} of new {normal}s exceed it.
  Of {tp + fn} other digits {tp} were found; of {tn + fp} digits {normal}, {fp} raised a false alarm.

Open {out / "index.html"}: each image, what the GAN could draw of it, and where the two differ.""")
