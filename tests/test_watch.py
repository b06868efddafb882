import contextlib
import csv
import json
import os
import re
import time

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image

import anogan_tf as agt
from anogan_tf import judging, panels, plots
from anogan_tf.commands import score, watch
from anogan_tf.commands.cli import main


@pytest.fixture(scope="module")
def run(saved_digits):
    return saved_digits


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def loaded(run):
    return agt.load_run(run)


@pytest.fixture(autouse=True)
def _loaded_once(loaded, monkeypatch):
    """A graph is traced anew for each scorer that is loaded, which takes seconds."""
    for command in (score, watch):
        monkeypatch.setattr(command, "load_run", lambda _: loaded)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "arriving"
    folder.mkdir()
    return folder


@pytest.fixture
def judged(monkeypatch):
    """The names of the files that are judged, as they are."""
    names, judged_chunks = [], judging.judged_chunks

    def watched(*arguments):
        for results, regions in judged_chunks(*arguments):
            names.extend(os.path.basename(result["id"]) for result in results)
            yield results, regions

    monkeypatch.setattr(judging, "judged_chunks", watched)
    return names


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """The titles of the pictures that are drawn, which are left empty here, as they are."""
    titles = []

    def blank(*arguments, title="", **options):
        titles.append(title)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(panels, "drawn", blank)
    monkeypatch.setattr(plots, "histogram", lambda *_: Figure(figsize=(1, 1)))
    return titles


def save(file, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)).save(file)


def look(run, folder, *options):
    """What `anogan-tf watch --once` says, and the rows of the table by the names of their files."""
    out = folder.parent / "out"
    arguments = ["watch", run, folder, "--out", out, "--interval", "0.01", "--once", *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    if not (out / "scores.csv").exists():
        return result.output, {}
    with open(out / "scores.csv", newline="") as file:
        return result.output, {os.path.basename(row["id"]): row for row in csv.DictReader(file)}


def scored(run, folder, out):
    """The rows of `anogan-tf score` for the same files."""
    CliRunner().invoke(main, ["score", str(run), str(folder), "--out", str(out), "--pictures", "0"])
    with open(out / "scores.csv", newline="") as file:
        return {os.path.basename(row["id"]): row for row in csv.DictReader(file)}


def test_what_arrives_is_judged_once_as_by_score_and_stays(run, folder, judged, drawn, tmp_path):
    """Over restarts, and though files go; what cannot be read has a row that says so, and is not tried again."""
    assert look(run, folder)[1] == {}
    save(folder / "b.png", 1)
    save(folder / "c.png", 2)
    (folder / "broken.png").write_bytes(b"no picture")
    output, rows = look(run, folder)
    assert "broken.png: not a readable image" in output
    assert list(rows) == [*judged, "broken.png"] == ["b.png", "c.png", "broken.png"]
    assert len(drawn) == 2
    page = (tmp_path / "out/index.html").read_text()
    assert "of 2 pictures look anomalous" in page
    judged.clear()
    drawn.clear()
    (folder / "b.png").unlink()
    save(folder / "a.png", 3)
    (folder / "below").mkdir()
    save(folder / "below/d.png", 4)
    output, more = look(run, folder)
    assert "Skipped" not in output
    assert judged == ["a.png", "d.png"]
    assert len(drawn) == 2
    assert list(more) == ["b.png", "c.png", "a.png", "d.png", "broken.png"]
    assert {name: more[name] for name in rows} == rows
    expected = scored(run, folder, tmp_path / "fresh")
    for name in ("a.png", "c.png", "d.png"):
        assert more[name]["anomaly_score"] == expected[name]["anomaly_score"]
        assert more[name]["decision"] == expected[name]["decision"]
    page = (tmp_path / "out/index.html").read_text()
    assert "of 4 pictures look anomalous" in page
    content = json.loads(re.search(r"<script [^>]*json[^>]*>(.*?)</script>", page, re.DOTALL)[1])
    assert set(content["drawn"]) == {"1", "2", "3", "4"}
    assert all((tmp_path / f"out/test_image_{number:03d}.png").exists() for number in range(1, 5))


def test_a_file_that_changes_takes_the_place_of_its_row(run, folder, judged, drawn):
    for seed, name in enumerate("abc"):
        save(folder / f"{name}.png", seed)
    _, before = look(run, folder)
    judged.clear()
    drawn.clear()
    save(folder / "b.png", 17)
    _, after = look(run, folder)
    assert (judged, len(drawn)) == (["b.png"], 1)
    assert list(after) == list(before)
    assert [after[n] == before[n] for n in before] == [True, False, True]
    drawn.clear()
    (folder / "b.png").write_bytes(b"")  # its row goes to the end, and pictures follow their rows
    _, after = look(run, folder)
    assert list(after) == ["a.png", "c.png", "b.png"]
    assert [title.split(":")[0].rpartition("/")[2] for title in drawn] == ["c.png"]
    assert not (folder.parent / "out/test_image_003.png").exists()


def test_a_file_is_left_alone_until_it_is_whole(tmp_path):
    arrivals = watch.Arrivals(tmp_path, None)
    save(tmp_path / "a.png", 0)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:40])
    assert arrivals.whole() == []
    (tmp_path / "a.png").write_bytes(content)
    assert arrivals.whole() == []
    assert [file for file, _ in arrivals.whole()] == [str(tmp_path / "a.png")]


def test_a_folder_that_is_away_for_a_while_is_waited_for(tmp_path, capsys):
    (tmp_path / "share").mkdir()
    save(tmp_path / "share/a.png", 0)
    arrivals = watch.Arrivals(tmp_path / "share", None)
    arrivals.look()
    (tmp_path / "share").rename(tmp_path / "away")
    assert arrivals.whole() == arrivals.whole() == []
    assert capsys.readouterr().out.count("cannot be read now") == 1
    (tmp_path / "away").rename(tmp_path / "share")
    assert len(arrivals.whole()) == 1


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 6, 8])
def test_killed_anywhere_it_loses_nothing_and_ends_as_if_it_was_not(run, folder, step, monkeypatch):
    """Killed before the n-th file of the second report is put in its place."""
    for seed, name in enumerate("ab"):
        save(folder / f"{name}.png", seed)
    look(run, folder, "--pictures", "1")
    (folder / "a.png").unlink()
    save(folder / "b.png", 7)
    save(folder / "c.png", 8)
    left = iter(range(step))

    def replace(*arguments):
        if next(left, None) is None:
            raise Killed
        return os_replace(*arguments)

    os_replace = os.replace
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(os, "replace", replace)
        look(run, folder, "--pictures", "1")
    _, rows = look(run, folder, "--pictures", "1")
    assert list(rows) == ["a.png", "b.png", "c.png"]
    assert all(row["anomaly_score"] for row in rows.values())
    expected = scored(run, folder, folder.parent / "fresh")
    assert rows["b.png"]["anomaly_score"] == expected["b.png"]["anomaly_score"]


def test_results_of_another_run_or_threshold_are_left_alone(run, folder):
    save(folder / "a.png", 0)
    look(run, folder)
    arguments = ["watch", str(run), str(folder), "--out", str(folder.parent / "out"), "--once", "--alpha", "0.3"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "holds results of another run or threshold: name another folder" in result.output


def test_an_interrupt_ends_it_with_all_that_was_judged(run, folder, monkeypatch):
    save(folder / "a.png", 0)
    looks = iter((None, None))

    def sleep(_):
        if next(looks, "enough") == "enough":
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    arguments = ["watch", str(run), str(folder), "--out", str(folder.parent / "out"), "--pictures", "0"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "Stopped; what was judged is kept.")
    assert "a.png" in (folder.parent / "out/scores.csv").read_text()
