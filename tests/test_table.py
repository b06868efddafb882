import csv
import json

import pytest

from anogan_tf import table
from anogan_tf.table import ScoreTable

NAMES = ["plain.png", 'a "quoted", one.png', "two\nlines.png", "<b>bold</b>.png", "not\udcffutf-8.png"]
REGION = {"box": [1, 2, 3, 4], "area": 4, "peak": 0.5, "peak_at": [1, 2]}


def rows(names):
    row = {"residual": 0.1, "discrimination": 0.2, "p_value": None, "prediction": 1, "label": None}
    row["decision"] = "suspicious"
    return [{"id": name, "anomaly_score": NAMES.index(name) / 3, **row} for name in names]


def fill(folder, names, key=None):
    with ScoreTable(folder, key) as growing:
        left = [name for name in names if table.text(name) not in growing.ids]
        for name in left:
            growing.add(rows([name]), [[REGION]])
        growing.finish([("broken.png", "no image")])
    return left


def test_a_finished_table_is_a_csv_of_all_rows(tmp_path):
    fill(tmp_path, NAMES)
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["id"] for row in read] == [*map(table.text, NAMES), "broken.png"]
    assert tuple(read[0]) == table.COLUMNS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.txt", "regions.json", "scores.csv"]
    assert json.loads((tmp_path / "regions.json").read_text())["two\nlines.png"] == [REGION]


def test_rows_come_back_as_they_were(tmp_path):
    fill(tmp_path, NAMES)
    for number, (read, row) in enumerate(zip(table.scored_rows(tmp_path), rows(NAMES), strict=True), 1):
        assert read == {**row, "id": table.text(row["id"]), "number": number}
    assert [row["number"] for row in table.most_anomalous(tmp_path, 2)] == [5, 4]


@pytest.mark.parametrize("lost", range(0, 400, 23))
def test_a_table_cut_off_anywhere_ends_as_an_unbroken_one(tmp_path, lost):
    for folder in ("unbroken", "broken"):
        (tmp_path / folder).mkdir()
    fill(tmp_path / "unbroken", NAMES)
    with ScoreTable(tmp_path / "broken", "key") as growing:
        for name in NAMES[:4]:
            growing.add(rows([name]), [[REGION]])
    part = tmp_path / "broken/scores.key.part"
    whole = part.read_bytes()
    part.write_bytes(whole[: max(0, len(whole) - lost)])
    left = fill(tmp_path / "broken", NAMES, "key")
    assert len(left) >= 1
    assert lost == 0 or len(left) >= 2
    for name in ("scores.csv", "regions.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_a_table_of_another_key_is_begun_anew(tmp_path):
    with ScoreTable(tmp_path, "one") as growing:
        growing.add(rows(NAMES[:2]), [[], []])
    assert fill(tmp_path, NAMES[:2], "two") == NAMES[:2]
    assert not list(tmp_path.glob("*.part"))


def test_tables_of_before_errors_had_a_column_are_read_and_begun_anew(tmp_path):
    older = "id,anomaly_score,residual,discrimination,p_value,prediction,label,decision\r\n"
    (tmp_path / "scores.csv").write_text(f"{older}broken.png,,,,,skipped: no image,,\r\n")
    assert table.skipped_rows(tmp_path) == [("broken.png", "no image")]
    (tmp_path / "scores.key.part").write_text(f"{older}{NAMES[0]},0.5,,,,1,,normal\r\n")
    assert fill(tmp_path, NAMES, "key") == NAMES
    assert table.skipped_rows(tmp_path) == [("broken.png", "no image")]
    assert "skipped: " not in (tmp_path / "scores.csv").read_text()


def test_an_older_table_stays_until_the_new_one_is_finished(tmp_path):
    fill(tmp_path, NAMES)
    before = (tmp_path / "scores.csv").read_bytes()
    with ScoreTable(tmp_path) as growing:
        growing.add(rows(NAMES[:1]), [[]])
    assert (tmp_path / "scores.csv").read_bytes() == before


def test_only_tables_of_ours_are_begun_anew(tmp_path):
    (tmp_path / "scores.2024.part").write_text("mine")
    with ScoreTable(tmp_path, "one") as growing:
        growing.add(rows(NAMES[:2]), [[], []])
    fill(tmp_path, NAMES[:1], "two")
    assert [path.name for path in tmp_path.glob("*.part")] == ["scores.2024.part"]
