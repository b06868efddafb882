import numpy as np
import pytest

from anogan_tf import reference
from anogan_tf.subspace import PrincipalSubspace


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
    mean, deviation = learned.log_scores["transformations"]
    assert (mean, deviation) == pytest.approx((3.0, 0.5), abs=0.1)
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
