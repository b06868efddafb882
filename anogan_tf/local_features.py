"""What a picture looks like around each point: its colours, and how strongly they vary, in which direction."""

import numpy as np
import tensorflow as tf

BLURS = (1.0, 2.0, 4.0)  # σ in pixels
WAVES = (1.0, 2.0)
ORIENTATIONS = 4
POOLING = 2.0  # σ of the mean of a wave's amplitude
DARK = 0.2  # a tenth of the range [-1, 1], below which colours hardly differ
LEVEL = 1 / 255  # half a gray level of 8 bits
FINE, STRIDE = 4, 8  # pixels between places: of the filters, and of their means
SMALLEST = 16  # pixels a side, which the filters need


@tf.function(autograph=False)
def local_features(images):
    """Colours and wavelet amplitudes on a grid of every eighth pixel.

    For each channel the means under Gaussians of σ = 1, 2 and 4 pixels, and the amplitudes |x * ψ| of Morlet wavelets ψ
    of σ = 1 and 2 pixels in four orientations, averaged under a Gaussian of σ = 2; all averaged over 8×8 pixels. Light
    multiplies both, so that the features are their logarithms: log(1 + 5 (m + 1)) of a mean m and log(1 + 255 a) of an
    amplitude a. Twice the light is a shift then, and not twice the difference, but for what is darker than a tenth of
    the range and waves of less than half a gray level. None of it is trained.

    Args:
        images: `(batch, height, width, channels)` in [-1, 1], sides of at least 16 pixels.

    Returns:
        `(batch, ceil(height / 8), ceil(width / 8), 11 * channels)`.

    References:
        Bruna and Mallat, "Invariant Scattering Convolution Networks", arXiv 1203.1513, section 2.2 (order one).
    """
    return tf.map_fn(lambda image: _of_image(image[None])[0], images)  # one by one, as the amplitudes are large


def _of_image(image):
    colours = [_convolved(image, _gaussian(sigma)[..., None], FINE) for sigma in BLURS]
    textures = []
    for sigma in WAVES:
        shrink = int(sigma)
        smaller = _convolved(image, _gaussian(shrink / 2)[..., None], shrink) if shrink > 1 else image
        waves = _convolved(smaller, _morlets(sigma / shrink))
        amplitudes = tf.sqrt(tf.square(waves[..., 0::2]) + tf.square(waves[..., 1::2]) + 1e-12)
        textures.append(_convolved(amplitudes, _gaussian(POOLING / shrink)[..., None], FINE // shrink))
    return tf.concat(
        [tf.math.log1p((_pooled(colours) + 1.0) / DARK), tf.math.log1p(_pooled(textures) / LEVEL)], axis=-1
    )


def _pooled(maps):
    return tf.nn.avg_pool2d(tf.concat(maps, axis=-1), STRIDE // FINE, STRIDE // FINE, "SAME")


def _convolved(images, kernels, stride=1):
    """Each channel with each kernel `(side, side, n)`, mirrored at the border, at the middle of each stride."""
    margin, channels = kernels.shape[0] // 2, images.shape[-1]
    sides = [[0, 0], [margin, margin + stride - 1], [margin, margin + stride - 1], [0, 0]]
    padded = tf.pad(images, sides, "SYMMETRIC")[:, stride // 2 :, stride // 2 :]
    filters = np.repeat(kernels[:, :, None], channels, axis=2).astype(np.float32)  # (side, side, channels, n)
    convolved = tf.nn.depthwise_conv2d(padded, filters, (1, stride, stride, 1), "VALID")
    return convolved[:, : -(-images.shape[1] // stride), : -(-images.shape[2] // stride)]  # the last stride may be part


def _grid(sigma):
    reach = int(np.ceil(3 * sigma))
    return np.mgrid[-reach : reach + 1, -reach : reach + 1]


def _gaussian(sigma):
    rows, columns = _grid(sigma)
    weights = np.exp(-(rows**2 + columns**2) / (2 * sigma**2))
    return weights / weights.sum()


def _morlets(sigma):
    """Real and imaginary parts of waves of frequency 2 / σ under a Gaussian, without mean; `(side, side, 2 * n)`."""
    rows, columns = _grid(sigma)
    parts = []
    for angle in np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS:
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        envelope = np.exp(-(along**2 + across**2 / 2) / (2 * sigma**2))
        wave = envelope * np.exp(2j / sigma * along)
        wave -= envelope * wave.sum() / envelope.sum()
        wave /= np.abs(wave).sum()
        parts += [wave.real, wave.imag]
    return np.stack(parts, axis=-1)
