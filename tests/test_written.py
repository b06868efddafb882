import pytest

from anogan_tf import written


def put(folder, *names):
    for name in names:
        (folder / name).write_text(name)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_only_listed_files_are_removed(tmp_path):
    put(tmp_path, "test_image_001.png", "test_image_002.png", "scores.csv", "mine.txt")
    written.add(tmp_path, "test_image_001.png", "scores.csv", "never_written.png")
    written.remove(tmp_path, keep=("scores.csv", "regions.json"))
    assert names(tmp_path) == {"test_image_002.png", "scores.csv", "mine.txt", "files.txt"}
    assert written.listed(tmp_path) == {"scores.csv"}


def test_a_name_that_is_added_again_is_one_file(tmp_path):
    written.add(tmp_path, "roc.png")
    written.add(tmp_path, "roc.png", "histogram.png")
    assert written.listed(tmp_path) == {"roc.png", "histogram.png"}
    written.remove(tmp_path, keep=("roc.png",))
    assert (tmp_path / "files.txt").read_text() == "roc.png\n"


def test_adding_costs_the_same_however_many_are_listed(tmp_path, monkeypatch):
    written.add(tmp_path, "roc.png")
    monkeypatch.setattr(written, "listed", lambda folder: pytest.fail("the list was read"))
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: pytest.fail("the list was read"))
    written.add(tmp_path, "histogram.png")
    monkeypatch.undo()
    assert written.listed(tmp_path) == {"roc.png", "histogram.png"}


def test_a_list_reaches_no_file_outside_of_its_folder(tmp_path):
    (tmp_path / "results").mkdir()
    put(tmp_path, "precious.txt")
    written.add(tmp_path / "results", "../precious.txt", str(tmp_path / "precious.txt"))
    written.remove(tmp_path / "results")
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize(
    "name",
    ["index.html", "files.json.part", "test_image_001.png", "anomaly_map_1234.tiff", "scores.csv", "search_path.png"],
)
def test_a_folder_with_files_that_a_report_would_replace_is_refused(tmp_path, name):
    put(tmp_path, name, "holiday.png")
    if name == "files.json.part":
        return written.check(tmp_path)
    with pytest.raises(FileExistsError, match=rf"holds 1 files .* such as {name}"):
        written.check(tmp_path)
    written.add(tmp_path, name)
    written.check(tmp_path)
    return None


def test_a_figure_of_another_name_is_looked_for_too(tmp_path):
    put(tmp_path, "losses.png")
    written.check(tmp_path)
    with pytest.raises(FileExistsError, match=r"losses\.png"):
        written.check(tmp_path, "losses.png")


def test_a_report_from_before_there_were_lists_is_replaced(tmp_path):
    put(tmp_path, "index.html", "metrics.json", "scores.csv", "test_image_001.png")
    written.check(tmp_path)
    (tmp_path / "scores.csv").unlink()
    with pytest.raises(FileExistsError):
        written.check(tmp_path)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    written.check(tmp_path / "new")


def test_files_of_the_page_go_with_their_folder_but_not_through_a_link(tmp_path):
    for folder in ("results/page", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        put(tmp_path / folder, "thumbnail_001.jpg")
    written.add(tmp_path / "results", "page/thumbnail_001.jpg", "page/../../elsewhere/thumbnail_001.jpg")
    written.remove(tmp_path / "results")
    assert not (tmp_path / "results" / "page").exists()
    (tmp_path / "results" / "page").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match=r"page/thumbnail_001\.jpg"):
        written.check(tmp_path / "results")
    written.add(tmp_path / "results", "page/thumbnail_001.jpg")
    written.remove(tmp_path / "results")
    assert (tmp_path / "elsewhere" / "thumbnail_001.jpg").exists()
