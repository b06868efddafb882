import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from anogan_tf import threads


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to, as a machine under load takes any time for anything."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def by_whom(clock, seconds):
    """Which of the things that take so long each are done in this thread; what is found of them is looked at."""
    here = [False] * len(seconds)

    def doubled(number):
        here[number] = threading.current_thread() is threading.main_thread()
        clock.now += seconds[number]
        return 2 * number

    with ThreadPoolExecutor(4) as pool:
        assert threads.mapped(doubled, iter(range(len(seconds))), pool) == [2 * n for n in range(len(seconds))]
    return here


def test_short_work_is_done_one_after_the_other(clock):
    assert all(by_whom(clock, [0.0009] * 1000))


def test_long_work_is_done_by_threads(clock):
    assert by_whom(clock, [0.01] * 6) == [True] + [False] * 5


def test_work_that_becomes_long_goes_to_threads(clock):
    assert by_whom(clock, [0.0] * 10 + [0.05] * 10) == [True] * 11 + [False] * 9


def test_there_may_be_little_or_nothing(clock):
    assert [by_whom(clock, [0.01] * n) for n in range(3)] == [[], [True], [True, False]]
