"""Time per image and AUROC on MNIST: our default, the hybrid, one pass, the seeds' 500 steps, batched and their way.

    python -m benchmarks.time_to_quality --run runs/mnist-8

The run is of `anogan-tf train mnist --method f-anogan`; without one a DCGAN and an encoder are trained here, briefly.
AUROC is on test images drawn so that each class has its share; times are of 64 of them, and of one for the seeds' own
way. Of the seeds' 500 steps a tenth is timed, and counted tenfold.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import anogan_tf as agt
from anogan_tf import networks
from anogan_tf.commands.settings import load_splits
from benchmarks import measuring
from benchmarks.fanogan import TIMED

SEED_STEPS = 500
DEFAULT, BATCHED = "default search", "seeds' settings, batched"


def prepare(options):
    """A GAN, its encoder and the splits, of a run or trained here."""
    if options.run:
        fanogan = agt.load_run(options.run)
        return fanogan.gan, fanogan.encoder, load_splits(agt.runs.read_run(options.run)["settings"])
    source = "digits" if options.quick else "mnist"
    splits = agt.data.load(source, normal=options.normal, batch_size=64, data_dir=options.data_dir)
    width = 4 if options.quick else 32
    gan = agt.DCGAN(splits.preprocessing.image_shape, latent_dim=64, width=width)
    fanogan = agt.FAnoGAN(gan)
    for model, epochs in ((gan, options.epochs), (fanogan, options.encoder_epochs)):
        model.compile()
        model.fit(splits.train, epochs=1 if options.quick else epochs, shuffle=False, verbose=0)
    return gan, fanogan.encoder, splits


def measure(gan, encoder, splits, tested, seed_steps, timed):
    """Figures by way of scoring."""
    batches = list(splits.test)
    images, labels = (np.concatenate([batch[name] for batch in batches]) for name in ("image", "label"))
    classes = splits.samples.part("test").classes
    chosen, _ = train_test_split(np.arange(len(images)), train_size=tested, stratify=classes, random_state=0)
    images, labels = images[chosen], labels[chosen]
    scorers = {
        DEFAULT: agt.AnoGAN(gan),
        "hybrid, 20 steps": agt.AnoGAN(gan, encoder=encoder, steps=20),
        "one pass": agt.FAnoGAN(gan, encoder=encoder),
        BATCHED: agt.AnoGAN(gan, steps=seed_steps, learning_rate=1e-3, score="paper"),
    }
    figures = {}
    for name, scorer in scorers.items():
        scorer.fit_reference(splits.reference)
        figures[name] = {"auroc": roc_auc_score(labels, scorer.score(images)["anomaly_score"])}
        print(name, figures[name], flush=True)
    scorers[BATCHED] = agt.AnoGAN(gan, steps=seed_steps // 10, learning_rate=1e-3, score="paper")
    ways = {name: lambda scorer=scorer: scorer.score(images[:timed]) for name, scorer in scorers.items()}
    units = dict.fromkeys(ways, timed) | {BATCHED: timed / 10}
    seed = seed_way(gan, images[:1], seed_steps // 10)
    if seed:
        ways["seeds' own way"], units["seeds' own way"] = seed, 0.1  # of an image
    timings = measuring.Timings(ways, units)
    for name in ways:
        times = {"times_as_long_as_default": timings.ratio(name, DEFAULT)}
        figures[name] = figures.get(name, {}) | timings.figures(name) | times
    return figures


def seed_way(gan, image, steps):
    try:
        from benchmarks.seed_search import SeedSearch
    except ImportError as error:
        print(f"Left out, the seeds' own way: {error}")
        return None
    extractor = networks.feature_extractor(gan.discriminator)
    search = SeedSearch(gan.generator, keras.Model(extractor.inputs[0], next(iter(extractor.output.values()))))
    return lambda: search(image, steps)


def main():
    parser = measuring.arguments(__doc__, "time_to_quality")
    parser.add_argument("--run", help="folder of a run of f-AnoGAN; default: trains here")
    parser.add_argument("--normal", default="8")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--encoder-epochs", type=int, default=5)
    parser.add_argument("--tested", type=int, default=2000)
    options = parser.parse_args()
    started_on = measuring.machine()
    sizes = (100, 10, 8) if options.quick else (options.tested, SEED_STEPS, TIMED)
    figures = measure(*prepare(options), *sizes)
    rows = [
        [name, row.get("auroc"), 1000 * row["seconds"], row["times_as_long_as_default"]]
        for name, row in figures.items()
    ]
    print(measuring.table(["", "AUROC", "ms an image", "times the default's"], rows))
    measuring.write(options.out, "time_to_quality", started_on, {"tested": sizes[0], "ways": figures})


if __name__ == "__main__":
    main()
