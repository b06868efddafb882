"""What may be wrong with a trained detector, in plain words, with what to do about it."""

import keras
import numpy as np
from scipy import stats

from anogan_tf.search import sample_prior

LOOKED_AT = 64  # images
LEAST_DIVERSITY = 0.3
MOST_GAP = 0.5
MOST_OVERFIT = 2.0
MOST_SPREAD = 2.5


def diagnose(scorer, train, validation):
    """What may be wrong with a calibrated scorer.

    Args:
        scorer: A scorer of images of the networks' size.
        train: Training images `(n, height, width, channels)` in [-1, 1]; `LOOKED_AT` are enough.
        validation: Normal images that were not trained on, likewise.

    Returns:
        A list of sentences, empty if nothing was found.
    """
    gan = scorer.gan
    errors = [scorer.score(images)["residual"] for images in (train[:LOOKED_AT], validation[:LOOKED_AT])]
    found = [
        collapse(gan.generate(LOOKED_AT), train[:LOOKED_AT]),
        inference_gap(gan.generator, gan.prior, train[:LOOKED_AT]),
        overfit(*errors),
    ]
    return [sentence for sentence in found if sentence]


def collapse(generated, images):
    """Whether the generator draws much less variety than there is: a sentence, or None.

    Variety is the mean squared distance to the mean image.
    """
    ratio = _variety(generated) / max(_variety(images), 1e-12)
    if ratio < LEAST_DIVERSITY:
        return (
            f"The generator collapsed: its samples vary {ratio:.0%} as much as the training images. Reconstructions, "
            "and scores made of them, mean little. Train longer, with a lower learning rate, or with --gan wgan-gp."
        )
    return None


def inference_gap(network, prior, images):
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
            "deviation of the training images): its normalisation statistics lag behind. Train longer, or lower the "
            "momentum of its BatchNormalization layers."
        )
    return None


def overfit(train_residuals, validation_residuals):
    """Whether images that were not trained on are reconstructed far worse than those that were: or None."""
    ratio = float(np.median(validation_residuals) / max(np.median(train_residuals), 1e-12))
    if ratio > MOST_OVERFIT:
        return (
            f"Normal images that were not trained on have {ratio:.1f} times the residual of those that were: the "
            "networks learned them by heart. Train on more images, for fewer steps, or with a smaller --width."
        )
    return None


def few_images(n, alpha):
    """Whether the threshold rests on so few images that the rate of false alarms is uncertain: or None.

    With n calibration images the rate that a conformal threshold has in the end is Beta(l, n + 1 - l) distributed, with
    l = ⌊(n + 1)α⌋ (Vovk, "Conditional validity of inductive conformal predictors", arXiv 1209.2673, section 3).
    """
    above = max(1, int(np.floor((n + 1) * alpha)))
    high = float(stats.beta.ppf(0.95, above, n + 1 - above))
    if high > MOST_SPREAD * alpha or (n + 1) * alpha < 1:
        return (
            f"The threshold rests on {n} images: one calibration in twenty lets more than {high:.0%} of normal images "
            f"raise a false alarm, where {alpha:.0%} are wanted. Hold out more with --validation-fraction, or gather "
            "more normal images."
        )
    return None


def shifted(false_alarms, n, alpha):
    """Whether normal test images raise far more false alarms than calibration promises: or None."""
    if n and stats.binomtest(false_alarms, n, alpha, alternative="greater").pvalue < 0.001:
        return (
            f"{false_alarms} of {n} normal test images exceed the threshold, where about {alpha:.0%} were expected: "
            "they differ from the images it was set on (another camera, lot or light?), or those were too few. "
            "Calibrate on images like those to be judged."
        )
    return None


def _variety(images):
    return float(np.mean(np.square(images - images.mean(axis=0))))
