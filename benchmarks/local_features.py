"""Seconds a picture of local features and their distances, against what they took before.

    python -m benchmarks.local_features

Pictures are of random blobs, the reference of as many normal pictures as MVTec's bottles have; `Kinds` holds as many
vectors as it may. All are scored one at a time. `BEFORE` are the figures of commit bc9ba43, which describe MVTec's
bottles and 50 hazelnuts of 256×256×3, 72 in a call, and with distances also smooth the maps and add up the score; on
two cores of an EPYC with AVX2. Both ran beside other work, so CPU seconds count.
"""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from scipy import ndimage

from anogan_tf.distances import Kinds, Places, Scales, each_picture
from anogan_tf.local_features import local_features, of_pictures
from benchmarks import measuring

BEFORE = {"features": 0.057, "places": 0.074, "kinds": 0.729}  # CPU seconds a picture, the last two with features
NORMAL, PICTURES, SIDE = 167, 20, 256


def pictures(n, side, seed):
    """Blobs of three colours, at the same place in each picture but for noise."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(side, side, 3)), (8, 8, 0))
    noise = np.random.default_rng(seed).normal(0, 0.05, size=(n, side, side, 3))
    return np.clip(blobs / np.abs(blobs).max() + noise, -1, 1).astype(np.float32)


def features_of(images):
    """Their local features, one picture at a time."""
    return each_picture(lambda image: local_features(image[None])[0], images)


def distances_of(reference, images):
    """The distances of pictures from a reference."""
    return reference.of_features(of_pictures(images), images.shape[1:])


def measure(normal, n, side, repetitions):
    """Figures of features alone, and of features and distances with places and with kinds, by name."""
    known, images = features_of(pictures(normal, side, 0)), pictures(n, side, 1)
    halved = known[:, ::2, ::2]  # as many places as the means over blocks of 2×2 have
    ways = {"features": functools.partial(features_of, images)}
    for name, own in (("places", Places), ("kinds", Kinds)):
        reference = Scales(own.fit(known), own.fit(halved))
        ways[name] = functools.partial(distances_of, reference, images)
    timings = measuring.Timings(ways, dict.fromkeys(ways, n), repetitions)
    return {name: timings.figures(name) | {"cpu_seconds_before": BEFORE[name]} for name in ways}


def main():
    parser = measuring.arguments(__doc__, "local_features")
    options = parser.parse_args()
    started_on = measuring.machine()
    figures = measure(*((4, 2, 32, 1) if options.quick else (NORMAL, PICTURES, SIDE, measuring.REPETITIONS)))
    rows = [(name, row["cpu_seconds"], row["seconds"], row["cpu_seconds_before"]) for name, row in figures.items()]
    print(measuring.table(["a picture", "CPU seconds", "seconds", "CPU seconds before"], rows))
    measuring.write(options.out, "local_features", started_on, {"pictures": PICTURES, "figures": figures})


if __name__ == "__main__":
    main()
