"""The records of an LMDB folder, as LSUN is published, each of which is read as a file is."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from pathlib import Path

PARTS = {"train": "train", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class LsunName:
    """What the name of a folder such as `church_outdoor_train_lmdb` tells."""

    category: str
    part: str

    @classmethod
    def of(cls, folder: Path) -> LsunName:
        name = folder.name.removesuffix("_lmdb")
        category, _, part = name.rpartition("_")
        return cls(category, PARTS[part]) if category and part in PARTS else cls(name, "train")


@dataclasses.dataclass(frozen=True)
class Record:
    """One image in an LMDB folder, with the methods of a path that reading takes.

    Args:
        folder: The folder that holds `data.mdb`.
        key: The record's key.
    """

    folder: Path
    key: bytes

    @property
    def name(self) -> str:
        return self.key.decode("latin-1")

    def read_bytes(self) -> bytes:
        with _opened(self.folder).begin() as transaction:
            return bytes(transaction.get(self.key))

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.read_bytes())

    def stat(self) -> os.stat_result:
        return (self.folder / "data.mdb").stat()

    def __fspath__(self) -> str:
        return f"{self.folder}/{self.name}"

    def __str__(self) -> str:
        return self.__fspath__()


def in_folder(folder: Path) -> list[Record]:
    """The records of a folder, in the order of their keys.

    Raises:
        ValueError: Without the package lmdb, or if the folder is none of it.
    """
    with _opened(folder).begin() as transaction:
        return [Record(folder, bytes(key)) for key in transaction.cursor().iternext(keys=True, values=False)]


@functools.cache
def _opened(folder):
    try:
        import lmdb
    except ImportError:
        raise ValueError(f"{folder} is read by the package lmdb: pip install anogan-tf[lsun].") from None
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ValueError(f"{folder} is no LMDB folder ({error}).") from error
