"""What is scored in bulk, and what came of it: pictures in blocks, a row a block of a listing, a file of scores each.

A block keeps its number and its pictures from the moment it is listed, and its scores are one file, which is whole or
not there: whoever scores it, and how often, no picture is lost and none is there twice.
"""

from __future__ import annotations

import collections
import glob
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from anogan_tf import atomic, threads

LISTING, SCORES = "listing.parquet", "scores"
LISTED = pa.schema(
    [
        ("block", pa.int64()),
        ("ids", pa.list_(pa.string())),
        ("paths", pa.list_(pa.binary())),  # as `os.fsencode` gives them; one alone of pictures within a Parquet file,
        ("group", pa.int32()),  # of which this row group is the block
    ]
)
SCORED = pa.schema(
    [
        ("id", pa.string()),
        *((name, pa.float64()) for name in ("anomaly_score", "residual", "discrimination", "p_value")),
        ("prediction", pa.int8()),
        ("decision", pa.string()),
        ("regions", pa.string()),  # JSON, see `metrics.regions`
        ("error", pa.string()),
        ("run", pa.string()),
    ]
)
READERS = 16  # threads that read a block, and wait for a disk or a network
AT_ONCE = 16  # blocks of a listing in memory


class Deaths:
    """How often a process died at what it had begun: what is begun again was never ended."""

    def __init__(self) -> None:
        self._begun = collections.Counter()

    def begin(self, *what: int) -> int:
        """Begins something, and tells how often it was begun and not ended before."""
        self._begun[what] += 1
        return self._begun[what] - 1

    def end(self, *what: int) -> None:
        """Ends it."""
        del self._begun[what]


def list_blocks(folder: Path, pictures: Iterable[dict[str, Any]], job: dict[str, Any]) -> None:
    """Writes the listing of a folder of results: whole, or not at all.

    Args:
        folder: The folder, which exists.
        pictures: The blocks, dicts of `ids`, `paths` and `group`.
        job: What is scored how, as JSON can hold it; `job_of` gives it back.
    """
    schema = LISTED.with_metadata({"job": json.dumps(job)})
    numbered = ({"block": number, **block} for number, block in enumerate(pictures))
    with atomic.replacing(folder / LISTING) as partial, pq.ParquetWriter(partial, schema) as writer:
        while some := list(itertools.islice(numbered, AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))


def job_of(folder: Path) -> dict[str, Any] | None:
    """The job that a folder of results was begun for; None where there is none."""
    if not (folder / LISTING).is_file():
        return None
    return json.loads(pq.read_schema(folder / LISTING).metadata[b"job"])


def count(folder: Path) -> tuple[int, int]:
    """How many blocks a listing has, and how many pictures."""
    with pq.ParquetFile(folder / LISTING) as file:
        pictures = sum(sum(map(len, batch["ids"])) for batch in file.iter_batches(AT_ONCE, columns=["ids"]))
        return file.metadata.num_rows, pictures


def listed(folder: Path, blocks: set[int] | None = None) -> Iterator[pa.Table]:
    """Tables of `LISTED` blocks, in order: of all, or of those with a number in `blocks`."""
    with pq.ParquetFile(folder / LISTING) as file:
        for batch in file.iter_batches(AT_ONCE):
            table = pa.Table.from_batches([batch]).replace_schema_metadata()
            if blocks is not None:
                table = table.filter(pa.array([number in blocks for number in table["block"].to_pylist()]))
            if len(table):
                yield table


def done(folder: Path) -> set[int]:
    """The numbers of the blocks whose scores are there."""
    return {int(file.stem) for file in (folder / SCORES).glob("[0-9]*.parquet")}


def scores(folder: Path, block: int) -> Path:
    """The file of a block's scores."""
    return folder / SCORES / f"{block:08d}.parquet"


def contents(block: dict[str, Any], places: Iterable[int] | None = None) -> list[tuple[bytes | None, str | None]]:
    """The files of a `LISTED` block, or of those of its pictures at `places`: bytes and None, or None and a reason."""
    places = range(len(block["ids"])) if places is None else places
    if block["group"] is not None:
        found = _in_parquet(block)
        return [found[place] for place in places]
    with ThreadPoolExecutor(READERS) as pool:
        return threads.mapped(_content, (block["paths"][place] for place in places), pool)


def _content(path):
    """The bytes of a file and None, or None and why it cannot be read."""
    name = os.fsdecode(path)
    try:
        with fsspec.open(name, "rb") if "://" in name else open(name, "rb") as file:
            return file.read(), None
    except Exception as error:  # file systems raise anything
        return None, f"not a readable file ({type(error).__name__}: {error})."


def _in_parquet(block):
    (path,) = block["paths"]
    with fsspec.open(os.fsdecode(path), "rb") as file:
        column = pq.ParquetFile(file).read_row_group(block["group"], columns=["bytes"])["bytes"]
    return [(content, None if content is not None else "there are no bytes.") for content in column.to_pylist()]


def find(source: str, pattern: str | None, suffixes: tuple[str, ...], size: int) -> Iterator[dict[str, Any]]:
    """The blocks of a glob, a Parquet file, or a folder on any file system, in the order of their names.

    Args:
        source: A path or an address such as `s3://bucket/folder`; a `.parquet` file has a column `path`, or `bytes`,
            the pictures' files themselves, of which each row group is a block; and perhaps one `id`.
        pattern: Glob pattern of file names, for a folder.
        suffixes: Endings of pictures, for a folder.
        size: Pictures of a block.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        OSError: If a file system does not tell what is there.
        ValueError: For a Parquet file without these columns.
    """
    found = _found(source)
    inside = found != [source]  # and so chosen by what they are called
    files = [file for file in found if file.endswith(".parquet")]
    yield from itertools.chain.from_iterable(_blocks_of_parquet(file, size) for file in files)
    names = (file for file in found if not file.endswith(".parquet"))
    if inside:
        names = (name for name in names if name.lower().endswith(suffixes))
        names = (name for name in names if fnmatchcase(os.path.basename(name), pattern or "*"))
    yield from blocks_of(((name, _absolute(name)) for name in names), size)


def blocks_of(pictures: Iterable[tuple[str, str]], size: int) -> Iterator[dict[str, Any]]:
    """Pairs of an id and a path, in blocks."""
    pictures = iter(pictures)
    while some := list(itertools.islice(pictures, size)):
        ids, paths = zip(*some, strict=True)
        yield {"ids": [_text(name) for name in ids], "paths": [os.fsencode(path) for path in paths], "group": None}


def _found(source):
    """The files that a source names, sorted; addresses as they were given."""
    if "://" not in source:
        found = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else [source]
        found = [path for path in found if os.path.exists(path)]
    else:
        system, path = fsspec.core.url_to_fs(source)
        try:
            names = system.glob(path) if glob.has_magic(path) else system.find(path)
        except FileNotFoundError:  # such as a bucket that does not exist
            names = []
        except Exception as error:  # file systems raise anything
            raise OSError(f"{source} cannot be listed ({type(error).__name__}: {error}).") from error
        found = [system.unstrip_protocol(name) for name in sorted(names)]
    if not found:
        raise FileNotFoundError(f"There is nothing at {source}: name a folder, a glob pattern, or a Parquet file.")
    return found


def _blocks_of_parquet(path, size):
    with fsspec.open(_absolute(path), "rb") as stream:
        file = pq.ParquetFile(stream)
        names = set(file.schema_arrow.names)
        if not names & {"path", "bytes"}:
            raise ValueError(
                f"{path} has a column path, of pictures' files, or bytes, their content. Received: columns "
                f"{', '.join(sorted(names))}."
            )
        if "bytes" in names:
            yield from _groups(file, path, next((name for name in ("id", "path") if name in names), None))
        else:
            yield from blocks_of(_rows(file, "id" if "id" in names else "path"), size)


def _groups(file, path, column):
    """A block for each row group, named by a column, or else by their numbers in the file, from 1."""
    first = 1
    for group in range(file.num_row_groups):
        n = file.metadata.row_group(group).num_rows
        numbers = [f"{path}#{number}" for number in range(first, first + n)]
        ids = map(str, file.read_row_group(group, columns=[column])[column].to_pylist()) if column else numbers
        yield {"ids": list(ids), "paths": [os.fsencode(_absolute(path))], "group": group}
        first += n


def _rows(file, column):
    for batch in file.iter_batches(columns=list(dict.fromkeys([column, "path"]))):
        for name, path in zip(batch[column].to_pylist(), batch["path"].to_pylist(), strict=True):
            yield str(name), _absolute(path)


def _absolute(path):
    return path if "://" in path else os.path.abspath(path)


def _text(name):
    return name.encode("utf-8", "backslashreplace").decode()
