"""Short work on many things: by threads where these gain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TypeVar

SHORT = 1e-3  # seconds for one thing

Thing = TypeVar("Thing")
Found = TypeVar("Found")


def mapped(function: Callable[[Thing], Found], things: Iterable[Thing], pool: Executor) -> list[Found]:
    """What a function says of each thing, in their order.

    One after the other as long as they take under a millisecond each, as small files do that the system has at hand:
    threads that wait for each other cost several times as much then. The rest by the pool.
    """
    things, found, start = list(things), [], time.monotonic()
    while len(found) < len(things) and time.monotonic() - start < SHORT * (len(found) + 1):
        found.append(function(things[len(found)]))
    return found + list(pool.map(function, things[len(found) :]))
