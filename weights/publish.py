r"""Makes a published run out of a finished one: weights, golden file, model card, checksums.

    python weights/publish.py runs/mnist-8 mnist-8 "anogan-tf train mnist --normal 8 --out runs/mnist-8" \
        --took "10 minutes on two cores"

The images of the run must still be where it found them, as its test part is tested on. The table of `weights/README.md`
is written anew.
"""

import argparse
import json
import re
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from anogan_tf import atomic, drawing, plots, published, report
from anogan_tf.commands import calibrate
from anogan_tf.commands.settings import load_splits
from anogan_tf.runs import load_run, read_run, save_run
from anogan_tf.weights import save_keras2_weights

HERE = Path(__file__).parent
EACH = 4  # queries of either kind in a golden file
# What `run.json` says besides the scorer.
ABOUT = ("settings", "preprocessing", "fingerprint", "images", "drawing", "diagnosis")
DATA = {  # name, whose it is and its licence, and whether the licence lets its images be shown
    "mnist": (
        "MNIST",
        "Yann LeCun and Corinna Cortes, derived from NIST's; [CC BY-SA 3.0]"
        "(https://creativecommons.org/licenses/by-sa/3.0/). The digits in `golden.npz` and `scored.png` are under that "
        "licence.",
        True,
    ),
    "fashion_mnist": (
        "Fashion-MNIST",
        "[Zalando SE](https://github.com/zalandoresearch/fashion-mnist), © 2017; MIT licence, which holds for the "
        "images in `golden.npz` and `scored.png`.",
        True,
    ),
    "cifar10": (
        "CIFAR-10",
        "Alex Krizhevsky, [Learning Multiple Layers of Features from Tiny Images]"
        "(https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), 2009, to be cited; no licence is stated, so "
        "no image of it is shown here: those in `golden.npz` and `scored.png` were drawn by the generator.",
        False,
    ),
    "mvtec": (
        "MVTec AD",
        "Bergmann et al., [The MVTec Anomaly Detection Dataset]"
        "(https://www.mvtec.com/company/research/datasets/mvtec-ad), IJCV 2021, © MVTec Software GmbH; "
        "[CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/). So is this run, with its weights and "
        "pictures: not for commercial use, see `LICENSE`.",
        True,
    ),
}


def publish(run, name, command, *, took, source=None, half=False, keras2=False):
    """Writes `weights/NAME`.

    Args:
        run: The folder of a finished run.
        name: What it is published as.
        command: The command that trained it.
        took: How long the training took, in words.
        source: The name of the images in `run.json`, for a folder such as `mvtec/bottle`; None to keep it.
        half: Round all weights to 16 bits; the reference and the thresholds are then those of the rounded ones.
        keras2: Add the networks as Keras 2 files.
    """
    path = HERE / name
    for file in [*path.glob("*.h5"), *path.glob(published.SUMS)]:
        file.unlink()
    description = read_run(run)
    settings = description["settings"]
    scorer = load_run(run)
    splits = load_splits(settings, scorer.image_shape[:2])
    if half:
        _round(scorer, splits)
    neutral = settings | {"source": source or settings["source"], "data_dir": None, "cache": "auto"}
    known = {key: description[key] for key in ABOUT}
    save_run(path, scorer, **known | {"settings": neutral})
    gan = scorer.gan
    if keras2:
        for network in (gan.generator, gan.discriminator):
            save_keras2_weights(network, path / f"{network.name}.h5")
    if half:
        for file in path.glob("*.h5"):
            _halve(file)
    scorer = load_run(path)  # what is tested and drawn is what was written
    result = scorer.test(splits.test, pictures=0)
    figures = {key: value for key, value in result.metrics.items() if key != "seconds_per_image"}  # of no search
    report.write_json(path / "metrics.json", figures)
    images, kinds = _queries(splits.test) if _dataset(neutral)[2] else _drawn(gan)
    scored = scorer.score(images / np.float32(127.5) - 1)
    np.savez_compressed(
        path / "golden.npz",
        images=images,
        anomaly_score=scored["anomaly_score"],
        reconstruction=scored["reconstruction"].astype(np.float16),
    )
    plots.samples(gan.generate(64)).savefig(path / "samples.png", dpi=80)
    Image.fromarray(_scored(scorer, images, scored, kinds)).save(path / "scored.png", optimize=True)
    (path / "README.md").write_text(_card(name, read_run(path), result, command, took))
    published.seal(path)
    write_table()


def write_table():
    """The table of the published runs, in `weights/README.md`."""
    lines = ["| run | normal | AUROC | accuracy | size |", "|---|---|---|---|---|"]
    for name in sorted(path.parent.name for path in HERE.glob(f"*/{published.SUMS}")):
        metrics = json.loads((HERE / name / "metrics.json").read_text())
        settings = read_run(HERE / name)["settings"]
        size = sum(file.stat().st_size for file in (HERE / name).iterdir()) / 1e6
        normal = ", ".join(settings["normal"]) or "good"
        figures = f"{metrics['auroc']:.3f} | {metrics['accuracy']:.3f} | {size:.1f} MB"
        lines.append(f"| [{name}]({name}/README.md) | {settings['source']}: {normal} | {figures} |")
    page = (HERE / "README.md").read_text()
    (HERE / "README.md").write_text(re.sub(r"(?m)(^\|.*\n)+", "\n".join(lines) + "\n", page, count=1))


def _round(scorer, splits):
    gan = scorer.gan
    for network in (gan.generator, gan.discriminator, gan.transformation_head, scorer.encoder):
        if network is not None:
            network.set_weights([weight.astype(np.float16) for weight in network.get_weights()])
    alpha, cross = scorer.calibration.alpha, scorer.calibration.method == "cross"
    if cross:
        calibrate.from_splits(scorer, splits, alpha, "cross")
    else:
        scorer.fit_reference(splits.reference)
    if scorer.reference is not None:
        rounded = {key: array.astype(np.float16) for key, array in scorer.reference.arrays.items()}
        scorer.reference = type(scorer.reference).from_arrays(rounded)
    if not cross:  # else each score is by another reference, in full
        scorer.calibrate(splits.validation, alpha)


def _halve(file):
    """Rewrites a weight file with numbers of 16 bits."""

    def copy(group, target):
        target.attrs.update(group.attrs)
        for key, item in group.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(key))
            else:
                target[key] = item[()].astype(np.float16) if item.dtype == np.float32 else item[()]

    with atomic.replacing(file) as partial, h5py.File(file) as whole, h5py.File(partial, "w") as halved:
        copy(whole, halved)


def _queries(test):
    """Normal and anomalous images of a test part, as bytes, and what each is."""
    images, labels = (np.concatenate([batch[key] for batch in test]) for key in ("image", "label"))
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(np.flatnonzero(labels == label), EACH, replace=False) for label in (0, 1)])
    return _bytes(images[chosen]), ["normal"] * EACH + ["anomalous"] * EACH


def _drawn(gan):
    """Images that the generator drew, as bytes, half of them upside down; and what each is."""
    images = gan.generate(2 * EACH)
    images[EACH:] = images[EACH:, ::-1]
    return _bytes(images), ["drawn by the generator"] * EACH + ["drawn by the generator, upside down"] * EACH


def _bytes(images):
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


def _scored(scorer, images, scored, kinds):
    """Two queries of either kind with their reconstructions, maps and scores, as one picture."""
    threshold, pixel_threshold = scorer.calibration.threshold, scorer.calibration.pixel_threshold
    rows = []
    for i in (0, 1, EACH, EACH + 1):
        score, shown = scored["anomaly_score"][i], images[i] / np.float32(127.5) - 1
        title = f"{kinds[i]}: score {score:.4g}, threshold {threshold:.4g}"
        parts = shown, scored["reconstruction"][i], scored["anomaly_map"][i]
        figure = plots.result(*parts, pixel_threshold=pixel_threshold, title=title)
        figure.set_dpi(64)
        rows.append(plots.pixels(figure))
    return np.concatenate(rows)


def _dataset(settings):
    return DATA[settings["source"].split("/")[0]]


def _card(name, run, result, command, took):
    """The model card."""
    data, licence, shown = _dataset(run["settings"])
    gan, counts, n = run["gan"], run["images"], len(run["calibration"]["scores"])
    figures = "".join(
        f"| {key.replace('_', ' ')} | {result.metrics[key]:.4f} |\n"
        for key in ("auroc", "average_precision", "accuracy", "balanced_accuracy", "f1", "pixel_auroc", "aupro")
        if result.metrics[key] is not None
    )
    normal = ", ".join(run["settings"]["normal"]) or "good"
    networks = f"{gan['kind']}, {gan['architecture']} {gan['width']} wide, "
    networks += f"{'×'.join(map(str, gan['image_shape']))}, z of {gan['latent_dim']}"
    and_encoder = ", and as many with an encoder" if run["encoder"] else ""
    found = "".join(f"Mind: {sentence}\n\n" for sentence in run["diagnosis"])
    tested = f"{counts['test']} to test, {result.base_rate:.1%} of them anomalous"
    return f"""# {name}

Knows what is normal in {data}: {normal}. Written by `weights/publish.py`.

| | |
|---|---|
| data | {data}: {licence} |
| normal class | {normal} |
| images | {counts["train"]} to train, {counts["validation"]} to set the threshold, {tested} |
| networks | {networks} |
| command | `{command}` |
| training | {run["settings"]["training_steps"]} steps{and_encoder}, made up to whole epochs; {took} |
| drawing | {drawing.in_words(run["drawing"])} |
| what decides | `--score {run["settings"]["score_kind"]}` |

Use it from a clone (in an installation `ANOGAN_TF_WEIGHTS` names the folder that this one is in):

```sh
anogan-tf score {name} PATH… --out results
```

```python
scorer = agt.load_run("{name}")
```

## Test

| | |
|---|---|
{figures}| threshold | {result.threshold:.4g}, from {n} normal images, α = {result.alpha:.3f} |

## What it draws

{found}![64 images drawn by the generator](samples.png)

Query, reconstruction, difference and anomaly map of four {"test" if shown else "drawn"} images:

![Four scored images](scored.png)

`golden.npz` holds eight queries with the scores and reconstructions that they get; `tests/test_golden.py` compares.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("name", help="what it is published as")
    parser.add_argument("command", help="the command that trained it, as a reader would type it")
    parser.add_argument("--took", required=True, help="how long the training took, in words")
    parser.add_argument("--source", help="what run.json calls a folder of images, such as mvtec/bottle")
    parser.add_argument("--half", action="store_true", help="round weights to 16 bits")
    parser.add_argument("--keras2", action="store_true", help="add the networks as files of Keras 2")
    publish(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
