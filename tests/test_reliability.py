import csv
import json
import resource
import signal
import subprocess
import sys
import threading
import time

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import anogan_tf as agt
from anogan_tf import atomic, metrics, patches, thresholds
from anogan_tf.callbacks import Checkpoint, StopOnNaN
from anogan_tf.data import images as image_files
from benchmarks import reliability
from tests.conftest import small_gan

NAMES = [b"plain.png", b'a "quoted", one.png', b"two\nlines.png", b"<b>bold<b>.png", b"not \xff utf-8.png"]
scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)
alphas = st.floats(0.001, 0.999)


@pytest.fixture
def run(scorer, tmp_path):
    agt.save_run(tmp_path / "run", scorer, preprocessing={"image_shape": [8, 8, 1]})
    return tmp_path / "run"


def batches(images):
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


@pytest.mark.slow
@pytest.mark.parametrize("name", reliability.RUNS)
def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(name):
    result = reliability.kill_training(name, 3)
    assert sum(result["kills"].values()) >= 1
    assert result["identical"]


@pytest.mark.slow
def test_killed_scoring_goes_on_and_has_each_image_once():
    result = reliability.kill_scoring(3)
    assert result["kills"] >= 1
    assert result["identical"]


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow)],
)
def test_a_signal_ends_a_training_with_the_command_to_go_on(number, tmp_path):
    command = [*reliability.TRAIN, "--epochs", "100000", "--out", tmp_path / "run"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would hand on that it
    process = reliability.start(command)  # ignores SIGINT
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / "run" / "checkpoint.weights.h5").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"To go on:\n  anogan-tf train digits" in output
    gan = agt.DCGAN((8, 8, 1), 6, architecture="principal-dcgan", width=4, self_supervision=("rotation", "shift"))
    gan.compile(*(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 10)) for _ in range(2)))
    gan.load_weights(tmp_path / "run" / "checkpoint.weights.h5")


@pytest.mark.usefixtures("untraced")
def test_a_full_disk_leaves_the_last_checkpoint(images, tmp_path):
    gan = small_gan()
    gan.compile()
    path = tmp_path / "checkpoint.weights.h5"
    dataset = batches(images)
    gan.fit(dataset, verbose=0, shuffle=False, callbacks=[Checkpoint(path)])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"No room for .* MiB in"):
            gan.fit(dataset, epochs=3, verbose=0, shuffle=False, callbacks=[Checkpoint(path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:Of .* files only the first page is read")
def test_damaged_images_are_read_or_refused(tmp_path):
    result = reliability.mutate(200, tmp_path)
    assert result["read"] + result["refused"] == 200
    assert min(result["read"], result["refused"]) > 20
    assert result["good unchanged"]
    assert result["slowest"] < 30
    assert result["memory grown, MiB"] < 500


def test_the_same_images_score_the_same_again_and_beside_strange_names(run, tmp_path):
    reliability.save_digits(tmp_path / "good", 20)
    reliability.save_digits(tmp_path / "all", 20)
    folder = bytes(tmp_path / "all") + b"/"
    for number, name in enumerate(NAMES):
        with open(folder + name, "wb") as file:
            file.write(b"no image" if number % 2 else (tmp_path / "good/0000.png").read_bytes())
    rows = {}
    for name, images in (("good", "good"), ("again", "good"), ("all", "all")):
        out = tmp_path / f"{name}-results"
        reliability.finish(["score", run, tmp_path / images, "--out", out, "--pictures", "1"])
        with open(out / "scores.csv", newline="", encoding="utf-8") as file:
            rows[name] = {row["id"].partition(f"/{images}/")[2]: row for row in csv.DictReader(file)}
    first, again = ((tmp_path / f"{name}-results" / "scores.csv").read_bytes() for name in ("good", "again"))
    assert first == again  # bit by bit, and nothing of when it was scored
    assert len(rows["all"]) == 20 + len(NAMES)
    for name, row in rows["good"].items():
        assert row["anomaly_score"] == rows["all"][name]["anomaly_score"]
    strange = [name.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode() for name in NAMES]
    first = rows["good"]["0000.png"]["anomaly_score"]
    assert [rows["all"][name]["anomaly_score"] for name in strange] == [first, "", first, "", first]
    assert "<b>" not in (tmp_path / "all-results" / "index.html").read_text()


def external_link(file):
    file["elsewhere"] = h5py.ExternalLink("/etc/hosts", "/")


def soft_link(file):
    file["elsewhere"] = h5py.SoftLink("/layers")


def external_storage(file):
    file.create_dataset("elsewhere", (10,), "f4", external=[("/etc/hosts", 0, 40)])


def virtual(file):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (10,))
    file.create_virtual_dataset("elsewhere", layout)


@pytest.mark.parametrize("name", ["generator", "reference"])
@pytest.mark.parametrize("add", [external_link, soft_link, external_storage, virtual])
def test_weight_files_that_refer_to_others_are_refused(run, add, name):
    with h5py.File(run / f"{name}.weights.h5", "a") as file:
        add(file)
    with pytest.raises(ValueError, match=rf"{name}.weights.h5: elsewhere refers to something else"):
        agt.load_run(run)


def test_arrays_larger_than_their_file_are_refused(run):
    with h5py.File(run / "reference.weights.h5", "a") as file:
        file.create_dataset("huge", (2**40,), "f4")
    with pytest.raises(ValueError, match="huge is not an array of floats that the file holds"):
        agt.load_run(run)


def test_links_out_of_a_run_are_refused(run, tmp_path):
    (run / "generator.weights.h5").rename(tmp_path / "elsewhere.h5")
    (run / "generator.weights.h5").symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(ValueError, match="a link to a file outside of the run"):
        agt.load_run(run)


def code(where):
    """A Lambda layer, as a hostile file would have Keras make it."""
    return {"module": "keras.layers", "class_name": "Lambda", "config": {"function": where}, "registered_name": None}


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("gan", {"width": 10**7}),
        ("gan", {"latent_dim": 10**12}),
        ("gan", {"image_shape": [10**6, 10**6, 3]}),
        ("gan", {"kernel_initializer": code("x")}),
        ("gan", {"kind": "os.system"}),
        ("gan", {"unknown": 1}),
        ("scorer", {"learning_rate": code("x")}),
        ("scorer", {"learning_rate": {"module": "os", "class_name": "system", "config": {"command": "true"}}}),
        ("scorer", {"chunk": "many"}),
        ("scorer", {"unknown": 1}),
        ("calibration", {"unknown": 1}),
    ],
    ids=str,
)
def test_runs_with_hostile_or_damaged_settings_are_refused(run, part, change):
    description = json.loads((run / "run.json").read_text())
    description[part] |= change
    (run / "run.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"."):
        agt.load_run(run)


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", "null", '{"format": 2, "complete": true}', "\x00"])
def test_a_run_json_of_another_kind_is_refused(run, content):
    (run / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json"):
        agt.load_run(run)


@pytest.mark.usefixtures("untraced")
def test_training_stops_when_weights_are_no_longer_finite_and_keeps_the_checkpoint(images, tmp_path):
    gan = small_gan()
    gan.compile()
    path = tmp_path / "checkpoint.weights.h5"

    class Break(Checkpoint):
        def on_train_batch_end(self, batch, logs=None):
            gan.generator.weights[0].assign(gan.generator.weights[0] * np.nan)

    gan.fit(batches(images), verbose=0, shuffle=False, callbacks=[StopOnNaN(), Checkpoint(path)])
    before = path.read_bytes()
    with pytest.raises(ArithmeticError, match=r"epoch 2, .*kernel has values that are not finite"):
        gan.fit(
            batches(images[:8]),
            epochs=3,
            verbose=0,
            shuffle=False,
            callbacks=[StopOnNaN(), Break(path, every_seconds=0)],
        )
    assert path.read_bytes() == before


def test_an_image_that_is_not_finite_is_named(scorer, images):
    broken = np.array(images[:3])
    broken[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="Image 2 has values that are not finite"):
        scorer.score(broken)


def test_a_search_that_meets_nan_names_the_image(images):
    gan = small_gan()
    gan.generator.weights[0].assign(gan.generator.weights[0] * np.nan)
    with pytest.raises(ArithmeticError, match=r"scores of 2 images are not finite.*first: 1\."):
        agt.AnoGAN(gan, steps=2, chunk=4, score="paper").score(images[:2])


def test_threads_get_the_scores_they_would_get_alone(scorer, images):
    parts = [images[i : i + 10] for i in range(0, 40, 10)]
    alone = [scorer.score(part)["anomaly_score"] for part in parts]
    together = [[] for _ in parts]

    def work(number):
        for _ in range(3):
            together[number].append(scorer.score(parts[number])["anomaly_score"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, found in zip(alone, together, strict=True):
        assert len(found) == 3
        for values in found:
            np.testing.assert_array_equal(values, expected)


def test_a_folder_is_locked_while_its_process_lives(tmp_path):
    code = (
        "import sys, time; from anogan_tf import atomic\n"
        f"with atomic.exclusive({str(tmp_path)!r}): print('locked', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(BlockingIOError, match="Another process is writing"), atomic.exclusive(tmp_path):
        pass
    process.kill()
    process.communicate()
    with atomic.exclusive(tmp_path):
        pass


def test_a_short_soak_keeps_scores_memory_and_traces():
    result = reliability.soak(0.05)
    assert result["same scores"]
    assert result["traces"] == 1
    assert result["spans"][-1]["memory, MiB"] - result["spans"][0]["memory, MiB"] < 100


def test_false_alarms_are_within_chance_of_what_is_promised():
    for row in reliability.cover(500):
        assert row["rate"] <= row["most by chance"]
        if row["scores"] == "normal":
            np.testing.assert_allclose(row["5 %, 95 % of sets"], row["5 %, 95 % of Beta"], rtol=0.5, atol=0.01)


@given(scores, alphas)
@pytest.mark.filterwarnings("ignore:α =")
def test_a_threshold_is_one_of_the_scores_and_exceeded_as_often_as_it_says(values, alpha):
    threshold, attained = thresholds.conformal(values, alpha)
    assert threshold in values
    assert sum(value > threshold for value in values) <= attained * (len(values) + 1)


@given(scores, scores)
def test_p_values_are_shares_and_fall_as_scores_rise(values, others):
    p = thresholds.p_values(sorted(others), values)
    assert np.all((p >= 1 / (len(values) + 1)) & (p <= 1))
    assert np.all(np.diff(p) <= 0)


@given(scores, st.data())
def test_image_metrics_are_shares_that_count_every_image(values, data):
    labels = data.draw(st.lists(st.sampled_from([0, 1]), min_size=len(values), max_size=len(values)))
    found = metrics.image_metrics(labels, values, data.draw(st.sampled_from(values)))
    assert sum(found["confusion"].values()) == len(values)
    assert 0 <= found["accuracy"] <= 1
    assert (found["auroc"] is None) == (len(set(labels)) < 2)


@given(st.integers(8, 70), st.integers(8, 70), st.integers(8, 20), st.integers(8, 20), st.floats(0, 0.9))
def test_tiles_cover_every_pixel_and_stay_inside(height, width, rows, columns, overlap):
    assume(rows <= height and columns <= width)
    covered = np.zeros((height, width), int)
    for top, left in patches.grid((height, width), (rows, columns), overlap=overlap):
        assert 0 <= top <= height - rows
        assert 0 <= left <= width - columns
        covered[top : top + rows, left : left + columns] += 1
    assert covered.min() >= 1


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(8, 40), st.integers(0, 255), st.sampled_from([1, 3]))
def test_a_picture_of_one_gray_stays_so_whatever_the_sizes(height, width, side, level, channels):
    picture = Image.new("L", (width, height), level)
    resized = image_files.fit(picture, (side, side, channels))
    assert resized.shape == (side, side, channels)
    np.testing.assert_allclose(resized, level / 127.5 - 1, atol=1e-6)
