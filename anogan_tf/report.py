"""A results folder: CSV, JSON, pictures, figures, and one HTML page that opens from disk."""

import base64
import collections
import importlib.metadata
import io
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from anogan_tf import atomic, page, panels, plots, stages, table, thresholds, written
from anogan_tf.metrics import region_mask, resize_map

PACKAGES = ("anogan-tf", "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pillow")
DPI = 80
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
    *,
    thumbnails: Callable[[dict], bytes | None] | None = None,
    normal_scores: Sequence[float] = (),
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
        thumbnails: As in `show`.
        normal_scores: As in `show`.

    Raises:
        OSError: If the folder cannot be written.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with table.ScoreTable(folder) as scored:
        scored.add(results, regions)
        scored.finish(skipped)
    pairs = (({**results[number - 1], "number": number}, image) for number, image in drawn.items())
    more = {"thumbnails": thumbnails, "normal_scores": normal_scores}
    show(folder, pairs, metrics, pixel_threshold, skipped, figures, masks, **more)


@stages.stage("Writing")
def show(
    folder: str | Path,
    drawn: Iterable[tuple[dict, dict]],
    metrics: dict,
    pixel_threshold: float | None = None,
    skipped: Sequence[tuple[str, str]] = (),
    figures: dict[str, Figure] | None = None,
    masks: bool = False,
    *,
    thumbnails: Callable[[dict], bytes | None] | None = None,
    normal_scores: Sequence[float] = (),
    of: dict[str, Any] | None = None,
    kept: Sequence[dict] | None = None,
) -> None:
    """Shows a finished table in its folder, in place of what an earlier report wrote there, see `written`.

    `metrics.json`, `test_image_NNN.png` and `anomaly_map_NNN.tiff` (the NNN-th row of `scores.csv`), `histogram.png`,
    `roc.png`, the other figures, and `index.html`, the page, which shows them and the most anomalous images, with its
    own small pictures in the folder `page`.

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
        thumbnails: From a row that is on the page and was not drawn to its `page.thumbnail`, or None.
        normal_scores: Scores of the normal images that the threshold was set on, which the page shows beside.
        of: Where the table has only the most anomalous of more images, how many these are, `total`, and how many have
            each decision, and the `table` that has all; None where it has all itself.
        kept: Rows, see `table.scored_rows`, whose pictures are there already: these stay, with all thumbnails, and so
            does the page until the new one is there. None for a report that is all new.
    """
    folder = Path(folder)
    staying = _staying(folder, kept)
    written.remove(folder, keep=[*table.FILES, *staying])
    written.add(folder, "metrics.json", "index.html")
    write_json(folder / "metrics.json", metrics)
    regions = json.loads((folder / "regions.json").read_text())
    large, found = {row["number"]: _known(folder, row["number"], pixel_threshold) for row in kept or ()}, {}
    for row, image in drawn:
        if "regions" in image:
            regions[table.text(row["id"])] = image.pop("regions")
            found[table.text(row["id"])] = {name: row[name] for name in ("residual", "discrimination")}
        own = regions.get(table.text(row["id"]), ())
        options = {"pixel_threshold": pixel_threshold, "title": _title(row, metrics)}
        large[row["number"]] = _draw(folder, row["number"], **image, regions=own, **options)
        if masks and pixel_threshold is not None:
            _write_mask(folder, row["number"], own, pixel_threshold)
    if found:
        table.amend(folder, found, {name: few for name, few in regions.items() if few})
    rows = [(row["anomaly_score"], row["label"]) for row in table.scored_rows(folder)]
    scores, labels = zip(*rows, strict=True)
    figures = _figures(scores, labels, metrics["threshold"]) | (figures or {})
    for name, figure in figures.items():
        written.add(folder, f"{name}.png")
        figure.savefig(folder / f"{name}.png", dpi=DPI)
    listed = table.most_anomalous(folder, max(page.LISTED, len(large)))
    small = _thumbnails(folder, [row for row in listed if row["number"] not in large], thumbnails, staying)
    here = {"total": len(rows), "table": "scores.csv"} | _decisions(folder)
    content = page.render(
        [{**row, "regions": regions.get(row["id"], ())} for row in listed],
        large,
        _valid(metrics),
        counts=dict.fromkeys(thresholds.DECISIONS, 0) | (of or here),
        thumbnails=[*large, *small],
        normal_scores=normal_scores,
        figures=sorted(f"{name}.png" for name in figures),
        skipped=[(table.text(name), reason) for name, reason in skipped],
    )
    _write_text(folder / "index.html", content)


def read(folder: str | Path) -> dict:
    """All that a results folder tells: what is in `metrics.json`, and `results`, the rows with their `regions`.

    In `errors` is what could not be read: dicts with `id` and `error`.
    """
    folder = Path(folder)
    regions = json.loads((folder / "regions.json").read_text(encoding="utf-8"))
    results = [{**row, "regions": regions.get(row["id"], [])} for row in table.scored_rows(folder)]
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8")) | {
        "folder": str(folder),
        "results": results,
        "errors": [{"id": name, "error": reason} for name, reason in table.skipped_rows(folder)],
    }


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
    return page.template("result.html").render(
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


def drawn_names(number: int) -> tuple[str, ...]:
    """All files that may be made of the `number`-th image, that of its regions' pixels last."""
    small = (*page.layer_names(number), page.thumbnail_name(number))
    return picture_name(number), map_name(number), *small, mask_name(number)


def _staying(folder, kept):
    """The files that stay while a report is written, of those that an earlier one wrote."""
    if kept is None:
        return set()
    thumbnails = {name for name in written.listed(folder) if page.is_thumbnail(name)}
    return {*PAGE, *thumbnails, *(name for row in kept for name in drawn_names(row["number"]))}


def _known(folder, number, pixel_threshold):
    """What `_draw` returned of an image that was drawn before."""
    with Image.open(folder / map_name(number)) as file:
        anomaly_map = np.asarray(file)
    return {"size": anomaly_map.shape, "outline": page.outline(anomaly_map, pixel_threshold)}


def _decisions(folder):
    """How many images have each decision."""
    rows = table.scored_rows(folder)
    return collections.Counter(row["decision"] or ("anomalous" if row["prediction"] else "normal") for row in rows)


def _draw(folder, number, image, reconstruction, anomaly_map, regions, size=None, picture=None, **options):
    """Writes the files of an image, and returns what the page has to know of them."""
    anomaly_map, threshold = resize_map(anomaly_map, size), options["pixel_threshold"]
    layers, small = page.layer_names(number), page.thumbnail_name(number)
    written.add(folder, map_name(number), picture_name(number), *layers, small)
    Image.fromarray(anomaly_map).save(folder / map_name(number), compression="tiff_adobe_deflate", tiffinfo=PREDICTOR)
    seen = {
        "image": image,
        "reconstruction": reconstruction,
        "anomaly_map": anomaly_map,
        "picture": picture and picture(),
    }
    boxes = [region["box"] for region in regions]
    panels.drawn(**seen, boxes=boxes, **options).save(folder / picture_name(number), compress_level=1)  # as fast again
    (folder / written.FOLDER).mkdir(exist_ok=True)
    for name, content in zip(layers, page.layers(**seen, pixel_threshold=threshold), strict=True):
        (folder / name).write_bytes(content)
    (folder / small).write_bytes(page.thumbnail(image if seen["picture"] is None else seen["picture"]))
    return {"size": anomaly_map.shape, "outline": page.outline(anomaly_map, threshold)}


def _thumbnails(folder, rows, thumbnails, staying):
    """Writes the thumbnails of rows, but those that stay, and returns the numbers of those that have one."""
    if not rows or thumbnails is None:
        return []
    (folder / written.FOLDER).mkdir(exist_ok=True)
    names = {row["number"]: page.thumbnail_name(row["number"]) for row in rows}
    written.add(folder, *names.values())
    made = []
    for row in rows:
        file = folder / names[row["number"]]
        if names[row["number"]] in staying and file.is_file():
            made.append(row["number"])
        elif content := thumbnails(row):
            file.write_bytes(content)
            made.append(row["number"])
    return made


def _write_mask(folder, number, regions, pixel_threshold):
    with Image.open(folder / map_name(number)) as anomaly_map:
        mask = region_mask(np.asarray(anomaly_map), regions, pixel_threshold)
    written.add(folder, mask_name(number))
    Image.fromarray(np.uint8(255) * mask).save(folder / mask_name(number))


def _figures(scores, labels, threshold):
    if None in labels:
        return {"histogram": plots.histogram(scores, threshold)}
    both = {"roc": plots.roc(labels, scores)} if len(set(labels)) == 2 else {}
    return {"histogram": plots.histogram(scores, threshold, labels), **both}


def _title(result, metrics):
    decision = result.get("decision") or ("anomalous" if result["prediction"] else "normal")
    truth = "" if result["label"] is None else f", labelled {'anomalous' if result['label'] else 'normal'}"
    p_value = "" if result["p_value"] is None else f", p = {result['p_value']:.3g}"
    name = table.text(result["id"])
    score = f"score {result['anomaly_score']:.4g} (threshold {metrics['threshold']:.4g}{p_value})"
    return f"{name}: {score}: {decision}{truth}"


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
