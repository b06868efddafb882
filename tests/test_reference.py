import keras
import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf import reference
from anogan_tf.kinds import KINDS, Seen, told
from anogan_tf.subspace import PrincipalSubspace
from tests.conftest import small_gan


def test_principal_subspace_distance_is_pca_reconstruction_error():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    inside = rng.normal(size=(50, 3)) @ basis[:3] + 5.0
    subspace = PrincipalSubspace.fit(inside.astype(np.float32), n_components=3)
    beside = inside[:4] + 2.0 * basis[7]
    np.testing.assert_allclose(subspace(inside.astype(np.float32)), 0.0, atol=1e-8)
    np.testing.assert_allclose(subspace(beside.astype(np.float32)), 4.0 / 12, rtol=1e-3)


def test_subspace_leaves_something_outside_however_few_the_images():
    vectors = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    assert PrincipalSubspace.fit(vectors).components.shape == (3, 40)
    with pytest.raises(ValueError, match=r"at least 2 normal images\. Received: 1"):
        PrincipalSubspace.fit(vectors[:1])


def test_one_kind_of_evidence_is_its_own_score():
    surprise = np.array([0.5, 2.0], np.float32)
    np.testing.assert_array_equal(reference.Reference()({"transformations": surprise}), surprise)


def test_blended_log_scores_are_standardised_on_normal_images():
    rng = np.random.default_rng(0)
    evidence = {
        "features": rng.normal(size=(400, 20)).astype(np.float32),
        "transformations": np.exp(rng.normal(3.0, 0.5, size=400)).astype(np.float32),
    }
    learned = reference.Reference.fit(evidence)
    mean, deviation, weight = learned.log_scores["transformations"]
    assert (mean, deviation) == pytest.approx((3.0, 0.5), abs=0.1)
    assert weight == 1.0
    new = {
        "features": rng.normal(size=(400, 20)).astype(np.float32),
        "transformations": np.exp(rng.normal(3.0, 0.5, size=400)).astype(np.float32),
    }
    scores = learned(new)
    assert scores.mean() == pytest.approx(0.0, abs=0.15)
    doubled = learned(new | {"transformations": new["transformations"] * np.exp(1.0)})
    np.testing.assert_allclose(doubled - scores, 1.0 / deviation / 2, rtol=1e-3)  # half the blend, 1/σ standard units


def test_units_of_a_kind_do_not_matter():
    rng = np.random.default_rng(1)
    evidence = {"features": rng.normal(size=(60, 9)), "transformations": rng.uniform(1.0, 2.0, size=60)}
    scaled = evidence | {"transformations": 1000.0 * evidence["transformations"]}
    scores = [reference.Reference.fit(found)(found) for found in (evidence, scaled)]
    np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.mark.parametrize("names", [("features",), ("features", "transformations")])
def test_arrays_hold_all_that_was_learned(names):
    rng = np.random.default_rng(2)
    evidence = {"features": rng.normal(size=(30, 9)).astype(np.float32), "transformations": rng.uniform(size=30)}
    evidence = {name: evidence[name] for name in names}
    learned = reference.Reference.fit(evidence)
    np.testing.assert_array_equal(reference.Reference.from_arrays(learned.arrays)(evidence), learned(evidence))


def test_a_kind_counts_in_a_blend_for_its_weight():
    rng = np.random.default_rng(3)
    evidence = {name: np.exp(rng.normal(size=50)) for name in ("transformations", "residual")}
    shares = {"transformations": reference.Share(0.5, 2.0), "residual": reference.Share(-0.5, 1.0, 0.25)}
    standard = {name: (np.log(evidence[name]) - shares[name].mean) / shares[name].deviation for name in shares}
    blend = reference.Reference(log_scores=shares)
    expected = 0.8 * standard["transformations"] + 0.2 * standard["residual"]
    np.testing.assert_allclose(blend(evidence), expected, atol=1e-5)
    scores = {name: tf.constant(values, tf.float32) for name, values in evidence.items()}
    np.testing.assert_allclose(blend.tensor(scores), expected, atol=1e-5)
    assert reference.Reference.from_arrays(blend.arrays).log_scores == shares
    assert blend.parts == {"transformations": 0.8, "residual": 0.2}


def test_blends_of_before_there_were_weights_count_each_kind_alike():
    arrays = {"log_scores/transformations": np.array([0.5, 2.0]), "log_scores/residual": np.array([-0.5, 1.0])}
    shares = reference.Reference.from_arrays(arrays).log_scores
    assert shares == {"transformations": (0.5, 2.0, 1.0), "residual": (-0.5, 1.0, 1.0)}


def test_weights_go_by_what_is_told_of_what_was_done():
    """By -log p over four rotations, of one that tells less than by chance, guesses, knows a tenth, a half, and all."""
    gan = small_gan(self_supervision="rotation")
    evidence = [{"transformations": np.full(3, part * np.log(4.0))} for part in (1.5, 1.0, 0.9, 0.5, 0.0)]
    shares = [told(gan, each) for each in evidence]
    assert shares == pytest.approx([-0.5, 0.0, 0.1, 0.5, 1.0])
    assert told(gan, {"tasks": np.full((3, 4, 1), -0.9 * np.log(4.0))}) == pytest.approx(0.1)
    for name in ("tasks", "transformations"):
        assert [KINDS[name].weight(share) for share in shares] == pytest.approx([0.0, 0.0, 0.1 / 0.15, 1.0, 1.0])
    weights = [KINDS["density"].weight(share) for share in shares]
    assert weights == pytest.approx([1.0, 1.0, 1.0 - 0.1 / 0.7, 1.0 - 0.5 / 0.7, 0.0])
    assert [KINDS["density"].weight(share) for share in (0.6, 0.7, 0.8, 0.95)] == pytest.approx([0.2, 0.2, 0.1, 0.0])
    assert KINDS["density"].weight(told(gan, {"features": np.zeros((3, 4))})) == 1.0


def test_the_density_sees_each_feature_map_averaged_over_the_image():
    gan, images = small_gan(), np.random.default_rng(4).uniform(-1, 1, (3, 8, 8, 1)).astype(np.float32)
    found, x = [], images
    for layer in gan.discriminator.layers[1:]:
        x = layer(x)
        if layer.name.startswith("features_"):
            found.append(x.numpy().mean(axis=(1, 2)))
    assert len(found) > 1
    evidence = KINDS["density"].evidence(Seen(gan, images, {}))
    np.testing.assert_allclose(evidence, np.concatenate(found, axis=1), atol=1e-6)


def test_the_density_is_of_all_maps_of_an_own_discriminator_and_needs_one():
    generator = small_gan().generator

    def gan(*layers):
        layers = [keras.Input((8, 8, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(1)]
        return agt.DCGAN(generator=generator, discriminator=keras.Sequential(layers))

    mapped = gan(keras.layers.Conv2D(2, 3, name="near"), keras.layers.Conv2D(3, 3, name="far"))
    assert KINDS["density"].evidence(Seen(mapped, np.zeros((4, 8, 8, 1), np.float32), {})).shape == (4, 5)
    with pytest.raises(ValueError, match=r"feature maps.*Received: a discriminator without any, of layers \['flatten"):
        KINDS["density"].check(gan())
