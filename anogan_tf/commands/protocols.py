"""Published protocols: train on one class, test on all, and compare with others, in a table that anyone can repeat."""

import csv
import dataclasses
import functools
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from anogan_tf import atomic, metrics, report, scoring
from anogan_tf.anogan import AnoGAN
from anogan_tf.commands import baselines, options, train
from anogan_tf.commands.settings import load_splits
from anogan_tf.data.sources import opened_npz
from anogan_tf.runs import load_run, read_run

MEASURED = (
    "accuracy", "average_precision", "alpha", "pixel_auroc", "aupro", "seconds_training", "seconds_per_image",
)  # fmt: skip
SEARCHED = 2000  # test images that a latent search is tried on, where there are more
QUICK = ("--training-steps", "20", "--width", "8")
MNIST = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
FASHION_MNIST = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is trained on and tested, and what others published for it.

    Attributes:
        cases: Normal classes, each trained on alone; or category folders.
        published: Image AUROC by name of the method and, where known, by case; `"mean"` for the mean over cases.
        looked_at: Cases whose anomalies were looked at when settings were chosen.
        category: Whether cases are folders in MVTec layout, with a normal class of their own.
    """

    cases: tuple[str, ...]
    published: dict = dataclasses.field(default_factory=dict)
    looked_at: tuple[str, ...] = ()
    category: bool = False


def _by_case(cases, figures, mean):
    return dict(zip(cases, (figure / 100 for figure in figures), strict=True)) | {"mean": mean / 100}


PROTOCOLS = {
    "digits": Protocol(MNIST),
    "mnist": Protocol(
        MNIST,
        {
            "AnoGAN": _by_case(MNIST, (96.6, 99.2, 85.0, 88.7, 89.4, 88.3, 94.7, 93.5, 84.9, 92.4), 91.3),
            "Deep SVDD": _by_case(MNIST, (98.0, 99.7, 91.7, 91.9, 94.9, 88.5, 98.3, 94.6, 93.9, 96.5), 94.8),
            "OCGAN": {"mean": 0.975},
        },
        looked_at=("2", "4", "5", "8"),
    ),
    "fashion_mnist": Protocol(
        FASHION_MNIST,
        {"geometric transformations": {"mean": 0.935}, "OCGAN (its protocol 1)": {"mean": 0.924}},
        looked_at=FASHION_MNIST[:5],
    ),
    "cifar10": Protocol(
        CIFAR10,
        {
            "AnoGAN": _by_case(CIFAR10, (67.1, 54.7, 52.9, 54.5, 65.1, 60.3, 58.5, 62.5, 75.8, 66.5), 61.8),
            "OCGAN": {"mean": 0.657},
            "geometric transformations": {"mean": 0.860},
        },
        looked_at=("automobile", "bird", "deer", "dog", "horse", "ship"),
    ),
    "mvtec": Protocol(
        (
            "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
            "toothbrush", "transistor", "wood", "zipper",
        ),
        {
            "CutPaste (from scratch)": {
                "bottle": 0.983, "pill": 0.924, "hazelnut": 0.973, "screw": 0.863, "transistor": 0.955, "tile": 0.934,
                "mean": 0.952,
            },
            "PaDiM, PatchCore (ImageNet-pretrained features)": {"mean": "0.95 to 0.99"},
        },
        looked_at=("bottle", "pill", "magnetic_tile256", "hazelnut_small256"),
        category=True,
    ),
    "npz": Protocol(("0",)),
}  # fmt: skip


def run(
    name: str,
    out: str | Path,
    *,
    source: str | None = None,
    cases: Sequence[str] = (),
    quick: bool = False,
    seed: int = 0,
    seeds: int = 1,
    data_dir: str | None = None,
    options: Sequence[str] = (),
) -> list[dict]:
    """Runs a protocol, case by case, and writes `out/table.csv` and `out/table.md`, of several seeds `out/spread.json`.

    A case that is done is not done again: its figures are in `out/<case>.json`, its run in `out/<case>`; those of
    further seeds are in `out/seed-<seed>`. One that was interrupted goes on where it stopped.

    Args:
        name: One of `PROTOCOLS`.
        out: Folder of the results.
        source: For `"mvtec"` a category folder, or a folder of them; for `"npz"` the file.
        cases: Only these; empty for all, of an `.npz` file for class 0.
        quick: Whether to train for a moment only, to see that everything works.
        seed: Seed of the split and of everything else.
        seeds: How many seeds, from `seed` on; tables then have means and standard deviations.
        data_dir: Folder of prepared TensorFlow Datasets.
        options: Further options of `anogan-tf train`.

    Returns:
        A dict for each case and seed.

    Raises:
        ValueError: For a protocol or a case that there is not, for images that cannot be tested on, or results of other
            settings in `out`.
        FileNotFoundError: If the source is missing.
    """
    protocol, sources, cases = _sources(name, source, tuple(cases))
    out = Path(out)
    report.check_writable(out)
    places = {seed: out} | {number: out / f"seed-{number}" for number in range(seed + 1, seed + seeds)}
    options = [*options, *(QUICK if quick else ())]
    commands = {
        place: {case: _command(protocol, case, sources[case], data_dir, number, options, place) for case in sources}
        for number, place in places.items()
    }
    rows = []
    for place in commands:
        for case in cases:
            rows.append(_case(case, place, commands[place][case]))
            _write_tables(out, name, protocol, [row for each in commands for row in _done(each, commands[each])])
    return rows


def _sources(name, source, cases):
    """The protocol, the source of each of its cases, and those that are run: `cases`, or all, of a file class 0."""
    if name not in PROTOCOLS:
        raise ValueError(f"There are the protocols {', '.join(PROTOCOLS)}. Received: {name}.")
    protocol = PROTOCOLS[name]
    if name in ("mvtec", "npz") and source is None:
        what = "folder of a category or of several" if protocol.category else "file"
        raise ValueError(f"The protocol {name} needs a {what}: anogan-tf benchmark {name} SOURCE.")
    if not protocol.category:
        known = dict.fromkeys(_classes(source, protocol.cases) if name == "npz" else protocol.cases, source or name)
    elif (Path(source) / "train").is_dir():
        known = {Path(source).resolve().name: source}
    else:
        known = {path.parent.name: str(path.parent) for path in sorted(Path(source).glob("*/train"))}
    cases = cases or (protocol.cases if name == "npz" else tuple(known))
    if not known:
        raise ValueError(
            f"{name} is of category folders, with train/good and test/CLASS in each, or of one of them. Received: "
            f"{source}, without any train."
        )
    missing = [case for case in cases if case not in known]
    if missing:
        raise ValueError(f"{name} has the cases {', '.join(known)}. Received: {', '.join(missing)}.")
    return protocol, known, cases


def _classes(path, default):
    """The classes that an `.npz` file has."""
    with opened_npz(path) as file:
        labels = [np.ravel(file[name]) for name in file.files if name.endswith("_labels")]
    return tuple(np.unique(np.concatenate(labels)).astype(str)) if labels else default


def _command(protocol, case, source, data_dir, seed, options, out):
    normal = [] if protocol.category else ["--normal", case]
    command = ["anogan-tf", "train", str(source), *normal, *(["--data-dir", str(data_dir)] if data_dir else [])]
    return shlex.join([*command, "--seed", str(seed), *options, "--out", str(out / _file_name(case))])


def _file_name(case):
    return case.replace("/", "-")


def _case(case, out, command):
    """The figures of one case, from its file if it is done."""
    place, file = out / _file_name(case), out / f"{_file_name(case)}.json"
    if file.is_file():
        row = json.loads(file.read_text())
        if row["command"] != command:
            raise ValueError(
                f"{file} was made by another command; name another folder.\n  there: {row['command']}\n"
                f"  now:   {command}"
            )
        return row
    settings = options.of_training(shlex.split(command)[2:])
    _check(settings)
    fresh = not (place / "run.json").exists()
    start = time.perf_counter()
    train.run(**settings)
    seconds = time.perf_counter() - start if fresh else None
    row = {"case": case, **_measure(place), "seconds_training": seconds}
    row |= {"command": command, "settings": read_run(place)["settings"]}
    report.write_json(file, row | {"versions": report.versions()})
    return json.loads(file.read_text())


def _check(settings):
    """Refuses what could be trained, but not measured afterwards."""
    if settings["patches"]:
        raise ValueError("A benchmark compares whole pictures with other methods: it has no --patches.")
    labels = load_splits(settings).samples.part("test").labels
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"A benchmark needs normal and anomalous images to test on. Received: {len(labels)} of "
            f"{settings['source']}, {np.count_nonzero(labels)} of them anomalous."
        )


def _done(out, commands):
    """The rows of all cases that are done, by the same commands."""
    files = {case: out / f"{_file_name(case)}.json" for case in commands}
    rows = {case: json.loads(file.read_text()) for case, file in files.items() if file.is_file()}
    return [row for case, row in rows.items() if row["command"] == commands[case]]


def _measure(place):
    """The figures of a run on its test images, and those of the baselines beside it."""
    settings = read_run(place)["settings"]
    scorer = load_run(place)
    networks = scoring.unwrapped(scorer)
    splits, is_around = load_splits(settings, networks.image_shape), scorer is not networks
    tested = load_splits(settings, scorer.image_shape) if is_around else splits
    result = scorer.test(tested.test, pictures=0)
    names = ("auroc", "average_precision", "accuracy", "balanced_accuracy", "alpha", "threshold", "n")
    figures = {name: getattr(result, name) for name in (*names, "pixel_auroc", "aupro", "seconds_per_image")}
    rows = list(scoring.image_rows(splits.test, splits.preprocessing.image_shape))
    images, labels = (np.array([row[name] for row in rows]) for name in ("image", "label"))
    masks = [row["mask"] for row in rows if "mask" in row]
    chosen = _stratified(splits.samples.part("test").classes)
    paper = _paper(networks)
    figures |= {"auroc_paper": _auroc(labels[chosen], paper, images[chosen]), "n_paper": len(chosen)}
    figures["baselines"], taken = {}, ("training_steps", "batch_size", "latent_dim")
    train = np.concatenate([batch["image"] for batch in splits.reference])
    for name, baseline in _baselines(*(settings[k] for k in taken)).items():
        maps = baseline(train, images)
        figures["baselines"][name] = {"auroc": float(roc_auc_score(labels, maps.mean(axis=(1, 2))))}
        if masks:
            smooth = scoring.smooth(maps, scorer.smoothing * max(maps.shape[1:]))
            figures["baselines"][name] |= metrics.pixel_metrics(
                masks, [smoothed for smoothed, image in zip(smooth, rows, strict=True) if "mask" in image]
            )
    if not is_around:  # local features are untrained themselves
        untrained = _untrained(scorer)
        untrained.fit_reference(splits.reference)
        figures["baselines"]["ours, untrained"] = {"auroc": _auroc(labels, untrained, images)}
    return figures


def _auroc(labels, scorer, images):
    return float(roc_auc_score(labels, scorer.score(images)["anomaly_score"]))


def _paper(scorer):
    """A scorer by the papers' A(x), with the same networks."""
    options = {**scorer.settings, "score": "paper"}
    return type(scorer)(scorer.gan, encoder=scorer.encoder, **options)


def _untrained(scorer):
    """A scorer by our own score, of networks that were never trained."""
    gan = type(scorer.gan).from_config(scorer.gan.get_config())
    return AnoGAN(gan, steps=0, score=scorer.score_kind, chunk=scorer.chunk)


def _baselines(steps, batch_size, latent_dim):
    """Functions of training and test images to anomaly maps, by name."""
    options = {"steps": steps, "batch_size": batch_size, "latent_dim": latent_dim}
    return {
        "mean image": baselines.mean_image,
        "PCA-32": baselines.pca,
        "5 nearest neighbours": baselines.nearest_neighbours,
        "auto-encoder": functools.partial(baselines.auto_encoder, **options),
        "Gaussian per position": baselines.position_gaussians,
    }


def _stratified(classes):
    """The places of at most `SEARCHED` test images, in order, each class with its share where all have several."""
    everything = np.arange(len(classes))
    if len(everything) <= SEARCHED:
        return everything
    _, counts = np.unique(classes, return_counts=True)
    by_class = classes if counts.min() > 1 else None
    chosen, _ = train_test_split(everything, train_size=SEARCHED, stratify=by_class, random_state=0)
    return np.sort(chosen)


def _write_tables(out, name, protocol, rows):
    """`table.csv`, a row a case and seed, `table.md`, a row a method, and of several seeds `spread.json`."""
    out.mkdir(parents=True, exist_ok=True)
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row))
    with atomic.replacing(out / "table.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(flat)
    with atomic.replacing(out / "table.md") as partial:
        partial.write_text(markdown(name, protocol, rows), encoding="utf-8")
    if len({row["settings"]["seed"] for row in rows}) > 1:
        report.write_json(out / "spread.json", spread(rows))


def spread(rows: list[dict]) -> dict[str, dict[str, dict]]:
    """Of each case and figure the values of all seeds, their mean and their standard deviation (None of one)."""
    found = {}
    for row in rows:
        of_case = found.setdefault(row["case"], {})
        for name, value in _flat(row).items():
            if isinstance(value, float) and name != "threshold":
                of_case.setdefault(name, {"seeds": [], "values": []})
                of_case[name]["seeds"].append(row["settings"]["seed"])
                of_case[name]["values"].append(value)
    for figures in found.values():
        for figure in figures.values():
            values = figure["values"]
            figure["mean"] = float(np.mean(values))
            figure["std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return found


def _flat(row):
    simple = {name: value for name, value in row.items() if not isinstance(value, dict)}
    others = {f"{name}: {what}": value for name, found in row["baselines"].items() for what, value in found.items()}
    return {"case": row["case"], "seed": row["settings"]["seed"]} | simple | others


def markdown(name: str, protocol: Protocol, rows: list[dict]) -> str:
    """The Markdown table of a protocol's rows, with the published figures; of several seeds mean ± deviation."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    seeds = sorted({row["settings"]["seed"] for row in rows})
    untuned = [case for case in cases if case not in protocol.looked_at]

    def by_case(figure):
        return {case: [figure(row) for row in rows if row["case"] == case] for case in cases}

    searched = "" if rows[0]["n_paper"] == rows[0]["n"] else f" ({rows[0]['n_paper']} of the test images)"
    methods = {"**anogan-tf**": by_case(lambda row: row["auroc"])}
    methods[f"A(x) alone{searched}"] = by_case(lambda row: row["auroc_paper"])
    for baseline in rows[0]["baselines"]:
        methods[baseline] = by_case(lambda row, baseline=baseline: row["baselines"][baseline]["auroc"])
    of_seeds = f" Mean ± standard deviation of the seeds {', '.join(map(str, seeds))}." if len(seeds) > 1 else ""
    lines = [
        f"Image AUROC, protocol `{name}`. Settings were chosen on {', '.join(protocol.looked_at) or 'none of these'}; "
        f"*untuned* is the mean over the others.{of_seeds}",
        "",
        _line(["normal", *cases, "mean", "untuned"]),
        _line(["---"] * (len(cases) + 3)),
    ]
    for method, figures in methods.items():
        lines.append(_line([method, *figures.values(), *(_means(figures, part) for part in (cases, untuned))]))
    all_cases = set(cases) == set(protocol.cases)
    for method, figures in protocol.published.items():
        if all_cases or any(case in figures for case in cases):
            mean = figures["mean"] if all_cases else None
            lines.append(_line([f"{method}, published", *(figures.get(case) for case in cases), mean, None]))
    lines += ["", _line(["normal", *cases]), _line(["---"] * (len(cases) + 1))]
    for figure in MEASURED:
        if any(row[figure] is not None for row in rows):
            measured = by_case(lambda row, figure=figure: row[figure])
            lines.append(_line([figure.replace("_", " "), *measured.values()]))
    for baseline in rows[0]["baselines"]:
        pixels = by_case(lambda row, baseline=baseline: row["baselines"][baseline].get("pixel_auroc"))
        if any(map(any, pixels.values())):
            lines.append(_line([f"pixel auroc of {baseline}", *pixels.values()]))
    lines += ["", "Seconds per image are without the search, where that only draws."]
    if protocol.published and not all_cases and set(cases) & set(protocol.cases):
        published = "; ".join(f"{method} {_cell(found['mean'])}" for method, found in protocol.published.items())
        lines.append(f"Published means over all {len(protocol.cases)} cases: {published}.")
    return "\n".join([*lines, "", "Each case: `" + rows[0]["command"] + "`", ""])


def _means(figures, cases):
    """The mean over cases for each seed that all of them have, in turn."""
    return [float(np.mean(values)) for values in zip(*(figures[case] for case in cases), strict=False)]


def _line(cells):
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value):
    """A text as it is; a figure, or of one figure a seed mean ± standard deviation."""
    if isinstance(value, str):
        return value
    values = [figure for figure in np.atleast_1d(np.array(value, object)) if figure is not None]
    if not values:
        return "–"
    digits = 3 if np.mean(values) < 10 else 0
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"
