"""What breaks when it is broken on purpose: the full forms of the reliability tests, see docs/reliability.md.

    python -m benchmarks.reliability kills | mutants | soak | coverage

Each prints its counts and adds them to `benchmarks/results/reliability.json`.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits

import anogan_tf as agt
from anogan_tf import data, report, thresholds

TRAIN = ("train", "digits", "--normal", "8", "--width", "4", "--latent-dim", "6", "--batch-size", "16")
RUNS = {
    "f-anogan": (*TRAIN, "--method", "f-anogan", "--epochs", "12", "--encoder-epochs", "12", "--chunk", "16"),
    "hazelnut": (
        *TRAIN,
        "--size",
        "16",
        "--architecture",
        "hazelnut",
        "--epochs",
        "6",
        "--steps",
        "2",
        "--chunk",
        "16",
    ),
}
FORMATS = ("png", "jpg", "bmp", "tif", "webp")


def start(arguments, **options):
    """An `anogan-tf` process that repeats itself bit by bit."""
    environment = os.environ | {"TF_DETERMINISTIC_OPS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "anogan_tf", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def finish(arguments):
    """Runs a command to its end; raises a CalledProcessError if that is an error."""
    process = start(arguments)
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments, output)


def kill(arguments, started, seconds, number=signal.SIGKILL):
    """Starts a command, and sends it a signal so many seconds after `started()` is true; whether that ended it."""
    process = start(arguments)
    while process.poll() is None and not started():
        time.sleep(0.001)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(number)
    process.communicate()
    return process.returncode != 0


def kill_training(name, n, seed=0):
    """Kills a training n times in a row, then lets it finish.

    In turn at a random moment of the GAN's phase, in the middle of writing a checkpoint, and at a random moment of the
    encoder's phase, if there is one.

    Returns:
        A dict: how many of the kills ended it, by their kind, and whether it ended with the weights of an unbroken one.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        begin = time.perf_counter()
        finish([*RUNS[name], "--out", folder / "unbroken"])
        longest = (time.perf_counter() - begin) / 8  # most of the time is spent on starting
        out = folder / "killed"
        stages = {
            "training": ((out / "run.json").exists, longest),
            "checkpoint": (lambda: list(out.glob("partial-*checkpoint*")), 0.0),
            "encoder": ((out / "encoder-checkpoint.weights.h5").exists, longest),
        }
        names = ["training", "checkpoint", *(["encoder"] if "f-anogan" in RUNS[name] else [])]
        kills = dict.fromkeys(names, 0)
        for stage, _ in zip(itertools.cycle(names), range(n), strict=False):
            started, most = stages[stage]
            kills[stage] += kill([*RUNS[name], "--out", out], started, rng.uniform(0, most))
        finish([*RUNS[name], "--out", out])
        return {"kills": kills, "identical": same_weights(folder / "unbroken", out)}


def same_weights(run, other):
    """Whether two runs have the same weight files, number by number, and the same calibration."""
    files = sorted(path.name for path in run.glob("*.weights.h5"))
    calibrations = [agt.runs.read_run(path)["calibration"] for path in (run, other)]
    same = all(_arrays(run / name) == _arrays(other / name) for name in files)
    return bool(files) and same and calibrations[0] == calibrations[1]


def kill_scoring(n, images=400, seed=0):
    """Kills the scoring of a folder n times in a row, first as it begins, then at random moments, and lets it finish.

    Returns:
        A dict: how many signals ended it, and whether `scores.csv` is that of an unbroken one.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        finish([*RUNS["f-anogan"], "--out", folder / "run"])
        save_digits(folder / "images", images)
        (folder / "images" / "broken.png").write_bytes(b"no image")
        command = ["score", folder / "run", folder / "images", "--pictures", "0", "--out"]
        finish([*command, folder / "unbroken"])
        killed, out = 0, folder / "killed"
        for number in range(n):  # the first at once: how long it takes depends on the machine
            killed += kill([*command, out], lambda: list(out.glob("scores.*.part")), rng.uniform(0, number / n))
            if (out / "scores.csv").exists():
                break
        finish([*command, out])
        tables = [(place / "scores.csv").read_bytes() for place in (folder / "unbroken", out)]
        return {"kills": killed, "images": images, "identical": tables[0] == tables[1]}


def save_digits(folder, n):
    """Saves n digits of scikit-learn as PNG."""
    folder.mkdir(parents=True)
    for number, image in enumerate(load_digits().images[:n]):
        Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(folder / f"{number:04d}.png")


def mutate(n, folder, seed=0):
    """Reads n damaged images among good ones.

    Returns:
        A dict: how many were read and how many refused, the slowest in seconds, the growth of the memory in MiB, and
        whether the good ones came out bit by bit as without the damaged ones.
    """
    rng = random.Random(seed)
    folder = Path(folder)
    preprocessing = data.Preprocessing((32, 32, 3))
    originals = originals_of_all_formats()
    good = []
    for name, content in originals.items():
        (folder / f"good-{name}").write_bytes(content)
        good.append(str(folder / f"good-{name}"))
    alone = _read(good, preprocessing)[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"mutants": n, "read": 0, "refused": 0, "slowest": 0.0, "good unchanged": True}
    for _ in range(n):
        name = rng.choice(sorted(originals))
        mutant = folder / f"mutant.{rng.choice((*FORMATS, 'jpeg', 'tiff'))}"
        mutant.write_bytes(damage(originals[name], rng, originals))
        begin = time.perf_counter()
        (good_image, *others), skipped = _read([rng.choice(good), str(mutant)], preprocessing, keep_names=True)
        counts["slowest"] = max(counts["slowest"], time.perf_counter() - begin)
        counts["read"] += len(others)
        counts["refused"] += len(skipped)
        name, image = good_image
        counts["good unchanged"] &= bool(np.array_equal(image, alone[good.index(name)]))
        if len(others) + len(skipped) != 1 or not all(np.isfinite(image).all() for _, image in others):
            raise AssertionError(f"{mutant} was neither read nor refused: {others}, {skipped}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {**counts, "memory grown, MiB": round(grown)}


def originals_of_all_formats():
    """File contents by name: each format in the modes it has, animated, with an orientation, and of extreme sizes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1:48j, 0:1:40j]
    colour = Image.fromarray(np.rint(np.stack([255 * x, 255 * y, 90 * x * y], axis=-1)).astype(np.uint8))
    deep = Image.fromarray(rng.integers(0, 65535, (40, 40), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        **{f"colour.{suffix}": (colour, {}) for suffix in FORMATS},
        **{f"gray.{suffix}": (colour.convert("L"), {}) for suffix in FORMATS},
        "alpha.png": (colour.convert("RGBA"), {}),
        "palette.png": (colour.convert("P"), {"transparency": 3}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "cmyk.tif": (colour.convert("CMYK"), {"compression": "tiff_lzw"}),
        "deep.png": (deep, {}),
        "deep.tif": (deep, {"compression": "tiff_deflate"}),
        "turned.jpg": (colour, {"exif": exif}),
        "turned.tif": (colour.convert("L"), {"exif": exif}),
        "animated.webp": (colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        "animated.png": (colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        "pages.tif": (colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        "dot.png": (colour.crop((0, 0, 1, 1)), {}),
        "line.png": (colour.resize((4000, 1)), {}),
        "bilevel.bmp": (colour.convert("1"), {}),
    }
    contents = {}
    for name, (picture, options) in pictures.items():
        stream = io.BytesIO()
        picture.save(stream, Image.registered_extensions()[Path(name).suffix], **options)
        contents[name] = stream.getvalue()
    return contents


def damage(content, rng, others):
    """A damaged copy of a file: bits flipped, cut off, filled, its head another's, or its sides made huge."""
    content = bytearray(content)
    kind = rng.choice(("flip", "flip", "cut", "zeros", "head", "size", "empty", "swap"))
    if kind == "flip":
        for _ in range(rng.choice((1, 4, 64))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "zeros":
        first = rng.randrange(len(content))
        content[first : first + rng.randrange(1, 200)] = bytes(rng.randrange(1, 200))
    elif kind == "head":
        other = rng.choice(sorted(others.values()))
        content[:32] = other[:32]
    elif kind == "size":  # where the formats declare their sides, in either byte order
        first = rng.randrange(min(64, len(content)))
        content[first : first + 4] = rng.choice((b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\xff\xff"))
    elif kind == "empty":
        content.clear()
    else:
        half = len(content) // 2
        content = content[half:] + content[:half]
    return bytes(content)


def soak(minutes):
    """Scores without a pause: memory and processor time for an image, in ten spans, and how often it was traced."""
    splits = data.load("digits", batch_size=32)
    gan = agt.DCGAN((8, 8, 1), 8, width=8)
    gan.compile()
    gan.fit(splits.train, epochs=1, shuffle=False, verbose=0)
    scorer = agt.AnoGAN(gan, steps=10, chunk=32)
    scorer.fit_reference(splits.reference)
    scorer.calibrate(splits.validation)
    images = next(iter(splits.test.unbatch().batch(256)))["image"].numpy()
    first = scorer.score(images)["anomaly_score"]
    spans, same, end = [], True, time.monotonic()
    for _ in range(10):
        end += minutes * 6
        n, begin = 0, time.process_time()
        while time.monotonic() < end or n == 0:
            same &= bool(np.array_equal(scorer.score(images)["anomaly_score"], first))
            n += len(images)
        milliseconds = 1000 * (time.process_time() - begin) / n
        spans.append({"images": n, "processor ms an image": round(milliseconds, 3), "memory, MiB": _memory()})
        print(spans[-1], flush=True)
    traces = next(iter(scorer._searches.values())).advance.experimental_get_tracing_count()
    return {"minutes": minutes, "traces": traces, "same scores": same, "spans": spans}


def cover(draws, seed=0):
    """False alarms at thresholds from n normal scores, over many draws, beside what is promised.

    Rows: of a normal distribution and of the real scores of normal digits, pooled and split anew each time. `rate` is
    the mean over draws, which the promise bounds by α; the 5th and the 95th percentile are of single calibration sets,
    beside those of the Beta distribution that they have where scores have no ties.
    """
    rng = np.random.default_rng(seed)
    pool = digit_scores()
    rows = []
    for source, n, alpha in (("normal", 19, 0.05), ("normal", 100, 0.05), ("normal", 500, 0.01), ("digits", 40, 0.05)):
        rates, alarms = [], 0
        for _ in range(draws):
            scores = rng.normal(size=n + 1) if source == "normal" else rng.permutation(pool)
            threshold, _ = thresholds.conformal(scores[:n], alpha)
            alarms += bool(scores[n] > threshold)
            rates.append(stats.norm.sf(threshold) if source == "normal" else np.mean(scores[n:] > threshold))
        allowed = int((n + 1) * alpha)
        beta = stats.beta(allowed, n + 1 - allowed)
        rows.append(
            {"scores": source, "n": n, "alpha": alpha, "draws": draws, "rate": alarms / draws}
            | {"most by chance": stats.binom.ppf(0.999, draws, alpha) / draws}
            | {"5 %, 95 % of sets": np.quantile(rates, (0.05, 0.95)).round(4).tolist()}
            | {"5 %, 95 % of Beta": beta.ppf((0.05, 0.95)).round(4).tolist()}
        )
    return rows


def digit_scores():
    """Scores of normal digits that nothing was learned from."""
    splits = data.load("digits", batch_size=32, validation_fraction=0.3)
    gan = agt.DCGAN((8, 8, 1), 8, width=8)
    gan.compile()
    gan.fit(splits.train, epochs=2, shuffle=False, verbose=0)
    scorer = agt.AnoGAN(gan, steps=0)
    scorer.fit_reference(splits.reference)
    parts = [part.unbatch().filter(lambda row: row["label"] == 0) for part in (splits.validation, splits.test)]
    return np.concatenate([scorer.score(part.batch(32))["anomaly_score"] for part in parts])


def _read(files, preprocessing, keep_names=False):
    skipped = []
    batches = list(data.read_files(files, preprocessing, 8, skipped))
    images = [pair for batch in batches for pair in zip(batch["id"], batch["image"], strict=True)]
    return (images if keep_names else [image for _, image in images]), skipped


def _arrays(path):
    """Everything in an HDF5 file as bytes, by name."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()]).tobytes()

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def _memory():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "mutants", "soak", "coverage"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reliability.json"))
    options = parser.parse_args()
    begin = time.perf_counter()
    if options.what == "kills":
        result = {name: kill_training(name, 10) for name in RUNS} | {"scoring": kill_scoring(20)}
    elif options.what == "mutants":
        folder = tempfile.mkdtemp()
        result = mutate(2000, folder)
        shutil.rmtree(folder)
    elif options.what == "soak":
        result = soak(30)
    else:
        result = cover(2000)
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    command = {"command": f"python -m benchmarks.reliability {options.what}", "versions": report.versions()}
    known[options.what] = {**command, "seconds": round(time.perf_counter() - begin), "result": result}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report.write_json(options.out, known)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
