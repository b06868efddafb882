import csv
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from anogan_tf.commands import protocols
from anogan_tf.commands.cli import main
from tests.conftest import draw_nothing
from tests.test_cli import parts  # noqa: F401

pytestmark = pytest.mark.usefixtures("same_place")


def row(case, auroc, seed=0, **figures):
    none = dict.fromkeys(protocols.MEASURED) | {"auroc_paper": 0.5, "n": 100, "n_paper": 100}
    none["settings"] = {"seed": seed}
    compared = {"mean image": {"auroc": 0.5}, "PCA-32": {"auroc": 0.6}}
    return none | {"case": case, "auroc": auroc, "baselines": compared, "command": "anogan-tf train x"} | figures


def benchmark(*arguments):
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A protocol that ran on one digit, as quickly as can be."""
    out = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "QUICK", ("--training-steps", "2", "--width", "4", "--steps", "2"))
        draw_nothing(patch)
        yield out, benchmark("digits", "--quick", "--case", "3", "--out", out)


def test_a_protocol_measures_us_and_what_we_must_beat(done):
    out, result = done
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "3.json").read_text())
    assert figures["n"] > 1000
    assert set(figures["baselines"]) == {
        "mean image", "PCA-32", "5 nearest neighbours", "auto-encoder", "Gaussian per position", "ours, untrained",
    }  # fmt: skip
    for found in [figures, *figures["baselines"].values()]:
        assert 0.0 <= found["auroc"] <= 1.0
    assert figures["baselines"]["PCA-32"]["auroc"] > 0.9  # it is real data, and PCA is fitted
    assert figures["settings"]["self_supervision"] == ["rotation", "shift"]
    assert figures["seconds_training"] > 0


def test_options_of_the_training_follow_a_protocol_without_a_source(monkeypatch):
    asked = []

    def run(*what, source, options, **_):
        asked.append((*what, source, list(options)))

    monkeypatch.setattr(protocols, "run", run)
    benchmark("cifar10", "--", "--quality", "high")
    benchmark("mvtec", ".", "--", "--width", "8")
    assert asked == [
        ("cifar10", "benchmark-cifar10", None, ["--quality", "high"]),
        ("mvtec", "benchmark-mvtec", ".", ["--width", "8"]),
    ]
    result = benchmark("mvtec", "nowhere")
    assert (result.exit_code, len(asked)) == (2, 2)
    assert "there is no nowhere" in result.output


def test_tables_hold_the_figures(done):
    out, result = done
    figures = json.loads((out / "3.json").read_text())
    with open(out / "table.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert float(line["auroc"]) == figures["auroc"]
    assert float(line["PCA-32: auroc"]) == figures["baselines"]["PCA-32"]["auroc"]
    assert f"| **anogan-tf** | {figures['auroc']:.3f} |" in (out / "table.md").read_text()
    assert (out / "table.md").read_text() in result.output


def test_a_case_that_is_done_is_not_done_again(done, monkeypatch):
    out, _ = done
    monkeypatch.setattr(protocols, "QUICK", ("--training-steps", "2", "--width", "4", "--steps", "2"))
    monkeypatch.setattr(protocols, "_measure", lambda place: pytest.fail("measured again"))
    assert benchmark("digits", "--quick", "--case", "3", "--out", out).exit_code == 0
    result = benchmark("digits", "--quick", "--case", "3", "--out", out, "--seed", "1")
    assert result.exit_code == 1
    assert "made by another command" in result.output


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_categories_are_folders(parts, tmp_path, monkeypatch):  # noqa: F811
    small = ("--size", "16", "--channels", "1", "--alpha", "0.2", "--start", "prior")
    monkeypatch.setattr(protocols, "QUICK", ("--training-steps", "2", "--width", "4", "--steps", "2", *small))
    result = benchmark("mvtec", parts, "--quick", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / f"{parts.name}.json").read_text())
    assert figures["settings"]["score_kind"] == "neighbours"
    for found in (figures, figures["baselines"]["PCA-32"]):
        assert 0.0 <= found["pixel_auroc"] <= 1.0
        assert 0.0 <= found["aupro"] <= 1.0
    assert "ours, untrained" not in figures["baselines"]  # ours is


def test_tuned_and_untuned_cases_are_told_apart():
    protocol = protocols.Protocol(("a", "b", "c"), {"Others": {"a": 0.4, "mean": 0.45}}, looked_at=("a",))
    table = protocols.markdown("x", protocol, [row("a", 0.9), row("b", 0.8), row("c", 0.6)])
    assert "Settings were chosen on a;" in table
    assert "| **anogan-tf** | 0.900 | 0.800 | 0.600 | 0.767 | 0.700 |" in table
    assert "| Others, published | 0.400 | – | – | 0.450 | – |" in table


def test_published_means_stand_beside_means_of_the_same_cases():
    protocol = protocols.Protocol(("a", "b", "c"), {"Others": {"a": 0.4, "mean": 0.45}, "Another": {"mean": 0.5}})
    table = protocols.markdown("x", protocol, [row("a", 0.9), row("b", 0.8)])
    assert "| Others, published | 0.400 | – | – | – |" in table
    assert "| Another" not in table
    assert "Published means over all 3 cases: Others 0.450; Another 0.500." in table
    assert "ublished" not in protocols.markdown("x", protocol, [row("mine", 0.9)])


def test_of_several_seeds_there_are_means_and_deviations():
    rows = [row("a", 0.90), row("b", 0.80), row("a", 0.94, 1, accuracy=0.5), row("b", 0.82, 1), row("a", 0.92, 2)]
    table = protocols.markdown("x", protocols.Protocol(("a", "b"), looked_at=("b",)), rows)
    assert "Mean ± standard deviation of the seeds 0, 1, 2." in table
    assert "| **anogan-tf** | 0.920 ± 0.020 | 0.810 ± 0.014 | 0.865 ± 0.021 | 0.920 ± 0.020 |" in table
    assert "| accuracy | 0.500 | – |" in table
    found = protocols.spread(rows)
    assert found["a"]["auroc"] == {"seeds": [0, 1, 2], "values": [0.9, 0.94, 0.92]} | {
        "mean": pytest.approx(0.92),
        "std": pytest.approx(0.02),
    }
    assert found["b"]["PCA-32: auroc"]["std"] == 0
    assert found["a"]["accuracy"]["std"] is None


@pytest.fixture
def measured(monkeypatch):
    """The commands that were run, none of which trains: AUROC is 0.9 and a hundredth of the seed."""
    commands = []

    def case(name, out, command):
        commands.append(command)
        seed = int(command.split("--seed ")[1].split()[0])
        found = row(name, 0.9 + seed / 100, seed, command=command)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps(found))
        return found

    monkeypatch.setattr(protocols, "_case", case)
    return commands


def test_seeds_are_run_one_after_the_other_into_one_table(measured, tmp_path):
    result = benchmark("digits", "--case", "3", "--case", "5", "--seed", "1", "--seeds", "2", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert [command.partition("--normal ")[2] for command in measured] == [
        f"3 --seed 1 --out {tmp_path / '3'}",
        f"5 --seed 1 --out {tmp_path / '5'}",
        f"3 --seed 2 --out {tmp_path / 'seed-2' / '3'}",
        f"5 --seed 2 --out {tmp_path / 'seed-2' / '5'}",
    ]
    assert "| **anogan-tf** | 0.915 ± 0.007 | 0.915 ± 0.007 | 0.915 ± 0.007 |" in result.output
    with open(tmp_path / "table.csv", newline="") as file:
        assert [(line["case"], line["seed"]) for line in csv.DictReader(file)] == [
            ("3", "1"), ("5", "1"), ("3", "2"), ("5", "2"),
        ]  # fmt: skip
    assert json.loads((tmp_path / "spread.json").read_text())["3"]["auroc"]["seeds"] == [1, 2]


def test_any_class_of_an_npz_file_is_a_case(measured, tmp_path):
    images, labels = np.zeros((3, 8, 8), np.uint8), np.array([[2], [0], [10]])
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    for arguments, normal in (([], "0"), (["--case", "10"], "10")):
        result = benchmark("npz", tmp_path / "x.npz", *arguments, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert f"--normal {normal} " in measured[-1]
    assert len(measured) == 2
    assert "| normal | 0 | 10 | mean |" in result.output
    refused = benchmark("npz", tmp_path / "x.npz", "--case", "1", "--out", tmp_path / "out")
    assert "npz has the cases 0, 2, 10. Received: 1." in refused.output


def test_categories_of_one_folder_are_in_one_table(measured, tmp_path):
    for name in ("screw", "nut"):
        (tmp_path / "parts" / name / "train" / "good").mkdir(parents=True)
    result = benchmark("mvtec", tmp_path / "parts", "--out", tmp_path / "out")
    assert "| **anogan-tf** | 0.900 | 0.900 | 0.900 |" in result.output
    assert [command.split()[2] for command in measured] == [str(tmp_path / "parts" / name) for name in ("nut", "screw")]


def test_a_part_of_the_test_images_is_named():
    table = protocols.markdown("x", protocols.Protocol(("a",)), [row("a", 0.9, n=5000, n_paper=2000)])
    assert "| A(x) alone (2000 of the test images) | 0.500 |" in table


def test_pixels_are_shown_of_cases_that_have_masks():
    masked = row("a", 0.9, baselines={"PCA-32": {"auroc": 0.6, "pixel_auroc": 0.7}})
    unmasked = row("b", 0.8, baselines={"PCA-32": {"auroc": 0.6}})
    for rows, figures in (([masked, unmasked], "0.700 | –"), ([unmasked, masked], "– | 0.700")):
        table = protocols.markdown("x", protocols.Protocol(("a", "b")), rows)
        assert f"| pixel auroc of PCA-32 | {figures} |" in table


@pytest.mark.parametrize("classes", [np.repeat([0, 1], [3000, 1]), np.repeat([0, 1], [3000, 500])])
def test_searches_are_tried_on_a_share_of_each_class(classes):
    chosen = protocols._stratified(classes)
    assert len(chosen) == protocols.SEARCHED
    if classes.sum() > 1:
        assert classes[chosen].mean() == pytest.approx(classes.mean(), abs=0.001)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_published_means_are_those_of_the_published_cases(name):
    for figures in protocols.PROTOCOLS[name].published.values():
        if len(figures) > 2:
            cases = [figures[case] for case in protocols.PROTOCOLS[name].cases]
            assert figures["mean"] == pytest.approx(np.mean(cases), abs=0.001)


def test_cases_that_are_done_stay_in_the_table(done, monkeypatch):
    out, _ = done
    monkeypatch.setattr(protocols, "QUICK", ("--training-steps", "2", "--width", "4", "--steps", "2"))
    figures = json.loads((out / "3.json").read_text())
    other = figures | {"case": "5", "command": figures["command"].replace("--normal 3", "--normal 5")[:-1] + "5"}
    foreign = figures | {"case": "7"}
    for case in (other, foreign):
        (out / f"{case['case']}.json").write_text(json.dumps(case))
    assert benchmark("digits", "--quick", "--case", "3", "--out", out).exit_code == 0
    assert "| normal | 3 | 5 | mean |" in (out / "table.md").read_text()
    for case in "57":
        (out / f"{case}.json").unlink()


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "Received: 0 of"), (["--", "--patches"], "has no --patches")],
    ids=["nothing to test on", "patches"],
)
def test_what_cannot_be_measured_is_not_trained(options, message, parts, tmp_path):  # noqa: F811
    (tmp_path / "train").mkdir()
    shutil.copytree(parts / "train" / "good", tmp_path / "train" / "good")
    result = benchmark("mvtec", tmp_path if not options else parts, "--out", tmp_path / "out", *options)
    assert result.exit_code == 1
    assert message in result.output
    assert not list((tmp_path / "out").glob("*/run.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mvtec"], "needs a folder of a category or of several"),
        (["npz"], "needs a file"),
        (["digits", "--case", "x"], "has the cases 0, 1, 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_refused(arguments, message, tmp_path):
    result = benchmark(*arguments, "--out", tmp_path)
    assert result.exit_code == 1
    assert message in result.output
