"""Judges images on several cores or machines, by Ray Data."""

from pathlib import Path
from typing import Any

from anogan_tf import bulk
from anogan_tf.commands.settings import check_apart, pattern_of
from anogan_tf.runs import read_run


def run(run: str | Path, source: str, out: str | Path, *, pattern: str | None = None, **options: Any) -> Path:
    """Judges the images of a source into a folder, see `bulk.score`, which takes all options; None for its own."""
    check_apart(out, source)
    pattern = pattern_of(read_run(run), pattern)
    options = {name: value for name, value in options.items() if value is not None}
    counts = bulk.score(run, source, out, pattern=pattern, **options)
    suspicious = f" ({counts['suspicious']} of them are suspicious)" if counts["suspicious"] else ""
    page = Path(out) / "index.html"
    print(f"{counts['anomalous']} of {counts['total']} images look anomalous{suspicious}. Open {page}.")
    if counts["skipped"]:
        print(f"Skipped {counts['skipped']} images that cannot be read: the column error tells why.")
    return Path(out)
