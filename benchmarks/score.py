"""What scoring costs as users run it: CPU and wall seconds a picture, memory, and PatchCore beside it.

    python -m benchmarks.score BOTTLES        # a folder with at least 100 bottles, such as MVTec AD's

The commands are `anogan-tf score` with the published `mvtec-bottle` and `mnist-8`, each in a process of its own, start
included. Digits are drawn at random: what they show costs nothing. PatchCore is of PyTorch (extra `benchmark`): a wide
ResNet-50, whose weights are random as they cost the same, and the nearest of as many vectors as the run remembers; two
bottles are enough for it.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

with contextlib.suppress(ImportError):  # before TensorFlow, after which PyTorch crashes
    import torch
    import torchvision

import numpy as np
from PIL import Image, ImageDraw

import anogan_tf as agt
from anogan_tf import data, scoring
from benchmarks import measuring

BOTTLES, DIGITS, FEW_DIGITS, MANY_DIGITS = 100, 10_000, 1_000, 100_000
SIDE, LAYERS, WIDTH = 224, ("layer2", "layer3"), 1024  # PatchCore's
MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime, "peak_memory_mb": used.ru_maxrss / 1e3}))
"""  # in a small process: the memory of a child begins with what its parent has
WANTED = {
    "bottles, none drawn": "≤ 0.10",
    "bottles, all drawn": "≤ 0.35",
    "one bottle in Python, second call": "≤ 0.5",
    "digits, none drawn": "≤ 0.003",
}


def command(run, files, pictures):
    """CPU and wall seconds a picture, and the most memory, of `anogan-tf score`; its own words where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "pictures"
        listed.mkdir()
        for number, file in enumerate(files):
            (listed / f"{number:06}{file.suffix}").symlink_to(file.resolve())
        words = [sys.executable, "-m", "anogan_tf", "score", run, listed, "--out", Path(folder) / "out"]
        start = time.perf_counter()
        measured = [sys.executable, "-c", MEASURED, *map(str, words), "--pictures", str(pictures)]
        used = json.loads(subprocess.run(measured, stdout=subprocess.PIPE, check=True).stdout)
        seconds = time.perf_counter() - start
    return {
        "images": len(files),
        "drawn": pictures,
        "cpu_seconds": used["cpu_seconds"] / len(files),
        "seconds": seconds / len(files),
        "peak_memory_mb": used["peak_memory_mb"],
    }


def one_picture(scorer, file):
    """CPU and wall seconds of `score` of a file, the second time."""
    scorer.score(file)
    before, start = time.process_time(), time.perf_counter()
    scorer.score(file)
    return {"images": 1, "cpu_seconds": time.process_time() - before, "seconds": time.perf_counter() - start}


def beside_patchcore(scorer, files):
    """CPU seconds a picture of our scores and of PatchCore's, in turns, and their ratio."""
    vectors = scorer.reference.fine.arrays["memory"]
    remembered = int(np.prod(vectors.shape[:3]))
    patchcore = PatchCore(remembered)
    read = data.read_pictures(list(map(str, files)), scoring.preprocessing_of(scorer))
    images = np.concatenate([batch["image"] for batch in read])
    ways = {"anogan_tf": lambda: scorer.score(images, draw=False), "patchcore": lambda: patchcore.score(images)}
    timings = measuring.Timings(ways, dict.fromkeys(ways, len(images)), repetitions=3)
    figures = {name: timings.figures(name) for name in ways}
    return {"vectors": remembered, **figures, "ratio": timings.ratio("patchcore", "anogan_tf", "cpu")}


class PatchCore:
    """Scores of Roth et al., arXiv 2106.08265, section 3, without the weighting of section 3.3."""

    def __init__(self, remembered):
        torch.manual_seed(0)
        self.network = torchvision.models.wide_resnet50_2(weights=None).eval()
        self.found = {}
        for name in LAYERS:
            getattr(self.network, name).register_forward_hook(lambda _, __, maps, name=name: self._keep(name, maps))
        self.network.layer4 = self.network.avgpool = self.network.fc = torch.nn.Identity()  # not needed
        self.memory = torch.randn(remembered, WIDTH)

    def score(self, images):
        with torch.inference_mode():
            return [float(self._of(torch.from_numpy(image).permute(2, 0, 1)[None])) for image in images]

    def _of(self, image):
        functional = torch.nn.functional
        self.network(functional.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True))
        maps = [functional.avg_pool2d(self.found[name], 3, 1, 1) for name in LAYERS]
        maps[1] = functional.interpolate(maps[1], maps[0].shape[-2:], mode="bilinear")
        vectors = torch.cat(maps, 1)[0].flatten(1).T  # (places, channels)
        vectors = functional.adaptive_avg_pool1d(vectors[None], WIDTH)[0]
        return torch.cdist(vectors, self.memory).amin(1).amax()

    def _keep(self, name, maps):
        self.found[name] = maps


def draw_digits(folder, n):
    """n files of 28×28 gray pixels with a stroke of a random place each."""
    rng = np.random.default_rng(0)
    for number in range(n):
        image = Image.new("L", (28, 28))
        ImageDraw.Draw(image).line([tuple(place) for place in rng.integers(4, 24, (4, 2)).tolist()], fill=255, width=3)
        image.save(folder / f"{number:06}.png")
    return sorted(folder.iterdir())


def main():
    parser = measuring.arguments(__doc__, "score")
    parser.add_argument("bottles", type=Path, help="a folder, looked through, of bottles")
    parser.add_argument("--few", action="store_true", help="leave out the 100,000 digits")
    options = parser.parse_args()
    started_on = measuring.machine()
    divisor = 50 if options.quick else 1
    bottles = sorted(f for f in options.bottles.rglob("*") if f.suffix in (".jpg", ".png") and "truth" not in str(f))
    bottles = bottles[: BOTTLES // divisor]
    rows = {
        "bottles, none drawn": command("mvtec-bottle", bottles, 0),
        "bottles, all drawn": command("mvtec-bottle", bottles, len(bottles)),
    }
    numbers = {"digits": DIGITS, "few digits": FEW_DIGITS} | ({} if options.few else {"many digits": MANY_DIGITS})
    with tempfile.TemporaryDirectory() as folder:
        digits = draw_digits(Path(folder), max(numbers.values()) // divisor)
        for name, n in numbers.items():
            rows[f"{name}, none drawn"] = command("mnist-8", digits[: n // divisor], 0)
    scorer = agt.load_run("mvtec-bottle")
    rows["one bottle in Python, second call"] = one_picture(scorer, bottles[0])
    figures = {"commands": rows, "patchcore": beside_patchcore(scorer, bottles[:2])}
    peaks = [row["peak_memory_mb"] for name, row in rows.items() if "digits" in name]
    figures["more_memory_mb"] = max(peaks) - min(peaks)
    columns = ("images", "cpu_seconds", "seconds", "peak_memory_mb")
    cells = [[name, *(row.get(column) for column in columns), WANTED.get(name)] for name, row in rows.items()]
    print(measuring.table(["", "pictures", "CPU s a picture", "s a picture", "peak MB", "wanted CPU s"], cells))
    print(f"Memory: {figures['more_memory_mb']:.0f} MB more for the most digits than for the fewest (wanted ≤ 100).")
    print(f"PatchCore takes {figures['patchcore']['ratio']:.2f} times the CPU time (wanted ≥ 1).")
    measuring.write(options.out, "score", started_on, figures)


if __name__ == "__main__":
    main()
