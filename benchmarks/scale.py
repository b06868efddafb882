"""Time and memory of scoring 1,000, 10,000 and 100,000 small images in one pass.

    python -m benchmarks.scale

The images are made while they are read, and the scores read a chunk at a time (`score_batches`); memory is the most
that the process ever held, so each row tells what it needed beyond those above it.
"""

import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import anogan_tf as agt
from benchmarks import measuring

NUMBERS = (1_000, 10_000, 100_000)
BATCH = 100


def batches(n, image_shape):
    """n random images in [-1, 1]."""
    rng = np.random.default_rng(0)
    for _ in range(n // BATCH):
        yield rng.uniform(-1, 1, (BATCH, *image_shape)).astype(np.float32)


def measure(numbers):
    """A list of dicts, one for each number of images."""
    fanogan = agt.FAnoGAN(agt.DCGAN((8, 8, 1), latent_dim=16, width=8), score="paper")
    fanogan.score(next(batches(BATCH, fanogan.image_shape)))
    rows = []
    for n in numbers:
        start = time.perf_counter()
        scored = sum(
            len(outputs["anomaly_score"]) for outputs in fanogan.score_batches(batches(n, fanogan.image_shape))
        )
        seconds = time.perf_counter() - start
        rows.append({"images": scored, "seconds": seconds, "milliseconds_per_image": 1000 * seconds / n})
        rows[-1]["peak_memory_mb"] = peak_memory()
        rows[-1]["more_than_first_mb"] = rows[-1]["peak_memory_mb"] - rows[0]["peak_memory_mb"]
        print(rows[-1], flush=True)
    return rows


def peak_memory():
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main():
    parser = measuring.arguments(__doc__, "scale")
    options = parser.parse_args()
    started_on = measuring.machine()
    rows = measure((100, 300) if options.quick else NUMBERS)
    print(
        measuring.table(
            ["images", "seconds", "ms an image", "peak MB", "more than the first"], [row.values() for row in rows]
        )
    )
    measuring.write(options.out, "scale", started_on, {"rows": rows})


if __name__ == "__main__":
    main()
