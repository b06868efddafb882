r"""Makes a published run out of a finished one: weights, golden file, model card, checksums.

    python weights/publish.py run runs/mnist-8 mnist-8 "anogan-tf train mnist --normal 8 --out runs/mnist-8" \
        --took "10 minutes on two cores"
    python weights/publish.py cards
    python weights/publish.py exports

The images of the run must still be where it found them, as its test part is tested on. The table of `weights/README.md`
is written anew. `cards` needs no images: it writes the cards, their pictures and the table of what is published.
`exports` exports each run to each format, and writes the table of how far exports are from their runs.
"""

import argparse
import itertools
import json
import re
import tempfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from anogan_tf import atomic, drawing, formats, plots, published, report, thresholds
from anogan_tf.commands import calibrate, export
from anogan_tf.commands.settings import load_splits
from anogan_tf.metrics import regions
from anogan_tf.runs import load_run, read_run, save_run
from anogan_tf.weights import save_keras2_weights

HERE = Path(__file__).parent
EACH = 4  # queries of either kind in a golden file
KINDS = ("normal", "anomalous")
DRAWN_KINDS = ("drawn", "drawn, then turned upside down")
SAMPLES = 32
FIGURES = {  # in metrics.json, and on the card
    "auroc": "AUROC",
    "average_precision": "average precision",
    "pixel_auroc": "AUROC of pixels",
    "aupro": "AUPRO of regions",
}
EXPORTED = ("anomaly_score", "anomaly_map", "reconstruction")  # whose differences from Python's are shown
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
    report.write_json(path / "card.json", {"command": command, "took": took})
    images = _queries(splits.test) if _dataset(neutral)[2] else _drawn(gan)
    scored = scorer.score(images / np.float32(127.5) - 1)
    np.savez_compressed(
        path / "golden.npz",
        images=images,
        anomaly_score=scored["anomaly_score"],
        reconstruction=scored["reconstruction"].astype(np.float16),
    )
    published.seal(path)
    write_card(name)
    write_table()


def write_card(name):
    """The model card of a published run and its pictures, of what lies in its folder."""
    path = HERE / name
    run, scorer = read_run(path), load_run(path)
    shown = _dataset(run["settings"])[2]
    images = np.load(path / "golden.npz")["images"] / np.float32(127.5) - 1
    plots.samples(scorer.gan.generate(SAMPLES)).savefig(path / "samples.png", dpi=80)
    kinds = KINDS if shown else DRAWN_KINDS
    _scored(scorer, images, kinds).save(path / "scored.png", optimize=True)
    known = [json.loads((path / file).read_text()) for file in ("metrics.json", "card.json")]
    (path / "README.md").write_text(_card(name, run, *known))


def write_table():
    """The table of the published runs, in `weights/README.md`."""
    lines = ["| run | normal | AUROC | found | false alarms | size |", "|---|---|---|---|---|---|"]
    for name in names():
        metrics = json.loads((HERE / name / "metrics.json").read_text())
        settings = read_run(HERE / name)["settings"]
        size = sum(file.stat().st_size for file in (HERE / name).iterdir()) / 1e6
        normal = ", ".join(settings["normal"]) or "good"
        found, alarms = _rates(metrics["confusion"])
        figures = f"{metrics['auroc']:.3f} | {found:.1%} | {alarms:.1%} | {size:.1f} MB"
        lines.append(f"| [{name}]({name}/README.md) | {settings['source']}: {normal} | {figures} |")
    page = (HERE / "README.md").read_text()
    (HERE / "README.md").write_text(re.sub(r"(?m)(^\|.*\n)+", "\n".join(lines) + "\n", page, count=1))


def write_exports(runs):
    """The rows of runs in the table of exports, in `weights/README.md`: sizes, and largest differences from them."""
    page = (HERE / "README.md").read_text()
    table = re.search(r"(?m)^\| run \| format.*\n(\|.*\n)*", page)[0]
    rows = {tuple(line.split(" | ", 2)[:2]): line for line in table.splitlines()}
    for name, format in itertools.product(runs or names(), formats.FORMATS):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "export"
            found = export.run(HERE / name, out, format=format)
            size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
        shown = (f"{found[key]:.0e}" if key in found else "–" for key in EXPORTED)
        rows[f"| {name}", format] = f"| {name} | {format} | {size:.1f} MB | {' | '.join(shown)} |"
    (HERE / "README.md").write_text(page.replace(table, "\n".join(rows.values()) + "\n"))


def names():
    """The names of the published runs."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{published.SUMS}"))


def _rates(confusion):
    """The share of anomalous images that are found, and of normal ones that raise an alarm."""
    tp, fn, fp, tn = (confusion[name] for name in ("tp", "fn", "fp", "tn"))
    return tp / (tp + fn), fp / (fp + tn)


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
    """Normal and anomalous images of a test part, as bytes."""
    images, labels = (np.concatenate([batch[key] for batch in test]) for key in ("image", "label"))
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(np.flatnonzero(labels == label), EACH, replace=False) for label in (0, 1)])
    return _bytes(images[chosen])


def _drawn(gan):
    """Images that the generator drew, as bytes, half of them upside down; not from where a search starts."""
    images = gan.generate(2 * EACH, seed=1)
    images[EACH:] = images[EACH:, ::-1]
    return _bytes(images)


def _bytes(images):
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


def _scored(scorer, images, kinds):
    """Queries with their reconstructions, maps, scores and decisions, as one picture: two normal, four anomalous."""
    calibration, scored, rows = scorer.calibration, scorer.score(images), []
    for i in (0, 1, *range(EACH, 2 * EACH)):
        score = scored["anomaly_score"][i]
        decision = thresholds.decision(score, calibration.threshold, calibration.strict[0])
        title = f"{kinds[i // EACH]}: score {score:.3g}, threshold {calibration.threshold:.3g}: {decision}"
        parts = images[i], scored["reconstruction"][i], scored["anomaly_map"][i]
        level, is_alarm = calibration.pixel_threshold, score > calibration.threshold
        boxes = [region["box"] for region in regions(parts[2], level, is_alarm=is_alarm)]
        figure = plots.result(*parts, pixel_threshold=level, title=title, boxes=boxes)
        figure.set_dpi(80)
        rows.append(plots.pixels(figure))
    return Image.fromarray(np.concatenate(rows))


def _dataset(settings):
    return DATA[settings["source"].split("/")[0]]


def _card(name, run, metrics, known):
    """The model card."""
    data, licence, shown = _dataset(run["settings"])
    gan, counts, n = run["gan"], run["images"], len(run["calibration"]["scores"])
    found, alarms = _rates(metrics["confusion"])
    figures = "".join(f"| {FIGURES[key]} | {metrics[key]:.3f} |\n" for key in FIGURES if metrics[key] is not None)
    normal = ", ".join(run["settings"]["normal"]) or "good"
    networks = f"{gan['kind']}, {gan['architecture']} {gan['width']} wide, "
    networks += f"{'×'.join(map(str, gan['image_shape']))}, z of {gan['latent_dim']}"
    of_encoder = run["settings"].get("encoder_part", 1.0)
    many = "as many" if of_encoder == 1.0 else f"{of_encoder:.0%} as many"
    and_encoder = f", and {many} with an encoder" if run["encoder"] else ""
    drawn = f"| drawing | {drawing.in_words(run['drawing'])} |\n" if run.get("drawing") else ""
    mind = "".join(f"Mind: {sentence}\n\n" for sentence in run["diagnosis"])
    tested = f"{counts['test']} to test, {metrics['base_rate']:.1%} of them anomalous"
    return f"""# {name}

Knows what is normal in {data}: {normal}. Of the anomalous images of its test part it finds {found:.1%}, and of the
normal ones {alarms:.1%} raise an alarm. Written by `weights/publish.py`.

![Six scored {"test" if shown else "drawn"} images: query, reconstruction, difference and anomaly map](scored.png)

## Use it

```sh
anogan-tf score {name} PATH… --out results
```

```python
scorer = agt.load_run("{name}")
```

A clone finds it by this name, an installation once `ANOGAN_TF_WEIGHTS` names the folder that this one is in; the path
of this folder does in place of the name.

## Test

| | |
|---|---|
{figures}| found, of the anomalous images | {found:.1%} |
| false alarms, of the normal ones | {alarms:.1%}, where α = {metrics["alpha"]:.2f} was asked for |
| threshold | {metrics["threshold"]:.3g}, from {n} normal images |

## How it was made

| | |
|---|---|
| data | {data}: {licence} |
| normal class | {normal} |
| images | {counts["train"]} to train, {counts["validation"]} to set the threshold, {tested} |
| networks | {networks} |
| command | `{known["command"]}` |
| training | {run["settings"]["training_steps"]} steps{and_encoder}, made up to whole epochs; {known["took"]} |
{drawn}| what decides | `--score {run["settings"]["score_kind"]}` |

{mind}What its generator draws:

![{SAMPLES} images drawn by the generator](samples.png)

`golden.npz` holds eight queries with the scores and reconstructions that they get; `tests/test_golden.py` compares.
"""


def write_cards():
    """All cards and the table, of what is published."""
    for name in names():
        write_card(name)
    write_table()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    cards = commands.add_parser("cards", help="write the cards and the table anew")
    cards.set_defaults(does=write_cards)
    exports = commands.add_parser("exports", help="export runs, and write their rows of the table of exports anew")
    exports.set_defaults(does=write_exports)
    exports.add_argument("runs", nargs="*", help="published runs; default: all")
    run = commands.add_parser("run", help="publish a finished run")
    run.set_defaults(does=publish)
    run.add_argument("run", help="the folder of a finished run")
    run.add_argument("name", help="what it is published as")
    run.add_argument("command", help="the command that trained it, as a reader would type it")
    run.add_argument("--took", required=True, help="how long the training took, in words")
    run.add_argument("--source", help="what run.json calls a folder of images, such as mvtec/bottle")
    run.add_argument("--half", action="store_true", help="round weights to 16 bits")
    run.add_argument("--keras2", action="store_true", help="add the networks as files of Keras 2")
    options = vars(parser.parse_args())
    options.pop("does")(**options)


if __name__ == "__main__":
    main()
