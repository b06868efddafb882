"""Scores images with a run."""

import hashlib
import os
from pathlib import Path

from anogan_tf import atomic, data, judging, published, report, table
from anogan_tf.commands.settings import preprocessing_of
from anogan_tf.runs import load_run, read_run


def run(run, paths, out, *, pictures=100):
    """Scores image files, and folders of them; a file that cannot be read is reported, and the others are scored.

    Interrupted, it goes on where it stopped, if neither the run nor a file has changed.

    Returns:
        The folder of the results.
    """
    report.check_writable(out)
    description = read_run(run)
    scorer = load_run(run)
    files, preprocessing, skipped = data.list_files(paths), preprocessing_of(description), []
    try:
        with atomic.exclusive(out), table.ScoreTable(out, _key(run, files)) as rows:
            left = (file for file in files if table.text(file) not in rows.ids)
            for results, regions in judging.decided_chunks(scorer, _batches(left, preprocessing, scorer, skipped)):
                rows.add(results, regions)
            if not rows.ids:
                raise ValueError("There are no images to score.")
            rows.finish(skipped)
            _show_scores(run, scorer, out, files, preprocessing, skipped, pictures)
    finally:
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
    return Path(out)


def _show_scores(run, scorer, out, files, preprocessing, skipped, pictures):
    """The report of a finished table; the most anomalous pictures are read once more and reconstructed."""
    for name in ("mapping_loss.png", "search_path.png"):  # of an earlier test into the same folder
        (Path(out) / name).unlink(missing_ok=True)
    predictions = [row["prediction"] for row in table.scored_rows(out)]
    rows = {row["id"]: row for row in table.most_anomalous(out, pictures)}
    files = [file for file in files if table.text(file) in rows]
    drawn_images = judging.drawn_images(scorer, _batches(files, preprocessing, scorer, []))
    drawn = ((rows[table.text(name)] | scores, image) for name, scores, image in drawn_images)
    figures = {
        "threshold": scorer.calibration.threshold,
        "threshold_method": "conformal",
        "alpha": scorer.calibration.attained_alpha,
        "n": len(predictions),
        "skipped": len(skipped),
        "run": str(run),
        **judging.provenance(scorer),
    }
    report.show(out, drawn, figures, figures["pixel_threshold"], skipped)
    print(f"{sum(predictions)} of {len(predictions)} images look anomalous. Open {Path(out) / 'index.html'}.")


def _batches(files, preprocessing, scorer, skipped):
    return data.read_files(files, preprocessing, scorer.chunk, skipped)


def _key(run, files):
    """A hash of a run and of files by name, size and time, by which a table is gone on with."""
    digest = hashlib.sha256((published.find(run) / "run.json").read_bytes())
    for file in files:
        status = os.stat(file)
        digest.update(repr((os.path.abspath(file), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]
