import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import anogan_tf as agt
from anogan_tf import networks
from benchmarks import (
    decisions,
    devices,
    export,
    local_features,
    measuring,
    reconstruction,
    scale,
    search_throughput,
    serve,
    startup,
    time_to_quality,
    training,
)

HAZELNUT = {"image_shape": (16, 16, 3), "latent_dim": 8, "architecture": "hazelnut", "width": 4}
DCGAN = {"image_shape": (28, 28, 1), "latent_dim": 8, "width": 4}


def quick(module, monkeypatch, tmp_path):
    """What `python -m benchmarks.MODULE --quick` writes."""
    tf.random.set_seed(0)  # which Dropout and noise of other libraries' ways need under determinism
    out = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", [module.__name__, "--quick", "--out", str(out)])
    module.main()
    written = json.loads(out.read_text())
    assert str(tmp_path) not in written["command"]
    assert {"cpu", "flags", "cores", "memory_gib", "load_average"} <= set(written["machine"])
    assert "tensorflow" in written["versions"]
    return written


@pytest.mark.filterwarnings("ignore")  # of Keras 2 and PyTorch
def test_search_throughput(monkeypatch, tmp_path):
    first, *_ = quick(search_throughput, monkeypatch, tmp_path)["networks"]["8×8×1"]
    for clock in ("wall", "cpu"):
        ratios = first[f"times_as_long_as_search_{clock}"]
        assert {"convolutions", "one image, Python loop", "seed"} <= set(ratios)
        assert all(ratio > 0 for ratio in ratios.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras 2
def test_time_to_quality(monkeypatch, tmp_path):
    ways = quick(time_to_quality, monkeypatch, tmp_path)["ways"]
    assert {"default search", "hybrid, 20 steps", "one pass", "seeds' settings, batched", "seeds' own way"} == set(ways)
    assert ways["default search"]["times_as_long_as_default"] == 1.0
    assert 0 <= ways["one pass"]["auroc"] <= 1


@pytest.mark.slow
def test_training(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "FOLDER_SHAPE", (16, 16, 3))
    monkeypatch.setattr(training, "CRITIC_STEPS", 1)
    monkeypatch.setattr(measuring, "REPETITIONS", 1)  # of passes over the folder
    figures = quick(training, monkeypatch, tmp_path)
    assert set(figures["bare_loop_over_fit"]) == {"DCGAN", "WGAN-GP", "encoder"}
    assert all(0 < waited["share"] < 1 for waited in figures["waiting_for_data"].values())


def test_scale(monkeypatch, tmp_path):
    rows = quick(scale, monkeypatch, tmp_path)["rows"]
    assert [row["images"] for row in rows] == [100, 300]
    assert rows[0]["more_than_first_mb"] == 0


def test_features_and_distances_are_timed(monkeypatch, tmp_path):
    figures = quick(local_features, monkeypatch, tmp_path)["figures"]
    assert set(figures) == {"features", "places", "kinds"}
    assert all(figure["cpu_seconds"] > 0 for figure in figures.values())


def test_startup(monkeypatch, tmp_path):
    figures = quick(startup, monkeypatch, tmp_path)
    assert {"an empty program", "anogan-tf --help", "import anogan_tf"} == set(figures["processes"])
    assert set(figures["scores"]) == {"search", "one pass"}


@pytest.mark.slow
def test_a_server_under_load_and_attack(monkeypatch, tmp_path):
    monkeypatch.setenv("ANOGAN_TF_WEIGHTS", str(Path(__file__).parents[1] / "weights"))
    figures = quick(serve, monkeypatch, tmp_path)["runs"]["mnist-8"]
    assert figures["load"]["pictures"] > 0
    assert figures["load"]["errors"] == 0
    assert figures["hostile"]["faults"] == []
    assert figures["hostile"]["good picture unchanged"]


def test_ways_that_are_too_slow_have_no_turn():
    timings = measuring.Timings({"slow": lambda: sum(range(10**6)), "fast": lambda: None}, limit=1e-3)
    assert set(timings.too_slow) == {"slow"}
    assert timings.ratio("fast", "fast") == 1.0


@pytest.mark.parametrize("options", [HAZELNUT, DCGAN], ids=["hazelnut", "dcgan"])
@pytest.mark.filterwarnings("ignore")  # of PyTorch
def test_networks_in_pytorch_and_keras_2_draw_the_same(options):
    torch = pytest.importorskip("torch")
    from benchmarks.seed_search import rebuilt
    from benchmarks.torch_networks import TorchNetwork

    gan, rng = agt.DCGAN(**options), np.random.default_rng(0)
    for network in (gan.generator, gan.discriminator):
        network.set_weights([weights + rng.uniform(0, 0.1, weights.shape) for weights in network.get_weights()])
    extractor = networks.feature_extractor(gan.discriminator)
    z = rng.normal(size=(3, gan.latent_dim)).astype(np.float32)
    images = gan.generator(z, training=False).numpy()
    (features,) = extractor(images, training=False).values()
    drawn = TorchNetwork(gan.generator)(torch.from_numpy(z))
    np.testing.assert_allclose(drawn.permute(0, 2, 3, 1), images, atol=1e-4)
    found = TorchNetwork(extractor)(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), features, atol=1e-4)
    np.testing.assert_allclose(rebuilt(gan.generator)(z), images, atol=1e-4)


def test_a_row_of_exports_has_what_was_found():
    ms = {"export 1": 11.24, "python 1": 3822.4}  # of a search, which is timed of one picture
    found = {"differences": {"anomaly_score": 7.4e-7}, "ms": ms, "megabytes": 4.55}
    assert measuring.table(export.TITLES, [export.row("mnist-8", "onnx", found)]).splitlines()[-1] == (
        "| mnist-8 | onnx | 7e-07 |  |  | 11.2 |  | 3,822 |  | 4.55 |"
    )


def test_devices_are_compared(monkeypatch, tmp_path, capsys):
    found = {
        "GPU": (
            {"a step": 0.1, "at 256": 0.3, "same bits alone": True},
            {"anomaly_score": np.array([1.0, 2.5])},
        ),
        "CPU": ({"a step": 0.4, "same bits alone": True}, {"anomaly_score": np.array([1.0, 2.0])}),
    }
    monkeypatch.setattr(devices, "of_device", lambda device, arguments: found[device])
    monkeypatch.setattr(sys, "argv", ["devices", "--run", "r", "--pictures", "p", "--out", str(tmp_path / "out.json")])
    devices.main()
    assert json.loads((tmp_path / "out.json").read_text())["differences"] == {"anomaly_score": 0.25}
    assert "| a step | 0.1 | 0.4 | 4 |" in (shown := capsys.readouterr().out)
    assert "| at 256 | 0.3 |  |  |" in shown


@pytest.mark.filterwarnings("ignore:α = 0.05 needs at least")
def test_study_of_decisions_counts_what_is_found(monkeypatch, tmp_path):
    """12 good noisy pictures, of which 8 are known; a bright square is in the masks' place."""
    monkeypatch.setattr(decisions, "SIDE", 64)
    rng, square = np.random.default_rng(0), np.s_[20:36, 20:36]
    for part, n in (("train/good", 10), ("test/good", 2), ("test/hole", 3), ("ground_truth/hole", 3)):
        (tmp_path / part).mkdir(parents=True)
        for i in range(n):
            levels = np.uint8(rng.normal(128, 6, (64, 64)))
            if part.startswith("ground_truth"):
                levels[:] = 0
            if "hole" in part:
                levels[square] = 255
            suffix = "_mask" if part.startswith("ground_truth") else ""
            Image.fromarray(levels).save(tmp_path / part / f"{i}{suffix}.png")
    found = decisions.study(tmp_path, 0)
    assert found["good"] == 8
    for way in ("before", "now"):
        assert (found[way]["defects"], found[way]["new_good"]) == (3, 4)
        assert found[way]["auroc"] == 1.0
    assert found["now"]["found"] == found["now"]["alarms_with_region"] == 3
    assert found["now"]["regions_on_mask"] == 1.0
    assert 0 < found["now"]["iou"] < 1


@pytest.mark.filterwarnings("ignore:α = 0.05 needs at least")
def test_simulated_rates_of_false_alarms_are_rates():
    found = decisions.simulation(12, splits=2, new=10)
    assert found["promised_of_split"] == pytest.approx(1 / 13)
    for kind in ("places", "kinds"):
        assert 0.0 <= found[kind]["low"] <= found[kind]["mean"] <= found[kind]["high"] <= 1.0


def test_a_defect_that_is_drawn_is_told_from_a_part_as_it_should_be():
    rng = np.random.default_rng(0)
    normal = 0.1 * rng.normal(size=(12, 8, 8, 1))
    train, good, anomalous = normal[:6], normal[6:9], normal[9:]
    mask = np.zeros((16, 16), bool)  # of the picture in its own size
    mask[4:8, 6:12] = True
    rows = [{"label": 0}] * 3 + [{"label": 1, "mask": mask}] * 3
    healed = reconstruction.defect_drawn(train, rows, [*good, *anomalous])
    assert 0.5 < healed < 2
    scratched = anomalous.copy()
    scratched[:, 2:4, 3:6] = 1.0
    nearest = min(np.mean((image[2:4, 3:6] - 1.0) ** 2) for image in train)
    of_good = [min(np.mean((image[2:4, 3:6] - each[2:4, 3:6]) ** 2) for image in train) for each in good]
    found = reconstruction.defect_drawn(train, rows, [*good, *scratched])
    assert found == pytest.approx(nearest / np.mean(of_good))
    assert found > 20
