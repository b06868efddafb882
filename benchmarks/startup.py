"""How long until the command line answers, the package is imported, and a first image is scored?

    python -m benchmarks.startup

Each row but the scores is a process of its own; they take turns.
"""

import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import anogan_tf as agt
from benchmarks import measuring

PROCESSES = {
    "an empty program": ["-c", "pass"],
    "anogan-tf --help": ["-m", "anogan_tf", "--help"],
    "import anogan_tf": ["-c", "import anogan_tf"],
    "import tensorflow": ["-c", "import tensorflow"],
}


def processes(names, repetitions):
    """`measuring.Timings` of the processes."""
    ways = {name: command(PROCESSES[name]) for name in names}
    return measuring.Timings(ways, repetitions=repetitions)


def command(arguments):
    options = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return lambda: subprocess.run([sys.executable, *arguments], **options)


def scores(quick):
    """Seconds of the first score of one image, which traces, and of the next, by way of scoring."""
    gan = agt.DCGAN((8, 8, 1), latent_dim=4, width=4) if quick else agt.DCGAN((28, 28, 1), latent_dim=64, width=32)
    image = np.random.default_rng(0).uniform(-1, 1, (1, *gan.image_shape)).astype(np.float32)
    found = {}
    for name, scorer in {"search": agt.AnoGAN(gan, score="paper"), "one pass": agt.FAnoGAN(gan, score="paper")}.items():
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            scorer.score(image)
            seconds.append(time.perf_counter() - start)
        found[name] = {"first": seconds[0], "second": seconds[1]}
    return found


def main():
    parser = measuring.arguments(__doc__, "startup")
    options = parser.parse_args()
    started_on = measuring.machine()
    names = [name for name in PROCESSES if not options.quick or "tensorflow" not in name]
    timings = processes(names, 1 if options.quick else measuring.REPETITIONS)
    empty = names[0]
    results = {
        "processes": {name: timings.figures(name) for name in names},
        "times_as_long_as_an_empty_program": {name: timings.ratio(name, empty) for name in names[1:]},
        "scores": scores(options.quick),
    }
    rows = [[name, results["processes"][name]["seconds"]] for name in names]
    rows += [
        [f"{which} score, {name}", value] for name, pair in results["scores"].items() for which, value in pair.items()
    ]
    print(measuring.table(["", "seconds"], rows))
    measuring.write(options.out, "startup", started_on, results)


if __name__ == "__main__":
    main()
