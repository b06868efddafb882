"""A results folder: CSV, JSON, pictures, figures, and one HTML page that opens from disk."""

import base64
import importlib.metadata
import io
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from anogan_tf import atomic, plots, stages, table, written
from anogan_tf.metrics import region_mask, resize_map

PACKAGES = ("anogan-tf", "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pillow")
DPI = 80
LISTED = 1000
PAGE = ("index.html", "metrics.json", "histogram.png")
PREDICTOR = {317: 3}  # TIFF tag: floats as differences, which makes a smooth map seven times smaller


def write(
    folder: str | Path,
    results: Sequence[dict],
    regions: Sequence[list[dict]],
    drawn: dict[int, dict],
    metrics: dict,
    pixel_threshold: float | None = None,
    skipped: Sequence[tuple[str, str]] = (),
    figures: dict[str, Figure] | None = None,
    masks: bool = False,
) -> None:
    """Writes a results folder: a `table.ScoreTable` of all results, and what `show` makes of it.

    Args:
        folder: Path; made where it is missing.
        results: A dict an image, with the `table.COLUMNS`.
        regions: For each image a list of regions, see `metrics.regions`.
        drawn: The images to draw, see `show`, by their numbers from 1.
        metrics: As in `show`.
        pixel_threshold: As in `show`.
        skipped: Pairs of the id of an image that could not be read, and why; they get a row without a score.
        figures: As in `show`.
        masks: As in `show`.

    Raises:
        OSError: If the folder cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with table.ScoreTable(folder) as scored:
        scored.add(results, regions)
        scored.finish(skipped)
    pairs = (({**results[number - 1], "number": number}, image) for number, image in drawn.items())
    show(folder, pairs, metrics, pixel_threshold, skipped, figures, masks)


@stages.stage("Writing")
def show(
    folder: str | Path,
    drawn: Iterable[tuple[dict, dict]],
    metrics: dict,
    pixel_threshold: float | None = None,
    skipped: Sequence[tuple[str, str]] = (),
    figures: dict[str, Figure] | None = None,
    masks: bool = False,
    of: dict[str, Any] | None = None,
    kept: Sequence[dict] | None = None,
) -> None:
    """Shows a finished table in its folder, in place of what an earlier report wrote there, see `written`.

    `metrics.json`, `test_image_NNN.png` and `anomaly_map_NNN.tiff` (the NNN-th row of `scores.csv`), `histogram.png`,
    `roc.png`, the other figures, and `index.html`, which shows them and the most anomalous images.

    Args:
        folder: A folder with `scores.csv` and `regions.json`.
        drawn: Pairs of a row, see `table.scored_rows`, and what to draw of it: a dict of `image`, `reconstruction`,
            `anomaly_map`, and, where known, `size`, the `(height, width)` in whose pixels the regions are, and
            `picture`, a function that reads the picture itself, `(height, width, channels)` in [-1, 1], when its turn
            comes; where the table lacks them also `regions`, with R and D in the row.
        metrics: What goes into `metrics.json`.
        pixel_threshold: What the drawn part of a map exceeds; None to draw all of it.
        skipped: Pairs of the id of an image that could not be read, and why.
        figures: Further figures, by their names.
        masks: Whether to write the pixels of each image's regions as `mask_NNN.png`, 255 inside, of the map's size.
        of: Where the table has only the most anomalous of more images, how many these are, `total`, `anomalous` and
            `suspicious`, and the `table` that has all; None where it has all itself.
        kept: Rows, see `table.scored_rows`, whose pictures are there already: these stay, and so does the page until
            the new one is there. None for a report that is all new.
    """
    folder = Path(folder)
    written.remove(folder, keep=[*table.FILES, *_staying(kept)])
    written.add(folder, "metrics.json", "index.html")
    write_json(folder / "metrics.json", metrics)
    regions = json.loads((folder / "regions.json").read_text())
    listed = {row["number"]: row for row in table.most_anomalous(folder, LISTED)}
    listed |= {row["number"]: {**row, **_files(row["number"])} for row in kept or ()}
    found = {}
    for row, image in drawn:
        if "regions" in image:
            regions[table.text(row["id"])] = image.pop("regions")
            found[table.text(row["id"])] = {name: row[name] for name in ("residual", "discrimination")}
        options = {"pixel_threshold": pixel_threshold, "title": _title(row, metrics)}
        own = regions.get(table.text(row["id"]), ())
        _draw(folder, row["number"], **image, boxes=[region["box"] for region in own], **options)
        if masks and pixel_threshold is not None:
            _write_mask(folder, row["number"], own, pixel_threshold)
        listed[row["number"]] = {**row, **_files(row["number"])}
    if found:
        table.amend(folder, found, {name: few for name, few in regions.items() if few})
    rows = [(row["anomaly_score"], row["prediction"], row["label"]) for row in table.scored_rows(folder)]
    scores, predictions, labels = zip(*rows, strict=True)
    figures = _figures(scores, labels, metrics["threshold"]) | (figures or {})
    for name, figure in figures.items():
        written.add(folder, f"{name}.png")
        figure.savefig(folder / f"{name}.png", dpi=DPI)
    images = [{**row, "regions": regions.get(table.text(row["id"]), ())} for row in listed.values()]
    images.sort(key=lambda image: -image["anomaly_score"])
    suspicious = sum(row["decision"] == "suspicious" for row in table.scored_rows(folder))
    here = {"total": len(rows), "anomalous": sum(predictions), "suspicious": suspicious, "table": "scores.csv"}
    pictures = sorted(f"{name}.png" for name in figures)
    page = _template("report.html").render(
        figures=pictures, images=images, metrics=metrics, skipped=skipped, **(of or here)
    )
    _write_text(folder / "index.html", page)


def result_html(results: Sequence[dict], drawn: dict[int, dict], metrics: dict) -> str:
    """A result as a piece of HTML that needs no files: its figures, and a strip of images.

    Args:
        results: As in `write`.
        drawn: The images of the strip, as in `write`.
        metrics: As in `write`.
    """
    images, reconstructed = ([image[name] for image in drawn.values()] for name in ("image", "reconstruction"))
    scores, labels = ([result[name] for result in results] for name in ("anomaly_score", "label"))
    titles = [f"{scores[number - 1]:.3g}" for number in drawn]
    figures = _figures(scores, labels, metrics["threshold"])
    if drawn:
        figures["strip"] = plots.reconstructions(images, reconstructed, titles)
    embedded = {name: _embedded(figure) for name, figure in figures.items()}
    return _template("result.html").render(
        embedded=embedded, metrics=metrics, drawn=[results[number - 1] for number in drawn]
    )


def check(folder: str | Path, *figures: str) -> None:
    """Raises an OSError if a report, with more figures, could not be written, or would replace files of others."""
    check_writable(folder)
    written.check(folder, *(f"{name}.png" for name in figures))


def check_writable(folder: str | Path) -> None:
    """Raises an OSError if files could not be written into a folder, which need not exist yet and is not made."""
    folder = Path(folder).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not nearest.is_dir():
        raise NotADirectoryError(f"Cannot write into {folder}: {nearest} is a file. Name another folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"Cannot write into {folder}: {nearest} may not be written to. Name another folder.")


def write_json(path: str | Path, content: dict) -> None:
    """Writes JSON beside the file and moves it into place; numbers that JSON has not, as NaN, become null."""
    _write_text(path, json.dumps(_valid(content), indent=2, default=str, allow_nan=False) + "\n")


def versions() -> dict[str, str | None]:
    """Versions of Python, this package and those that its numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def picture_name(number: int) -> str:
    """The file that shows the `number`-th image, counted from 1."""
    return f"test_image_{number:03d}.png"


def map_name(number: int) -> str:
    """The file that holds the map of the `number`-th image."""
    return f"anomaly_map_{number:03d}.tiff"


def mask_name(number: int) -> str:
    """The file that holds the regions' pixels of the `number`-th image."""
    return f"mask_{number:03d}.png"


def drawn_names(number: int) -> tuple[str, str, str]:
    """All files that may be made of the `number`-th image."""
    return picture_name(number), map_name(number), mask_name(number)


def _staying(kept):
    """The files that stay while a report is written, of those that an earlier one wrote."""
    if kept is None:
        return ()
    return (*PAGE, *(name for row in kept for name in drawn_names(row["number"])))


def _files(number):
    return {"picture": picture_name(number), "map": map_name(number)}


def _draw(folder, number, image, reconstruction, anomaly_map, size=None, picture=None, **options):
    anomaly_map = resize_map(anomaly_map, size)
    written.add(folder, map_name(number), picture_name(number))
    Image.fromarray(anomaly_map).save(folder / map_name(number), compression="tiff_adobe_deflate", tiffinfo=PREDICTOR)
    figure = plots.result(image, reconstruction, anomaly_map, picture=picture and picture(), **options)
    with atomic.replacing(folder / picture_name(number)) as partial:
        figure.savefig(partial, dpi=DPI)


def _write_mask(folder, number, regions, pixel_threshold):
    with Image.open(folder / map_name(number)) as anomaly_map:
        mask = region_mask(np.asarray(anomaly_map), regions, pixel_threshold)
    written.add(folder, mask_name(number))
    with atomic.replacing(folder / mask_name(number)) as partial:
        Image.fromarray(np.uint8(255) * mask).save(partial)


def _figures(scores, labels, threshold):
    if None in labels:
        return {"histogram": plots.histogram(scores, threshold)}
    both = {"roc": plots.roc(labels, scores)} if len(set(labels)) == 2 else {}
    return {"histogram": plots.histogram(scores, threshold, labels), **both}


def _title(result, metrics):
    decision = result.get("decision") or ("anomalous" if result["prediction"] else "normal")
    truth = "" if result["label"] is None else f", labelled {'anomalous' if result['label'] else 'normal'}"
    p_value = "" if result["p_value"] is None else f", p = {result['p_value']:.3g}"
    name = table.text(result["id"]).replace("$", r"\$")
    score = f"score {result['anomaly_score']:.4g} (threshold {metrics['threshold']:.4g}{p_value})"
    return f"{name}: {score}: {decision}{truth}"


def _template(name):
    environment = jinja2.Environment(loader=jinja2.PackageLoader("anogan_tf"), autoescape=True, trim_blocks=True)
    return environment.get_template(name)


def _embedded(figure):
    """A figure as the address of an image that holds it."""
    content = io.BytesIO()
    figure.savefig(content, dpi=DPI)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _write_text(path, text):
    with atomic.replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _valid(value):
    """A value as JSON takes it: NumPy's as Python's, what is not finite as None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _valid(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
