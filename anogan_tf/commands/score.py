"""Judges images, whose labels nobody knows, with a run."""

import collections
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from anogan_tf import atomic, data, judging, page, published, report, table
from anogan_tf.commands.seen import Looks
from anogan_tf.commands.settings import at_rate, check_apart, pattern_of
from anogan_tf.data import images
from anogan_tf.runs import load_run, preprocessing_of, read_run


def run(
    run: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    alpha: float | None = None,
    threshold: float | None = None,
    masks: bool = False,
    pictures: int = 100,
    pattern: str | None = None,
) -> Path:
    """Judges image files, and folders of them; a file that cannot be read is reported, and the others are judged.

    Interrupted, it goes on where it stopped, if neither the run nor a file has changed. Files that were judged by the
    same run into the same folder before, and did not change, are not scored again.

    Args:
        run: The folder of a run, or the name of a published one.
        paths: Files, and folders, of which the files named as in the training are taken.
        out: Folder of the results.
        alpha: Another rate of false alarms than the run's; None for that.
        threshold: A number in place of the calibrated threshold; None for that.
        masks: Whether to write the pixels of regions as PNG files.
        pictures: Images to draw at most, the most anomalous first.
        pattern: Which files of a folder are taken; None for the pattern of the training.

    Returns:
        The folder of the results.

    Raises:
        ValueError: If there are no images to score, or `out` lies among them.
        OSError: If `out` cannot be written into, or holds files that no report wrote.
    """
    check_apart(out, *paths)
    report.check(out)
    description = read_run(run)
    scorer = at_rate(load_run(run), alpha, threshold)
    files, skipped, looks = data.list_files(paths, pattern_of(description, pattern)), [], Looks()

    def batches(files, skipped):
        return data.read_files(files, preprocessing_of(description), scorer.chunk, skipped)

    stamps = _stamps(run, files, alpha, threshold)
    try:
        with atomic.exclusive(out), table.ScoreTable(out, _key(stamps)) as scored:
            if not scored.ids:
                scored.add(*table.unchanged(out, stamps))
                if scored.ids:
                    print(f"{len(scored.ids)} of {len(files)} images were judged before, and did not change.")
            left = (file for file in files if table.text(file) not in scored.ids)
            for results, regions in judging.judged_chunks(scorer, looks.watch(batches(left, skipped)), threshold):
                scored.add(results, regions)
            if not scored.ids:
                raise ValueError("There are no images to score.")
            scored.finish(skipped, stamps)
            drawn = {row["id"]: row for row in table.most_anomalous(out, pictures)}
            again = batches([file for file in files if table.text(file) in drawn], [])  # no maps were kept
            by_name = {table.text(file): file for file in files}
            small = functools.partial(_thumbnail, by_name, preprocessing_of(description))
            _show(run, scorer, out, _drawn(scorer, again, drawn), skipped, threshold, masks, small)
    finally:
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
    if found := looks.unlike(description.get("looks", {})):
        print(f"Mind: {found}")
    return Path(out)


def _drawn(scorer, batches, rows):
    """Pairs of a row of the table and what is drawn of it, with the regions that its decision shows."""
    for name, scores, image in judging.drawn_images(scorer, batches):
        row = rows[table.text(name)] | scores
        yield row, image | {"regions": judging.outlined(image["regions"], row["prediction"])}


def _thumbnail(files, preprocessing, row):
    """The thumbnail of a row that was not drawn, of its file; None if that is gone."""
    options = {"crop": preprocessing.crop, "bits": preprocessing.bits}
    try:
        return page.thumbnail(images.small(files[row["id"]], page.THUMBNAIL, **options))
    except ValueError:
        return None


def _show(run, scorer, out, pictures, skipped, threshold, masks, thumbnails):
    """The report of a finished table."""
    decisions = collections.Counter(row["decision"] for row in table.scored_rows(out))
    n, given = decisions.total(), threshold is not None
    figures = {
        "threshold": threshold if given else scorer.calibration.threshold,
        "threshold_method": "given" if given else "conformal",
        "alpha": None if given else scorer.calibration.attained_alpha,
        "n": n,
        "skipped": len(skipped),
        "run": str(run),
        **judging.provenance(scorer),
    }
    more = {"masks": masks, "thumbnails": thumbnails, "normal_scores": scorer.calibration.scores}
    report.show(out, pictures, figures, figures["pixel_threshold"], skipped, **more)
    suspicious = f" ({decisions['suspicious']} of them are suspicious)" if decisions["suspicious"] else ""
    alarms = n - decisions["normal"]
    print(f"{alarms} of {n} images look anomalous{suspicious}. Open {Path(out) / 'index.html'}.")


def _stamps(run, files, alpha, threshold):
    """For each file a hash of it, by name, size and time, of the run, and of how is decided."""
    common = hashlib.sha256((published.find(run) / "run.json").read_bytes())
    common.update(repr((alpha, threshold, table.COLUMNS)).encode())
    stamps = {}
    for file in files:
        status, digest = os.stat(file), common.copy()
        digest.update(repr((os.path.abspath(file), status.st_size, status.st_mtime_ns)).encode())
        stamps[table.text(file)] = digest.hexdigest()[:16]
    return stamps


def _key(stamps):
    """By which a table is gone on with: of all that is judged."""
    return hashlib.sha256("".join(stamps.values()).encode()).hexdigest()[:16]
