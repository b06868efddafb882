"""Files that are whole or not there: written beside, flushed to disk, renamed; folders that one process writes into."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock


@contextlib.contextmanager
def replacing(path: str | Path, size: int = 0) -> Iterator[Path]:
    """Gives a name to write to, in the same folder and with the same ending; what was written there becomes `path`.

    A crash or a power cut at any moment leaves the old file or the new one. An error while writing leaves the old one.

    Args:
        path: The file.
        size: About how many bytes it will have. If there is no room for so many that is an OSError at once; HDF5 ends
            the process when the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f"partial-{path.name}")
    try:
        _need_room(partial, size)
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextlib.contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Makes a folder, if it is missing, and keeps other processes that ask for the same out of it.

    The lock is the operating system's, on a file `.lock` in the folder, and ends with the process, however that ends.

    Raises:
        BlockingIOError: If another process is at work there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            yield
    except filelock.Timeout:
        raise BlockingIOError(
            f"Another process is writing into {folder}. Wait until it has ended, or name another folder."
        ) from None


def _need_room(path, size):
    if size and hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(
                    error.errno, f"No room for {size / 2**20:.1f} MiB in {path.parent} ({error.strerror})"
                ) from None


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
