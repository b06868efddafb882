"""What was found in a source and what is made of it, to be read before a training."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np

from anogan_tf.data.samples import Samples

PARTS = ("train", "validation", "test")
HEADER = ("part", "class", "label", "images", "masks")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a source is taken for; `print` shows it.

    Attributes:
        source: The source's name.
        layout: What the source was recognised as.
        rows: For each part and class a tuple of part, class, `"normal"` or `"anomalous"`, number of images, and number
            of masks, None where the source has no masks.
        unused: What was found and is not used, in words.
        told: What one should know, in sentences.
    """

    source: str
    layout: str
    rows: tuple[tuple, ...] = ()
    unused: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def of(self, samples: Samples) -> Plan:
        """The plan, its rows counted from `samples`."""
        masks = (
            np.zeros(len(samples), bool) if samples.masks is None else np.array([m is not None for m in samples.masks])
        )
        columns = (samples.parts, samples.classes, samples.labels)
        counts = collections.Counter(zip(*(column.tolist() for column in columns), strict=True))
        masked = collections.Counter(zip(*(column[masks].tolist() for column in columns), strict=True))
        order = sorted(counts, key=lambda row: (PARTS.index(row[0]), row[2], row[1]))
        rows = tuple(
            (part, name, ("normal", "anomalous")[label], counts[part, name, label], masked[part, name, label])
            for part, name, label in order
        )
        return dataclasses.replace(self, rows=rows)

    def add(self, *, unused: Iterable[str] = (), told: Iterable[str] = ()) -> Plan:
        return dataclasses.replace(self, unused=(*self.unused, *unused), told=(*self.told, *told))

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.layout}", *_table([HEADER, *self.rows])]
        lines += [f"Not used: {'; '.join(self.unused)}."] if self.unused else []
        return "\n".join([*lines, *(f"Mind: {sentence}" for sentence in self.told)])


def _table(rows):
    cells = [[str(cell) if cell not in (0, "") else "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (
            cell.rjust(width) if number > 2 else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(aligned).rstrip()
