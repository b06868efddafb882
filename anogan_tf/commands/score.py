"""Judges images, whose labels nobody knows, with a run."""

import collections
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anogan_tf import atomic, data, diagnosis, judging, page, published, report, table
from anogan_tf.commands.seen import Looks
from anogan_tf.commands.settings import at_rate, check_apart, pattern_of
from anogan_tf.data import images
from anogan_tf.data.samples import Preprocessing
from anogan_tf.runs import load_run, preprocessing_of, read_run
from anogan_tf.scoring import Scorer
from anogan_tf.stages import Counted


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
        read = data.read_files(files, preprocessing_of(description), scorer.chunk, skipped)
        return Counted(looks.watch(read), len(files))

    stamps = Stamps(run, alpha, threshold).of_files(files)
    try:
        with atomic.exclusive(out), table.ScoreTable(out, _key(stamps)) as scored:
            if not scored.ids:
                scored.add(*table.unchanged(out, stamps))
                if scored.ids:
                    print(f"{len(scored.ids)} of {len(files)} images were judged before, and did not change.")
                if others := len(table.read_stamps(out).keys() - stamps.keys()):
                    print(f"{out} holds results of {others} other images: these replace them.")
            left = [file for file in files if table.text(file) not in scored.ids]
            kept = judging.Kept(pictures)
            for results, regions in judging.judged_chunks(scorer, batches(left, skipped), threshold, kept):
                scored.add(results, regions)
            if not scored.ids:
                raise ValueError("There are no images to score.")
            scored.finish(skipped, stamps)
            drawn = {row["id"]: row for row in table.most_anomalous(out, pictures)}
            chosen = [file for file in files if table.text(file) in drawn]
            known = [file for file in chosen if file in kept.outputs]
            others = [file for file in chosen if file not in kept.outputs]
            parts = [(some, outputs) for some, outputs in ((known, kept.outputs), (others, None)) if some]
            pairs = (drawings(scorer, batches(some, []), drawn, outputs) for some, outputs in parts)
            by_name = {table.text(file): file for file in files}
            small = functools.partial(thumbnail, by_name, preprocessing_of(description))
            mind = reservations(description, looks)
            show(run, scorer, out, itertools.chain.from_iterable(pairs), skipped, threshold, masks, small, mind=mind)
    finally:
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
    if found := looks.unlike(description.get("looks", {})):
        print(f"Mind: {found}")
    return Path(out)


def reservations(description: Mapping[str, Any], looks: Looks) -> list[str]:
    """What one should mind of scores: what the diagnosis of a run found, and how all pictures differ from its own."""
    return [*description.get("diagnosis", []), *filter(None, [looks.unlike(description.get("looks", {}))])]


def drawings(
    scorer: Scorer, batches: Iterable[dict], rows: dict[str, dict], known: dict[str, dict] | None = None
) -> Iterator[tuple[dict, dict]]:
    """Pairs of a row of the table, by its id, and what is drawn of it, with the regions that its decision shows.

    `known` is as in `judging.drawn_images`.
    """
    for name, scores, image in judging.drawn_images(scorer, batches, known):
        row = rows[table.text(name)] | scores
        yield row, image | {"regions": judging.outlined(image["regions"], row["prediction"])}


def thumbnail(files: Mapping[str, str], preprocessing: Preprocessing, row: dict) -> bytes | None:
    """The thumbnail of a row that was not drawn, of its file; None if that is gone.

    Args:
        files: By ids; an id that is not there is its file itself.
        preprocessing: How the file is cropped.
        row: A row of the table.
    """
    options = {"crop": preprocessing.crop, "bits": preprocessing.bits}
    try:
        return page.thumbnail(images.small(files.get(row["id"], row["id"]), page.THUMBNAIL, **options))
    except ValueError:
        return None


def show(
    run: str | Path,
    scorer: Scorer,
    out: str | Path,
    pictures: Iterable[tuple[dict, dict]],
    skipped: Sequence[tuple[str, str]],
    threshold: float | None,
    masks: bool,
    thumbnails: Callable[[dict], bytes | None],
    kept: Sequence[dict] | None = None,
    *,
    mind: Sequence[str] = (),
) -> None:
    """Writes the report of a finished table, see `report.show`, and says how many images look anomalous."""
    decisions = collections.Counter(row["decision"] for row in table.scored_rows(out))
    n = decisions.total()
    figures = judging.unlabelled_figures(scorer, threshold, n=n, skipped=len(skipped), run=run)
    unlike = diagnosis.all_unlike(n - decisions["normal"], n)
    figures["mind"] = [*mind, *filter(None, [unlike])]
    more = {"masks": masks, "thumbnails": thumbnails, "normal_scores": scorer.calibration.scores, "kept": kept}
    report.show(out, pictures, figures, figures["pixel_threshold"], skipped, **more)
    suspicious = f" ({decisions['suspicious']} of them are suspicious)" if decisions["suspicious"] else ""
    alarms = n - decisions["normal"]
    print(f"{alarms} of {n} images look anomalous{suspicious}. Open {Path(out) / 'index.html'}.")
    if unlike:
        print(f"Mind: {unlike}")


class Stamps:
    """What tells whether a row of a table holds: hashes of the run and how is decided, and of the file of the row.

    Args:
        run: The run, as in `run`.
        alpha: Likewise.
        threshold: Likewise.

    Attributes:
        common: With what all of them begin, which is not of the file.
    """

    def __init__(self, run: str | Path, alpha: float | None, threshold: float | None) -> None:
        common = hashlib.sha256((published.find(run) / "run.json").read_bytes())
        common.update(repr((alpha, threshold, table.COLUMNS)).encode())
        self.common = common.hexdigest()[:16]

    def of(self, file: str, status: os.stat_result) -> str:
        """That of a file, of its name, size and time."""
        own = repr((os.path.abspath(file), status.st_size, status.st_mtime_ns))
        return self.common + hashlib.sha256(own.encode()).hexdigest()[:16]

    def of_files(self, files: Iterable[str]) -> dict[str, str]:
        """Those of files that are there, by their names as a table has them."""
        return {table.text(file): self.of(file, os.stat(file)) for file in files}


def _key(stamps):
    """By which a table is gone on with: of all that is judged."""
    return hashlib.sha256("".join(stamps.values()).encode()).hexdigest()[:16]
