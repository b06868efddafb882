import subprocess
import sys

import pytest

from anogan_tf import atomic


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.weights.h5"
    for content in ("old", "new"):
        with atomic.replacing(path) as partial:
            assert partial.parent == tmp_path
            assert partial.name.endswith(".weights.h5")
            partial.write_text(content)
        assert path.read_text() == content
    assert names(tmp_path) == ["a.weights.h5"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_keeps_the_old_file_and_leaves_no_other(tmp_path, error):
    (tmp_path / "a").write_text("old")

    def fail():
        with atomic.replacing(tmp_path / "a") as partial:
            partial.write_text("half of")
            raise error

    with pytest.raises(error):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_reports_are_written_without_tensorflow():
    modules = "atomic, metrics, plots, report, thresholds"
    code = f"import sys; from anogan_tf import {modules}; print('tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
