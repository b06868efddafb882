"""The page of a results folder, `index.html`, in which one works, and the small pictures beside it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import contourpy
import jinja2
import markupsafe
import numpy as np
from PIL import Image

from anogan_tf import look, thresholds, written

LISTED = 10_000  # pictures on the page
THUMBNAIL = 160  # pixels of the longer side
MAP = 256
OUTLINED = 128  # pixels of the longer side of the map that regions are outlined in
REGIONS = 5  # of a picture that are listed
LAYERS = ("picture", "heat", "reconstruction", "difference")
SMALL = 64  # pixels, up to which a picture is seen dot by dot
COLUMNS = ("number", "id", "anomaly_score", "p_value", "decision", "label", "has_thumbnail", "regions")


def thumbnail(image: np.ndarray) -> bytes:
    """A JPEG of at most `THUMBNAIL` pixels a side, of an image `(height, width, 1 or 3)` in [-1, 1]."""
    picture = _picture(look.shown(image))
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return _jpeg(picture)


def thumbnail_name(number: int) -> str:
    """The file, from the results folder, that shows the `number`-th image small."""
    return f"{written.FOLDER}/thumbnail_{number:03d}.jpg"


def is_thumbnail(name: str) -> bool:
    """Whether a file, from the results folder, is a `thumbnail_name`."""
    return name.startswith(f"{written.FOLDER}/thumbnail_")


def layer_names(number: int) -> list[str]:
    """The files, from the results folder, that show the `number`-th image large, each over the other."""
    return [f"{written.FOLDER}/{name}_{number:03d}.{'webp' if name == 'heat' else 'jpg'}" for name in LAYERS]


def layers(
    image: np.ndarray,
    reconstruction: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    picture: np.ndarray | None = None,
    pixel_threshold: float | None = None,
) -> list[bytes]:
    """What the page shows of a picture that was drawn, as files: the `LAYERS`. All as in `plots.result`."""
    heat = look.in_bytes(look.heat(look.resized(anomaly_map, MAP), pixel_threshold))
    content = io.BytesIO()
    Image.fromarray(heat).save(content, "WEBP", quality=80, method=1)
    queries = _picture(look.shown(image if picture is None else picture)), _picture(look.shown(reconstruction))
    query, drawn, difference = map(_jpeg, (*queries, _picture(look.difference(image, reconstruction))))
    return [query, content.getvalue(), drawn, difference]


def outline(anomaly_map: np.ndarray, pixel_threshold: float | None) -> str:
    """Where the map exceeds the pixel threshold, as a path of SVG in a picture of width 1000 and height 1000."""
    if pixel_threshold is None:
        return ""
    values = look.resized(anomaly_map, OUTLINED)
    scale = 1000.0 / np.array(values.shape[::-1])
    values = np.pad(np.pad(values, 1, "edge"), 1, constant_values=values.min() - 1.0)  # lines close beyond the edges
    lines = contourpy.contour_generator(z=values).lines(pixel_threshold)
    return "".join(_path(np.clip((line - 1.5) * scale, 0, 1000)) for line in lines)


def render(
    rows: Iterable[dict],
    drawn: dict[int, dict],
    metrics: dict,
    *,
    counts: dict[str, int],
    thumbnails: Iterable[int] = (),
    normal_scores: Sequence[float] = (),
    figures: Sequence[str] = (),
    skipped: Sequence[tuple[str, str]] = (),
) -> str:
    """The page.

    Args:
        rows: The most anomalous images first, with the columns of `table.scored_rows` and their `regions`.
        drawn: What was drawn of images, by their numbers: `size`, the `(height, width)` in whose pixels regions are,
            and the `outline` of these.
        metrics: What `metrics.json` holds; its numbers are finite or None.
        counts: How many images there are in all, `total`, and how many with each decision.
        thumbnails: The numbers of images with a thumbnail.
        normal_scores: Scores of the normal images that the threshold was set on.
        figures: Names of pictures in the folder.
        skipped: Pairs of the id of an image that could not be read, and why.
    """
    known = set(thumbnails)
    content = {
        "columns": COLUMNS,
        "rows": [_row(row, known) for row in rows],
        "drawn": drawn,
        "total": counts["total"],
        "threshold": metrics["threshold"],
        "strict": metrics.get("strict_threshold"),
        "stricter": thresholds.STRICTER,
        "promised": "about" if (metrics.get("calibration") or {}).get("method") == "cross" else "at most",
        "normal_scores": sorted(normal_scores),
    }
    sources = {name: _source(f"page.{name}") for name in ("css", "js")}
    hashes = {name: _hash(source) for name, source in sources.items()}
    options = {"counts": counts, "metrics": metrics, "figures": figures, "skipped": skipped, "content": content}
    return template("page.html").render(**options, **sources, hashes=hashes, listed=len(content["rows"]))


def template(name: str) -> jinja2.Template:
    """One of the templates; what is put into it is escaped."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("anogan_tf"), autoescape=True, trim_blocks=True)
    return environment.get_template(name)


def _row(row, with_thumbnail):
    regions = [[*region["box"], region["area"], region["peak"], "level" in region] for region in row["regions"]]
    decision = row["decision"] or ("anomalous" if row["prediction"] else "normal")
    values = [row[name] for name in ("number", "id", "anomaly_score", "p_value")]
    return [*values, decision, row["label"], int(row["number"] in with_thumbnail), regions[:REGIONS]]


def _source(name):
    """A file beside the templates, as it is."""
    return markupsafe.Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _hash(source):
    """What a page's policy names a piece of it by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(source).encode()).digest()).decode()


def _picture(colours):
    return Image.fromarray(look.in_bytes(colours))


def _jpeg(picture):
    content = io.BytesIO()
    quality: dict[str, Any] = {"quality": 95, "subsampling": 0} if max(picture.size) <= SMALL else {"quality": 85}
    picture.save(content, "JPEG", **quality)
    return content.getvalue()


def _path(points):
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points) + "Z"
