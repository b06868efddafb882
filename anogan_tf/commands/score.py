"""Judges images, whose labels nobody knows, with a run."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from anogan_tf import atomic, data, judging, published, report, table
from anogan_tf.commands.seen import Looks
from anogan_tf.commands.settings import check_apart, pattern_of, preprocessing_of
from anogan_tf.runs import load_run, read_run


def run(
    run: str | Path, paths: Sequence[str | Path], out: str | Path, *, pictures: int = 100, pattern: str | None = None
) -> Path:
    """Judges image files, and folders of them; a file that cannot be read is reported, and the others are judged.

    Interrupted, it goes on where it stopped, if neither the run nor a file has changed.

    Args:
        run: The folder of a run, or the name of a published one.
        paths: Files, and folders, of which the files named as in the training are taken.
        out: Folder of the results.
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
    scorer = load_run(run)
    files, skipped, looks = data.list_files(paths, pattern_of(description, pattern)), [], Looks()

    def batches(files, skipped):
        return data.read_files(files, preprocessing_of(description), scorer.chunk, skipped)

    try:
        with atomic.exclusive(out), table.ScoreTable(out, _key(run, files)) as scored:
            left = (file for file in files if table.text(file) not in scored.ids)
            for results, regions in judging.judged_chunks(scorer, looks.watch(batches(left, skipped))):
                scored.add(results, regions)
            if not scored.ids:
                raise ValueError("There are no images to score.")
            scored.finish(skipped)
            drawn = {row["id"]: row for row in table.most_anomalous(out, pictures)}
            again = batches([file for file in files if table.text(file) in drawn], [])  # no maps were kept
            images = (
                (drawn[table.text(name)] | scores, image) for name, scores, image in judging.drawn_images(scorer, again)
            )
            _show(run, scorer, out, images, skipped)
    finally:
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
    if found := looks.unlike(description.get("looks", {})):
        print(f"Mind: {found}")
    return Path(out)


def _show(run, scorer, out, images, skipped):
    """The report of a finished table."""
    predictions = [row["prediction"] for row in table.scored_rows(out)]
    figures = {
        "threshold": scorer.calibration.threshold,
        "threshold_method": "conformal",
        "alpha": scorer.calibration.attained_alpha,
        "n": len(predictions),
        "skipped": len(skipped),
        "run": str(run),
        **judging.provenance(scorer),
    }
    report.show(out, images, figures, figures["pixel_threshold"], skipped)
    print(f"{sum(predictions)} of {len(predictions)} images look anomalous. Open {Path(out) / 'index.html'}.")


def _key(run, files):
    """A hash of a run and of files by name, size and time, by which a table is gone on with."""
    digest = hashlib.sha256((published.find(run) / "run.json").read_bytes())
    for file in files:
        status = os.stat(file)
        digest.update(repr((os.path.abspath(file), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]
