import contextlib
import itertools
import re
import sys
import time

import pytest

from anogan_tf import stages


@pytest.fixture
def clock(monkeypatch):
    """A clock to set; two seconds on it are one of CPU time."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(stages.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(stages.time, "process_time", lambda: Clock.now / 2)
    return Clock


def rows(times):
    """Seconds on the clock and of CPU time by stage, of the table."""
    found = re.findall(r"^(.*?)\s+([\d.]+)\s+([\d.]+)$", str(times), re.MULTILINE)
    return {name: (float(wall), float(cpu)) for name, wall, cpu in found}


def test_a_stage_within_another_has_its_own_time(clock):
    with stages.told() as times:
        clock.now = 1
        with stages.stage("outer"):
            clock.now = 3
            with stages.stage("inner"):
                clock.now = 13
            clock.now = 17
        clock.now = 18
    expected = {"outer": (6, 3), "inner": (10, 5), stages.REST: (2, 1), "total": (18, 9)}
    assert rows(times) == expected
    assert list(rows(times)) == list(expected)
    assert rows(times) == expected  # telling changes nothing


def test_what_is_done_with_things_is_not_the_time_of_making_them(clock):
    def made():
        for n in range(3):
            clock.now += 10
            yield n

    with stages.told() as times:
        for _ in stages.each("making", made()):
            clock.now += 1
    assert rows(times) == {"making": (30, 15), stages.REST: (3, 1.5), "total": (33, 16.5)}


def test_a_stage_that_fails_ends(clock):
    with stages.told() as times:
        with contextlib.suppress(ArithmeticError), stages.stage("failing"):
            clock.now = 2
            raise ArithmeticError
        clock.now = 5
    assert rows(times) == {"failing": (2, 1), stages.REST: (3, 1.5), "total": (5, 2.5)}


def test_each_stops_where_the_things_do():
    assert list(itertools.islice(stages.each("making", itertools.count()), 3)) == [0, 1, 2]
    assert list(stages.each("making", [])) == []


def test_commands_tell_in_lines_how_far_they_are_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(stages, "PAUSE", 0.001)

    def tell(name, **options):
        with stages.bar(name, **options) as bar:
            time.sleep(0.01)
            bar.update(3)

    with stages.told():
        tell("Scoring", total=4)
        tell("Reading")
    tell("Scoring", total=4)  # in Python
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert re.fullmatch(r"Scoring: 3 of 4 images \(75 %\) in 00:00, .* left", first)
    assert second == "Reading: 3 images in 00:00"


def test_a_terminal_has_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with stages.told():
        bar = stages.bar("Scoring", total=4)
    assert not isinstance(bar, stages._Lines)
    assert not bar.disable
    bar.close()
