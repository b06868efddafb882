import pytest

from benchmarks import fanogan, mnist

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figures(real_data, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    figures = mnist.measure("2", real_data / "tensorflow_datasets", cache=cache)
    print(figures)
    return figures


def test_generator_draws_the_digit_it_was_trained_on(figures):
    assert figures["samples_called_normal"] >= 0.8


def test_generator_does_not_collapse(figures):
    assert figures["sample_diversity"] >= 0.7


def test_search_reconstructs_held_out_normal_images(figures):
    assert figures["reconstruction_to_mean_image_error"] <= 0.8


def test_scores_beat_pca_and_the_mean_image(figures):
    assert figures["auroc_features"] > figures["auroc_pca_32"] > figures["auroc_mean_image"]


def test_false_alarms_are_as_promised(figures):
    assert figures["false_alarm_rate_at_alpha_0.05"] < 0.11  # of about 200 normal images, with 1,191 to calibrate


@pytest.fixture(scope="module")
def encoders(real_data, tmp_path_factory):
    """Figures of the encoders of a short training, through the command line."""
    folder = tmp_path_factory.mktemp("fanogan")
    options = ["--data-dir", real_data / "tensorflow_datasets", "--cache", folder / "cache", "--epochs", "12"]
    rows, _ = fanogan.measure(fanogan.train("2", folder, list(map(str, options))), searches=False)
    print(rows)
    return rows


def test_encoders_reconstruct_held_out_normal_images(encoders):
    assert all(encoders[mode]["error"] <= 0.8 for mode in ("izi", "izi_f", "ziz", "variational"))


def test_training_on_images_and_features_beats_training_on_codes(encoders):
    assert encoders["izi_f"]["auroc"] > encoders["ziz"]["auroc"]
