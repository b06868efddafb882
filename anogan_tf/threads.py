"""Short work on many things: by threads where these gain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TypeVar

TRIED = 2  # things that tell how long one takes
SHORT = 1e-3  # seconds for one

Thing = TypeVar("Thing")
Found = TypeVar("Found")


def mapped(function: Callable[[Thing], Found], things: Iterable[Thing], pool: Executor) -> list[Found]:
    """What a function says of each thing, in their order.

    By the pool, unless the first ones take under a millisecond each, as small files do that the system has at hand:
    threads that wait for each other cost several times as much then.
    """
    things = list(things)
    start = time.monotonic()
    found = [function(thing) for thing in things[:TRIED]]
    short = time.monotonic() - start < SHORT * len(found)
    return found + list((map if short else pool.map)(function, things[TRIED:]))
