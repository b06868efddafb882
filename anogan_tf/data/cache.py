"""Where decoded images are kept: in memory, or in a folder that is read through the page cache."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anogan_tf.data.samples import Allocate, Samples

HOST = platform.node()


def keep(cache: str | os.PathLike | None, key: object, build: Callable[[Allocate], Samples]) -> Samples:
    """The samples that `build` makes, with their images where `cache` says; made only once for a folder and a key.

    From a folder they come without masks and files, which the folder does not hold.

    Args:
        cache: None for memory, or a folder.
        key: Anything whose `repr` tells one content from another.
        build: Function of `allocate` (itself a function of shape and dtype to an array to fill) to `Samples`.

    Raises:
        ValueError: If the images need more than half of the machine's memory.
    """
    if cache is None:
        return build(_in_memory)
    stem = Path(cache) / hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    columns_file, images_file = stem.with_suffix(".npz"), stem.with_suffix(".npy")
    if not columns_file.exists():
        stem.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(stem.parent)
        partial = stem.with_suffix(f".{HOST}-{os.getpid()}.part")
        samples = build(lambda shape, dtype: np.lib.format.open_memmap(partial, "w+", dtype, shape))
        samples.images.flush()
        os.replace(partial, images_file)
        kept = [f.name for f in dataclasses.fields(samples) if f.name not in ("images", "masks", "files")]
        columns = {name: getattr(samples, name) for name in kept}
        with open(partial, "wb") as file:
            np.savez(file, **{name: column for name, column in columns.items() if column is not None})
        os.replace(partial, columns_file)
    with np.load(columns_file) as columns:
        return Samples(images=np.load(images_file, mmap_mode="r"), **columns)


def _remove_leftovers(folder):
    """Deletes what processes of this machine that are no more left half-written."""
    for partial in folder.glob("*.part"):
        host, _, process = partial.name.split(".", 1)[1].removesuffix(".part").rpartition("-")
        if host == HOST and process.isdigit() and not _runs(int(process)):
            partial.unlink(missing_ok=True)


def _runs(process):
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _in_memory(shape, dtype):
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise ValueError(
            f"The images need {needed / 2**30:.1f} GiB, more than half of this machine's memory. Give a folder to keep "
            "them in: cache= (--cache)."
        )
    return np.empty(shape, dtype)
