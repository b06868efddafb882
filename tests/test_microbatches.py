import queue
import threading
from types import SimpleNamespace

import pytest

from anogan_tf import microbatches
from anogan_tf.microbatches import MicroBatches


class Gate:
    """A function that doubles numbers once it may, and remembers what it was given."""

    def __init__(self):
        self.may = threading.Event()
        self.seen = []

    def __call__(self, items):
        assert self.may.wait(10)
        self.seen.append(list(items))
        if 0 in items:
            raise ZeroDivisionError("zero")
        return [2 * item for item in items]


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def batches(gate):
    batches = MicroBatches(gate, most=3, seconds=0.05, length=8)
    yield batches
    gate.may.set()
    batches.close()
    assert not batches.alive


def held(batches, gate):
    """The future of an item that the thread is busy with."""
    first = batches.submit(100)
    while not first.running():
        pass
    return first


def test_what_waits_is_taken_at_once_in_order_and_no_more_than_the_most(batches, gate):
    held(batches, gate)
    futures = [batches.submit(item) for item in range(1, 6)]
    gate.may.set()
    assert [future.result(10) for future in futures] == [2, 4, 6, 8, 10]
    assert gate.seen == [[100], [1, 2, 3], [4, 5]]


def test_one_that_fails_fails_alone(batches, gate):
    held(batches, gate)
    futures = [batches.submit(item) for item in (1, 0, 2)]
    gate.may.set()
    assert (futures[0].result(10), futures[2].result(10)) == (2, 4)
    with pytest.raises(ZeroDivisionError):
        futures[1].result(10)


def test_what_nobody_waits_for_any_more_is_not_worked_on(batches, gate):
    held(batches, gate)
    futures = [batches.submit(item) for item in (1, 2)]
    assert futures[0].cancel()
    gate.may.set()
    assert futures[1].result(10) == 4
    assert gate.seen == [[100], [2]]


def test_no_more_than_the_length_may_wait(batches, gate):
    held(batches, gate)
    for item in range(1, 9):
        batches.submit(item)
    with pytest.raises(queue.Full):
        batches.submit(9)


def test_closing_finishes_what_was_submitted(gate):
    batches = MicroBatches(gate, most=3, seconds=0.0, length=8)
    futures = [batches.submit(item) for item in (1, 2)]
    gate.may.set()
    batches.close()
    assert [future.result(0) for future in futures] == [2, 4]


@pytest.mark.parametrize(("each", "once", "sizes"), [(3.0, 0.0, [1, 2, 4, 4]), (0.0, 20.0, [1, 2, 8, 8])])
def test_batches_are_as_small_as_slow_work_asks_for(each, once, sizes, monkeypatch):
    """Where a batch costs what one item does, it is as large as it may be, though it takes longer than is wanted."""
    clock, may, seen = [0.0], threading.Event(), []
    monkeypatch.setattr(microbatches, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def slow(items):
        assert may.wait(10)
        seen.append(len(items))
        clock[0] += once + each * len(items)
        return items

    batches = MicroBatches(slow, most=8, seconds=0.05, length=64, longest=12.0)
    first = batches.submit(0)
    while not first.running():
        pass
    answers = [first, *(batches.submit(number) for number in range(1, 20))]
    may.set()
    assert [answer.result(10) for answer in answers] == list(range(20))
    batches.close()
    assert seen[:4] == sizes
