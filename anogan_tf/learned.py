"""What a score learns from normal images, as runs keep it."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import numpy as np

T = TypeVar("T", bound="Learned")


class Learned:
    """What consists of arrays, and is made of them again: its constructor takes them by their names.

    Attributes:
        ARRAYS: The names.
    """

    ARRAYS: ClassVar[tuple[str, ...]]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, as a dict of arrays."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    @classmethod
    def from_arrays(cls: type[T], arrays: dict[str, np.ndarray]) -> T:
        """What has these `arrays`."""
        return cls(**{name: arrays[name] for name in cls.ARRAYS})


def check_enough(n: int) -> None:
    """Raises a ValueError if n normal images are too few to learn from."""
    if n < 2:
        raise ValueError(f"A reference takes at least 2 normal images. Received: {n}.")
