"""The table of a results folder, an image a row; it grows while images are scored, and what it has outlives a crash."""

import csv
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from anogan_tf import atomic, written

COLUMNS = ("id", "anomaly_score", "residual", "discrimination", "p_value", "prediction", "label", "decision", "error")
REGION_COLUMNS = ("id", "regions")
STAMPS = "stamps.json"
SKIPPED = "skipped: "  # and why, in place of a prediction, in tables of before there was the column `error`
FILES = ("regions.json", "scores.csv", STAMPS)


class ScoreTable:
    """`scores.csv` and `regions.json` while they grow, in files ending in `.part`.

    Rows are on disk once `add` returns. A crash at any moment leaves whole rows and at most a piece of one, which is
    cut off when a table with the same key goes on.

    Args:
        folder: The results folder, which exists.
        key: What tells one work from another, such as a hash of all that is scored; a table of another key is begun
            anew. None to begin anew in any case.

    Attributes:
        ids: The names of the images that are in the table, as `text` writes them.
    """

    def __init__(self, folder: str | Path, key: str | None = None) -> None:
        self.folder = Path(folder)
        parts = [self.folder / f"{name}.{key or 'new'}.part" for name in ("scores", "regions")]
        for name in written.listed(self.folder):
            old = self.folder / name
            if old.suffix == ".part" and (key is None or old not in parts):
                old.unlink(missing_ok=True)
        written.add(self.folder, *(part.name for part in parts), "regions.json", "scores.csv")
        self._scores, self._regions = (_Growing(*p) for p in zip(parts, (COLUMNS, REGION_COLUMNS), strict=True))
        self.ids = {row["id"] for row in _rows(parts[0])}

    def __enter__(self) -> "ScoreTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._scores.close()
        self._regions.close()

    def add(self, results: Sequence[dict], regions: Sequence[list[dict]]) -> None:
        """Adds rows, dicts with the `COLUMNS`, and for each a list of regions, see `metrics.regions`."""
        found = [{"id": r["id"], "regions": json.dumps(few)} for r, few in zip(results, regions, strict=True) if few]
        self._regions.append(found)  # first, so that no row lacks its regions
        self._scores.append(results)
        self.ids.update(text(result["id"]) for result in results)

    def finish(self, skipped: Iterable[tuple[str, str]] = (), stamps: dict[str, str] | None = None) -> None:
        """Adds rows without a score for pairs of an id and why it was skipped, and gives the files their names.

        Args:
            skipped: The pairs.
            stamps: For each id what tells whether its row holds still, see `unchanged`; None if nothing does.
        """
        kept = {} if stamps is None else {n: s for n, s in read_stamps(self.folder).items() if stamps.get(n) == s}
        self._write_stamps(kept)  # of the rows that are the same before and after these are replaced
        self._scores.append([{"id": name, "error": reason} for name, reason in skipped])
        self.__exit__()
        regions = {row["id"]: json.loads(row["regions"]) for row in _rows(self._regions.path)}
        _write_regions(self.folder, regions)
        with atomic.replacing(self.folder / "scores.csv") as partial:
            os.replace(self._scores.path, partial)
        self._regions.path.unlink()
        self._write_stamps(stamps)

    def _write_stamps(self, stamps):
        if not stamps:
            (self.folder / STAMPS).unlink(missing_ok=True)
            return
        written.add(self.folder, STAMPS)
        with atomic.replacing(self.folder / STAMPS) as partial:
            partial.write_text(json.dumps(stamps) + "\n", encoding="utf-8")


def scored_rows(folder: str | Path) -> Iterator[dict]:
    """The rows of `scores.csv` that have a score, as dicts with their values, and with their `number` from 1."""
    for number, row in enumerate(_rows(Path(folder) / "scores.csv"), 1):
        if row["anomaly_score"]:
            names = ("anomaly_score", "residual", "discrimination")
            scores = {name: float(row[name]) if row[name] else None for name in names}
            decision = {"p_value": float(row["p_value"]) if row["p_value"] else None}
            decision |= {name: int(row[name]) if row[name] else None for name in ("prediction", "label")}
            yield {"id": row["id"], **scores, **decision, "decision": row.get("decision") or None, "number": number}


def skipped_rows(folder: str | Path) -> list[tuple[str, str]]:
    """Pairs of the id of an image that could not be read and why, as `ScoreTable.finish` takes them."""
    rows = _rows(Path(folder) / "scores.csv")
    unread = (row for row in rows if not row["anomaly_score"])
    return [(row["id"], row.get("error") or row["prediction"].removeprefix(SKIPPED)) for row in unread]


def read_stamps(folder: str | Path) -> dict[str, str]:
    """The stamps that a table was finished with, see `ScoreTable.finish`; none where there are none."""
    try:
        return json.loads((Path(folder) / STAMPS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def unchanged(folder: str | Path, stamps: dict[str, str]) -> tuple[list[dict], list[list[dict]]]:
    """The rows of a finished table that still hold, as they are written, and the regions of each, for `ScoreTable.add`.

    Args:
        folder: The results folder.
        stamps: For each id, as `text` writes it, what tells its row: a row holds if it had the same when it was
            written.
    """
    folder, then = Path(folder), read_stamps(folder)
    try:
        regions = json.loads((folder / "regions.json").read_text(encoding="utf-8"))
        rows = [row for row in _rows(folder / "scores.csv") if row["anomaly_score"]]
    except (OSError, ValueError, KeyError):  # nothing there that was finished
        return [], []
    rows = [row for row in rows if row["id"] in stamps and then.get(row["id"]) == stamps[row["id"]]]
    return rows, [regions.get(row["id"], []) for row in rows]


def amend(folder: Path, found: dict[str, dict], regions: dict[str, list[dict]]) -> None:
    """Adds to a finished table what only pictures that were drawn have.

    Args:
        folder: The results folder.
        found: For each id, as `text` writes it, values by column.
        regions: The whole content of `regions.json`.
    """
    with atomic.replacing(folder / "scores.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | found.get(row["id"], {}) for row in _rows(folder / "scores.csv"))
    _write_regions(folder, regions)


def most_anomalous(folder: str | Path, n: int) -> list[dict]:
    """The n rows of `scored_rows` with the highest scores, highest first."""
    return heapq.nlargest(n, scored_rows(folder), key=lambda row: row["anomaly_score"])


def text(name: str) -> str:
    """A name as it is written: what is no UTF-8 becomes escapes. Others stay what they are, and are not copied."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
    return str(name)


def _write_regions(folder, regions):
    with atomic.replacing(folder / "regions.json") as partial:
        lines = (f"{json.dumps(name)}: {json.dumps(few)}" for name, few in regions.items())
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


class _Growing:
    """A CSV file to append to, which begins with whole rows."""

    def __init__(self, path, columns) -> None:
        self.path = path
        if _columns(path) not in ([], list(columns)):  # of an older version
            path.unlink()
        self._file = open(path, "a", newline="", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        _cut_to_whole_rows(path)
        self._writer = csv.DictWriter(self._file, columns)
        if path.stat().st_size == 0:
            self._writer.writeheader()

    def append(self, rows):
        self._writer.writerows(rows)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self):
        self._file.close()


def _rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _columns(path):
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _cut_to_whole_rows(path):
    """Cuts off what follows the last line break that is not within quotes."""
    position = end = quotes = 0
    with open(path, "r+b") as file:
        for line in file:
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                end = position
        file.truncate(end)
