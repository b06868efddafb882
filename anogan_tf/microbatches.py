"""Work of many callers, done together: what waits is taken at once by one thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Waiting: TypeAlias = "list[tuple[Item, Future[Answer]]]"

TINY = 1e-9  # seconds, in place of none


class MicroBatches(Generic[Item, Answer]):
    """A thread that hands what waits to a function of several items, and its answers to those who wait for them.

    If the function fails on several items, each is tried alone, so that one fails for itself only.

    Args:
        function: Of a list of items to a list of as many answers; called by one thread only.
        most: Items in a batch at most.
        seconds: How long the first of a batch waits for others.
        length: Items that may wait.
        longest: Seconds that a batch should take at most, by what each item more than one took in the batch before:
            where work is slow, an answer to many at once would be too late for all of them.
    """

    def __init__(
        self,
        function: Callable[[list[Item]], Sequence[Answer]],
        *,
        most: int,
        seconds: float,
        length: int,
        longest: float = float("inf"),
    ) -> None:
        self._function = function
        self._most = most
        self._most_now = most if longest == float("inf") else min(2, most)  # until it is known what each more costs
        self._seconds = seconds
        self._longest = longest
        self._alone = 0.0  # seconds that a batch of one took; 0 before there was one
        self._queue: queue.Queue[tuple[Item, Future[Answer]] | None] = queue.Queue(length)
        self._thread = threading.Thread(target=self._work, name="micro-batches", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether what is submitted will be worked on."""
        return self._thread.is_alive()

    def submit(self, item: Item) -> Future[Answer]:
        """Its answer in the future; one that is cancelled in time is not worked on.

        Raises:
            queue.Full: If too many wait.
        """
        future: Future[Answer] = Future()
        self._queue.put_nowait((item, future))
        return future

    def close(self) -> None:
        """Ends the thread once all that was submitted before is done."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next()
            wanted = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            start = time.monotonic()
            self._answer(wanted)
            if wanted:
                self._bound(len(wanted), time.monotonic() - start)

    def _next(self) -> tuple[Waiting, bool]:
        """The next batch, and whether others may follow."""
        batch: Waiting = []
        end = float("inf")
        while len(batch) < self._most_now:
            try:
                found = self._queue.get(timeout=max(0.0, end - time.monotonic()) if batch else None)
            except queue.Empty:
                break
            if found is None:
                return batch, False
            batch.append(found)
            end = min(end, time.monotonic() + self._seconds)
        return batch, True

    def _bound(self, n: int, seconds: float) -> None:
        """Sets how many the next batch may have, by how long one of n took; after one alone, two tell of each more."""
        if n == 1:
            self._alone = seconds
            self._most_now = max(self._most_now, min(2, self._most))
            return
        each = (seconds - self._alone) / (n - 1) if self._alone else seconds / n
        self._most_now = max(1, int(min(self._most, self._longest / max(each, TINY))))

    def _answer(self, batch: Waiting) -> None:
        if not batch:
            return
        try:
            answers = self._function([item for item, _ in batch])
        except Exception as error:  # whatever it is, it is for those who asked
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:
                self._answer([one])
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)
