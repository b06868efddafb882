"""Judges what arrives in a folder with a run, until it is stopped."""

import contextlib
import functools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from anogan_tf import atomic, data, judging, report, table, written
from anogan_tf.commands import score
from anogan_tf.commands.seen import Looks
from anogan_tf.commands.settings import at_rate, check_apart, pattern_of
from anogan_tf.data.listing import list_folder
from anogan_tf.runs import load_run, preprocessing_of, read_run
from anogan_tf.stages import Counted

AT_ONCE = 256  # files between two reports


def run(
    run: str | Path,
    folder: str | Path,
    out: str | Path,
    *,
    alpha: float | None = None,
    threshold: float | None = None,
    masks: bool = False,
    pictures: int = 100,
    pattern: str | None = None,
    interval: float = 2.0,
    once: bool = False,
) -> Path:
    """Judges image files as they arrive in a folder, and keeps a results folder current.

    A file is judged once it has not changed between two looks; one that changes later is judged again, and its row
    replaced. What was judged stays in the results, though its file goes. Started again, it goes on.

    Args:
        run: The folder of a run, or the name of a published one.
        folder: What is watched, with all below.
        out: Folder of the results.
        alpha: Another rate of false alarms than the run's; None for that.
        threshold: A number in place of the calibrated threshold; None for that.
        masks: Whether to write the pixels of regions as PNG files.
        pictures: Images to draw at most, the most anomalous.
        pattern: Which files are taken; None for the pattern of the training.
        interval: Seconds between two looks.
        once: Whether to end once what is there has been judged.

    Returns:
        The folder of the results.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If `out` lies in it, or holds results of another run or threshold.
        OSError: If `out` cannot be written into, or holds files that no report wrote.
    """
    check_apart(out, folder)
    report.check(out)
    arrivals = Arrivals(folder, pattern_of(read_run(run), pattern))
    arrivals.look()
    results = Results(out, run, alpha, threshold, masks, pictures)
    with atomic.exclusive(out), contextlib.suppress(KeyboardInterrupt):
        print(f"Watching {folder}, with results in {out}; Ctrl-C ends it.", flush=True)
        results.show()
        while True:
            time.sleep(interval)
            new = results.unknown(arrivals.whole())
            for first in range(0, len(new), AT_ONCE):
                results.judge(dict(new[first : first + AT_ONCE]))
            if once:
                return Path(out)
    print("Stopped; what was judged is kept.")
    return Path(out)


class Arrivals:
    """The pictures in a folder, and which of them are whole.

    Looking again and again works on any file system, while those of networks tell nobody what changed.

    Args:
        folder: The folder.
        pattern: Glob pattern that pictures must match; None for all.
    """

    def __init__(self, folder: str | Path, pattern: str | None) -> None:
        self.folder = Path(folder)
        self.pattern = pattern
        self._seen: dict[str, tuple[int, int]] = {}
        self._problem: str | None = None

    def look(self) -> list[tuple[str, os.stat_result]]:
        """Pairs of a file and its status, of files that are as they were at the last look.

        Raises:
            OSError: If the folder cannot be listed.
        """
        statuses = {}
        for path in list_folder(self.folder, self.pattern).pictures:
            file = os.fspath(self.folder.joinpath(*path))
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                statuses[file] = os.stat(file)
        before, self._seen = self._seen, {file: _version(status) for file, status in statuses.items()}
        return [(file, status) for file, status in statuses.items() if before.get(file) == self._seen[file]]

    def whole(self) -> list[tuple[str, os.stat_result]]:
        """The same; nothing while the folder is away, as those of networks may be for a while, which is told once."""
        try:
            found, problem = self.look(), None
        except OSError as error:
            found, problem = [], f"{self.folder} cannot be read now: {error}"
        if problem and problem != self._problem:
            print(f"Mind: {problem}", flush=True)
        self._problem = problem
        return found


class Results:
    """A results folder to which images are added.

    Args:
        out: The folder.
        run: As in `run`, like the others.
    """

    def __init__(
        self,
        out: str | Path,
        run: str | Path,
        alpha: float | None,
        threshold: float | None,
        masks: bool,
        pictures: int,
    ) -> None:
        self.out = Path(out)
        self.run = run
        self.threshold = threshold
        self.masks = masks
        self.pictures = pictures
        self._stamps = score.Stamps(run, alpha, threshold)
        self._known = table.read_stamps(out)
        if not all(stamp.startswith(self._stamps.common) for stamp in self._known.values()):
            raise ValueError(f"{out} holds results of another run or threshold: name another folder.")
        self._scorer = at_rate(load_run(run), alpha, threshold)
        judging.check_threshold(self._scorer, threshold)
        description = read_run(run)
        self._preprocessing = preprocessing_of(description)
        self._description = description
        self._looks = Looks()
        self._told = False

    def unknown(self, files: Iterable[tuple[str, os.stat_result]]) -> list[tuple[str, str]]:
        """Pairs of a file and its stamp, of those that were not judged yet, or have changed since."""
        stamped = ((file, self._stamps.of(file, status)) for file, status in files)
        return [(file, stamp) for file, stamp in stamped if self._known.get(table.text(file)) != stamp]

    def judge(self, files: dict[str, str]) -> None:
        """Adds files to the table, in place of their rows where they have some, and shows it.

        Args:
            files: The stamp of each.
        """
        new = {table.text(file): stamp for file, stamp in files.items()}
        skipped: list[tuple[str, str]] = []
        batches = Counted(self._looks.watch(self._batches(files, skipped)), len(files))
        judged: dict[str, tuple[dict, list[dict]]] = {}
        for results, regions in judging.judged_chunks(self._scorer, batches, self.threshold):
            judged |= {table.text(row["id"]): (row, few) for row, few in zip(results, regions, strict=True)}
        for name, reason in skipped:
            print(f"Skipped {name}: {reason}")
        kept = zip(*table.unchanged(self.out, self._known), strict=True)
        rows = {row["id"]: (row, few) for row, few in kept if row["id"] not in new or row["id"] in judged} | judged
        skipped = [(name, reason) for name, reason in self._skipped() if name not in new] + skipped
        self._known |= new
        self._forget_drawings({name: number for number, name in enumerate(rows, 1) if name not in judged})
        with table.ScoreTable(self.out) as scored:
            scored.add([row for row, _ in rows.values()], [few for _, few in rows.values()])
            scored.finish(skipped, self._known)
        self.show()

    def show(self) -> None:
        """Writes the report, if there is anything to show; pictures that were drawn before are not drawn again."""
        if not any(True for _ in self._scored()):
            return
        most = table.most_anomalous(self.out, self.pictures)
        kept = [row for row in most if self._is_drawn(row["number"])]
        left = {row["id"]: row for row in most if row not in kept and os.path.isfile(row["id"])}
        images = score.drawings(self._scorer, self._batches(left, []), left)
        small = functools.partial(score.thumbnail, {}, self._preprocessing)
        options = self.threshold, self.masks, small, kept
        mind = score.reservations(self._description, self._looks)
        score.show(self.run, self._scorer, self.out, images, self._skipped(), *options, mind=mind)
        if not self._told and (found := self._looks.unlike(self._description.get("looks", {}))):
            print(f"Mind: {found}")
            self._told = True

    def _batches(self, files: Iterable[str], skipped: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        return data.read_files(files, self._preprocessing, self._scorer.chunk, skipped)

    def _scored(self) -> Iterator[dict]:
        return table.scored_rows(self.out) if (self.out / "scores.csv").is_file() else iter(())

    def _skipped(self) -> list[tuple[str, str]]:
        return table.skipped_rows(self.out) if (self.out / "scores.csv").is_file() else []

    def _forget_drawings(self, numbers: dict[str, int]) -> None:
        """Removes what is drawn of all rows but those that keep these numbers, by their names."""
        old = [row["number"] for row in self._scored() if numbers.get(row["id"]) != row["number"]]
        written.remove(
            self.out,
            keep=written.listed(self.out) - {name for number in old for name in report.drawn_names(number)},
        )

    def _is_drawn(self, number: int) -> bool:
        names = report.drawn_names(number)
        return all((self.out / name).is_file() for name in names[: len(names) - (not self.masks)])


def _version(status):
    return status.st_size, status.st_mtime_ns
