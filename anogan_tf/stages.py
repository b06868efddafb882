"""What a command is doing: how far each stage of it is, and where the time went."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm.auto import tqdm

PAUSE = 30  # seconds between two lines where there is no terminal
REST = "everything else"

T = TypeVar("T")


class Times:
    """Seconds of the stages of a command, on the clock and of CPU time; what a stage does within another is its own."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}
        self._open = [REST]
        self._since = time.perf_counter(), time.process_time()

    def begin(self, stage: str) -> None:
        self._add()
        self._open.append(stage)

    def end(self) -> None:
        self._add()
        self._open.pop()

    def __str__(self) -> str:
        """A table of the stages, in the order in which they began."""
        self._add()
        rest = self._seconds.pop(REST)
        rows = [*self._seconds.items(), (REST, rest)]
        self._seconds[REST] = rest
        rows.append(("total", [sum(column) for column in zip(*self._seconds.values(), strict=True)]))
        width = max(len(stage) for stage, _ in rows)
        lines = [f"{'':{width}}  seconds  of CPU"]
        return "\n".join([*lines, *(f"{stage:{width}} {wall:8.1f} {cpu:7.1f}" for stage, (wall, cpu) in rows)])

    def _add(self):
        now = time.perf_counter(), time.process_time()
        spent = self._seconds.setdefault(self._open[-1], [0.0, 0.0])
        for clock in (0, 1):
            spent[clock] += now[clock] - self._since[clock]
        self._since = now


_TIMES: ContextVar[Times | None] = ContextVar("times", default=None)


@contextlib.contextmanager
def told() -> Iterator[Times]:
    """Within it, as in each command, stages add up their `Times`, and say in lines how far they are without a terminal.

    In Python, where nothing asked for it, they do neither.
    """
    token = _TIMES.set(Times())
    try:
        yield _TIMES.get()
    finally:
        _TIMES.reset(token)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """What is done within it takes the time of a stage."""
    times = _TIMES.get()
    if times is None:
        yield
        return
    times.begin(name)
    try:
        yield
    finally:
        times.end()


def each(name: str, things: Iterable[T]) -> Iterator[T]:
    """The things, one after the other; to make each takes the time of a stage, what is then done with it does not."""
    iterator = iter(things)
    while True:
        with stage(name):
            try:
                thing = next(iterator)
            except StopIteration:
                return
        yield thing


@dataclass(frozen=True)
class Counted:
    """Batches whose images are counted.

    Args:
        batches: The batches.
        images: How many images there are in all.
    """

    batches: Iterable[Any]
    images: int

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def bar(name: str, *, total: int | None = None, initial: int = 0, unit: str = "images") -> tqdm:
    """A bar that tells how far a stage is: on a terminal from its third second on, else nothing; but see `told`."""
    options = {"desc": name, "total": total, "initial": initial, "unit": f" {unit}"}
    if _TIMES.get() is None or sys.stderr.isatty():
        return tqdm(**options, delay=2, disable=None)
    told_of = "{n_fmt} of {total_fmt}{unit} ({percentage:.0f} %)" if total else "{n_fmt}{unit}"
    form = f"{{desc}}: {told_of} in {{elapsed}}{', {remaining} left' if total else ''}{{postfix}}"
    return _Lines(**options, bar_format=form, delay=PAUSE, mininterval=PAUSE, maxinterval=PAUSE, leave=False)


class _Lines(tqdm):
    """A line every now and then in place of a bar."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if msg is None:
            print(self, file=sys.stderr, flush=True)
        return False
