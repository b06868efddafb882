"""Files that are whole or not there: written beside, flushed to disk, renamed."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Gives a name to write to, in the same folder and with the same ending; what was written there becomes `path`.

    A crash or a power cut at any moment leaves the old file or the new one. An error while writing leaves the old one.
    """
    path = Path(path)
    partial = path.with_name(f"partial-{path.name}")
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
