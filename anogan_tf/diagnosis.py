"""What may be wrong with a trained detector, in plain words, with what to do about it."""

from collections.abc import Sequence

import keras
import numpy as np
from scipy import stats

from anogan_tf import drawing, stages, thresholds
from anogan_tf.scoring import Scorer
from anogan_tf.search import sample_prior

LOOKED_AT = 64  # images
LEAST_VARIETY = 0.3
MOST_ERROR = 0.9
MOST_GAP = 0.5
MOST_OVERFIT = 2.0
MOST_SPREAD = 2.5
MANY, ALL = 10, 0.9  # images, and what part of them, that are not anomalous for their own sake alone


RECONSTRUCTION = "Scores are made of reconstructions here, so the decisions suffer, and so do the regions."
DISCRIMINATOR = "The discriminator decides here, so decisions suffer less than the regions, made of reconstructions."
SHOWN = "Local features decide here, so decisions and regions stay as they are: only what is drawn beside them is poor."


def meaning(scorer: Scorer, shown: bool = False) -> str:
    """What poor reconstructions mean for the decisions of a scorer, which may only draw for another one."""
    return SHOWN if shown else RECONSTRUCTION if scorer.needs_z else DISCRIMINATOR


def diagnose(scorer: Scorer, train: np.ndarray, validation: np.ndarray, *, shown: bool = False) -> list[str]:
    """What may be wrong with a calibrated scorer, what that means for decisions, and what to do.

    Args:
        scorer: A scorer of images of the networks' size.
        train: Training images `(n, height, width, channels)` in [-1, 1]; `LOOKED_AT` are enough.
        validation: Normal images that were not trained on, likewise.
        shown: Whether the scorer only draws, for one of local features, which decide.

    Returns:
        A list of sentences, empty if nothing was found.
    """
    return examine(scorer, train, validation, shown=shown)[1]


@stages.stage("Measuring what it draws")
def examine(
    scorer: Scorer, train: np.ndarray, validation: np.ndarray, *, shown: bool = False
) -> tuple[dict[str, float], list[str]]:
    """How well a scorer's generator draws, see `drawing.measures`, and what `diagnose` says; the same arguments."""
    train, validation = train[:LOOKED_AT], validation[:LOOKED_AT]
    gan, means = scorer.gan, meaning(scorer, shown)
    seen, unseen = (scorer.score([_read(images)]) for images in (train, validation))
    measured = drawing.measures(train, validation, gan.generate(LOOKED_AT), unseen["reconstruction"])
    by_heart = None
    if measured["error"] > measured["error_of_pca"]:  # else new images are reconstructed well, too
        by_heart = overfit(seen["residual"], unseen["residual"], means)
    found = [
        collapse(measured["variety"], measured["error"], means, longer=by_heart is None),
        inference_gap(gan.generator, gan.prior, train, means),
        by_heart,
    ]
    return measured, [sentence for sentence in found if sentence]


def _read(images):
    """Images as a batch of those that were read from files, which may be bright all over."""
    return {"image": images, "height": np.full(len(images), images.shape[1])}


def collapse(variety: float, error: float, means: str = RECONSTRUCTION, *, longer: bool = True) -> str | None:
    """Whether the generator draws much less than there is, or a blur: a sentence, or None.

    Args:
        variety: Of its samples, over that of the training images, see `drawing.variety`.
        error: Of the reconstructions of images that were not trained on, over that of the mean training image.
        means: What that means for decisions.
        longer: Whether more steps may help; not networks that learned their images by heart.
    """
    advice = "longer, on more images, or with another --architecture" if longer else "on more images"
    better = f"{means} To draw better, train {advice}."
    if variety < LEAST_VARIETY:
        return f"The generator collapsed: its samples vary {variety:.0%} as much as the training images. {better}"
    if error > MOST_ERROR:
        return (
            "The generator draws normal images that were not trained on hardly better than the mean image does: the "
            f"error is {error:.2f} of that. {better}"
        )
    return None


def inference_gap(network: keras.Model, prior: str, images: np.ndarray, means: str = RECONSTRUCTION) -> str | None:
    """Whether a generator draws something else in inference mode, which scores use, than in training: or None.

    The gap is the mean |G(z)| between both modes, in mean absolute deviations of the images.
    """
    copy = keras.models.clone_model(network)  # in training mode a network moves its statistics
    copy.set_weights(network.get_weights())
    z = sample_prior((LOOKED_AT, network.input_shape[-1]), prior, (0, 0))
    calm = network(z, training=False).numpy()
    deviation = max(np.mean(np.abs(images - images.mean(axis=0))), 1e-6)
    gap = float(np.mean(np.abs(copy(z, training=True).numpy() - calm)) / deviation)
    if gap > MOST_GAP:
        return (
            f"The generator draws other images in inference mode than in training (they differ by {gap:.1f} times the "
            f"deviation of the training images): its normalisation statistics lag behind. {means} Train longer, or "
            "lower the momentum of its BatchNormalization layers."
        )
    return None


def overfit(
    train_residuals: Sequence[float], validation_residuals: Sequence[float], means: str = RECONSTRUCTION
) -> str | None:
    """Whether images that were not trained on are reconstructed far worse than those that were: or None."""
    ratio = float(np.median(validation_residuals) / max(np.median(train_residuals), 1e-12))
    if ratio > MOST_OVERFIT:
        return (
            f"Normal images that were not trained on have {ratio:.1f} times the residual of those that were: the "
            f"networks learned them by heart. {means} Train on more images, for fewer steps, or with a smaller --width."
        )
    return None


def few_images(n: int, alpha: float) -> str | None:
    """Whether the threshold rests on so few images that the rate of false alarms is uncertain: or None.

    With n calibration images the rate that a conformal threshold has in the end is Beta(l, n + 1 - l) distributed, with
    l = ⌊(n + 1)α⌋ (Vovk, "Conditional validity of inductive conformal predictors", arXiv 1209.2673, section 3).
    """
    above = thresholds.exceeding(n, alpha)
    high = float(stats.beta.ppf(0.95, above, n + 1 - above))
    if high > MOST_SPREAD * alpha or (n + 1) * alpha < 1:
        return (
            f"The threshold rests on {n} images: one calibration in twenty lets more than {high:.0%} of normal images "
            f"raise a false alarm, where {alpha:.0%} are wanted. Decide on alarms with that in mind, and gather more "
            "normal images: anogan-tf calibrate RUN GOOD_IMAGES adds them without training."
        )
    return None


def unkept(n: int, alpha: float) -> str | None:
    """What n calibration images cannot keep of the two levels of decisions, in numbers: a sentence, or None."""
    levels = {"suspicious": alpha, "anomalous": alpha / thresholds.STRICTER}
    short = {name: thresholds.needed(rate) - n for name, rate in levels.items() if thresholds.needed(rate) > n}
    if not short:
        return None
    wanted = " and ".join(f"{rate:.3g} for {name}" for name, rate in levels.items() if name in short)
    more = " and ".join(f"{count} more for {name}" for name, count in short.items())
    return (
        f"{n} good images keep a rate of false alarms of 1/{n + 1} = {1 / (n + 1):.3g} at best, as their highest score "
        f"is the threshold; asked for were {wanted}. {more} would do: anogan-tf calibrate RUN GOOD_IMAGES adds them."
    )


def exceeds_chance(alarms: int, n: int, alpha: float, calibrated: int) -> bool:
    """Whether so many alarms among n normal images are by chance in less than one of a thousand cases.

    The arguments are those of `shifted`.
    """
    above = thresholds.exceeding(calibrated, alpha)
    return bool(n) and bool(stats.betabinom.sf(alarms - 1, n, above, calibrated + 1 - above) < 0.001)


def shifted(false_alarms: int, n: int, alpha: float, calibrated: int) -> str | None:
    """Whether normal test images raise far more false alarms than calibration promises: or None.

    The rate that a threshold has in the end is Beta distributed, see `few_images`, so of n normal images like those it
    was set on a beta-binomial number exceeds it. What is said is said by chance at most once in a thousand tests.

    Args:
        false_alarms: Normal test images above the threshold.
        n: Normal test images.
        alpha: The rate asked for.
        calibrated: Images that the threshold was set on.
    """
    if exceeds_chance(false_alarms, n, alpha, calibrated):
        return (
            f"{false_alarms} of {n} normal test images exceed the threshold, where about {alpha:.0%} were expected: "
            "they differ from the images it was set on (another camera, lot or light?), or those were too few. "
            "Calibrate on images like those to be judged."
        )
    return None


def all_unlike(alarms: int, n: int) -> str | None:
    """Whether nearly all of n images, whose labels nobody knows, are alarms: a sentence, or None."""
    if n < MANY or alarms < ALL * n:
        return None
    return (
        f"{alarms} of {n} images look anomalous. If most of them are good, they differ as a whole from those of the "
        "training, as by another file format or compression, sharpness, noise, camera or light: train on such as "
        "these, or take these as those were taken."
    )
