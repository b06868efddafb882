# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Your own images
#
# You learn to train on a folder of your own, to know what α means with few pictures, to read a report, and to keep
# what was learned. A folder of pictures of good parts is all it takes. Name yours below, best by its whole path; with
# `None` this notebook makes one: 100 pictures of washers, some scratched, some stained. Either a plain folder,
#
# ```text
# parts/*.png                     good parts to learn from; a fifth is kept for the threshold
# ```
#
# or, to see how often the decisions are right, with pictures to test on:
#
# ```text
# parts/train/good/*.png          good parts, as above parts/test/good/*.png           good parts to test on
# parts/test/<defect>/*.png       parts with a defect: never learned from
# ```
#
# Masks of the defects (`ground_truth/<defect>/<name>_mask.png`) are welcome and not needed. What TensorFlow says on a
# red ground about CUDA, oneDNN or a remapper does no harm.

# %%
import json
import logging
import os
import warnings
from pathlib import Path

# %matplotlib inline
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import anogan_tf as agt
from anogan_tf import plots, thresholds

FOLDER = None  # such as "/home/me/photos/parts"
QUICK = bool(os.environ.get("ANOGAN_TF_QUICK"))  # a moment only, to see that everything works
RESULTS = Path("results/parts")
STEPS = 10 if QUICK else 600
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of compiling often, as is done here


# %%
def washer(rng, defect=None):
    """A gray washer on a dark table, seen from above; with a scratch or a stain, and a mask of it."""
    picture = Image.new("RGB", (128, 128), tuple(rng.integers(28, 36, 3)))
    draw = ImageDraw.Draw(picture)
    x, y = 64 + rng.normal(0, 1, 2)
    for radius, colour in ((50 + rng.normal(0, 1), (150, 152, 158)), (22 + rng.normal(0, 0.7), (32, 32, 32))):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    mask = Image.new("L", picture.size)
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(31, 40)
    at = np.array([x + radius * np.cos(angle), y + radius * np.sin(angle)])
    for canvas, colour in ((draw, {"scratch": (210, 212, 218), "stain": (110, 80, 60)}), (ImageDraw.Draw(mask), {})):
        if defect == "scratch":
            line = np.concatenate([at - 7, at + rng.uniform(4, 9, 2)])
            canvas.line(line.tolist(), fill=colour.get(defect, 255), width=3)
        elif defect == "stain":
            canvas.ellipse([*(at - 6), *(at + 6)], fill=colour.get(defect, 255))
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8))) + rng.normal(0, 4, (128, 128, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask


def make_parts(folder):
    """100 pictures in MVTec layout: 40 good ones to learn from, 20 good and 40 defective ones to test."""
    rng = np.random.default_rng(0)
    for part, kind, count in (
        ("train", "good", 40),
        ("test", "good", 20),
        ("test", "scratch", 20),
        ("test", "stain", 20),
    ):
        for number in range(count):
            picture, mask = washer(rng, None if kind == "good" else kind)
            files = [(picture, folder / part / kind / f"{number:03}.png")]
            if kind != "good":
                files.append((mask, folder / "ground_truth" / kind / f"{number:03}_mask.png"))
            for image, path in files:
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    return folder


folder = Path(FOLDER) if FOLDER else make_parts(Path("results/washers"))

# %% [markdown]
# ## Two sizes of the same pictures
#
# The GAN takes 32×32 pixels, and draws what the part should look like. Small defects need more: local features of
# pictures four times as large, compared with those of the good ones, decide alone. Poor drawings (then raise `STEPS`)
# spoil the reconstructions and not the scores.

# %%
small = agt.data.load(folder, image_shape=(32, 32, 3), batch_size=16)
large = agt.data.load(folder, image_shape=(128, 128, 3), batch_size=16)
for part in ("train", "validation", "test"):
    print(f"{part}: {len(large.samples.part(part))} pictures")
if large.test is None:
    print("No pictures to test on: below, some of those that set the threshold are scored, which is no test.")
plots.samples(next(iter(large.reference))["image"].numpy(), title="good ones")

# %%
gan = agt.DCGAN(image_shape=(32, 32, 3), latent_dim=32, width=16)
gan.compile()
gan.fit(
    small.train,
    epochs=-(-STEPS // len(small.train)),
    shuffle=False,
    verbose=0,
    callbacks=[agt.callbacks.StopOnNaN(), agt.callbacks.Progress()],
)
plots.samples(gan.generate(16), title="drawn by the generator")

# %% [markdown]
# ## What α means with few pictures
#
# α is the rate of false alarms to allow. The threshold is a score that few good pictures reach, and n of them can
# promise no less than 1/(n + 1); the usual α of 0.05 takes 19.

# %%
for n in (8, 19, 40, 99):
    print(f"{n:3} good pictures: α is at least {1 / (n + 1):.3f}")

# %% [markdown]
# None may judge itself, so each is scored by what was learned from the others: `cross_calibrate` holds the good
# pictures out in turn, and all 40 of them set the threshold. (Networks take too long to learn for that: where they
# decide, a part of the pictures is held out, `fit_reference` learns from the rest, and `calibrate` sets the
# threshold.)

# %%
scorer = agt.LocalNeighbours(agt.AnoGAN(gan, score="paper", steps=5 if QUICK else 50, chunk=16), factor=4)
scorer.cross_calibrate([*large.reference, *large.validation], alpha=0.05)
n, alpha = len(scorer.calibration.scores), scorer.calibration.attained_alpha
print(f"{n} good pictures: α = {alpha:.3f}, threshold {scorer.calibration.threshold:.4g}")

# %% [markdown]
# Ask for less than they can promise, and the threshold is their largest score, and a warning says what it attains:

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    thresholds.conformal(scorer.calibration.scores, alpha=0.5 / (n + 1))
print(caught[0].message)

# %% [markdown]
# ## Test, and the report

# %%
tested = large.validation if large.test is None else large.test  # the former is no test, but makes the same report
result = scorer.test(tested, results_dir=RESULTS, pictures=10 if QUICK else 80)
result

# %% [markdown]
# The same as a folder: `index.html` shows each picture, the most anomalous first, with score, p-value, decision and
# regions; `scores.csv` is for programs. One of its pictures: query, what the GAN drew of it, their difference, and
# the map over the picture, with a line around what exceeds the pixel threshold.

# %%
most = next(iter(result.shown))
Image.open(RESULTS / f"test_image_{most:03}.png")

# %%
print(sorted(path.name for path in RESULTS.iterdir() if "_0" not in path.name))
metrics = json.loads((RESULTS / "metrics.json").read_text())
print({name: metrics[name] for name in ("auroc", "pixel_auroc", "accuracy", "threshold", "alpha", "confusion")})

# %% [markdown]
# How to read it:
#
# - **AUROC**: take a random good and a random defective part; that often the defective one has the higher score. It
#   needs no threshold. Without defective parts there is none.
# - **p-value**: the share of good parts that look at least as anomalous. With n of them it cannot be less than 1/(n +
#   1).
# - **fp** in the confusion are false alarms: about α of the good parts that were not seen before.
# - **anomaly map**: the brighter, the farther from the good pictures at that place; the line is around what exceeds
#   the pixel threshold, which good pictures set too. **difference** is bright where the query and the drawing differ.
#
# Without pictures to test on, all of this is about those that set the threshold, so how many exceed it was certain
# before.
#
# ## Keep it

# %%
agt.save_run("results/run", scorer)
loaded = agt.load_run("results/run")
print(loaded.score(next(iter(tested))["image"][:4])["anomaly_score"])

# %% [markdown]
# ## Next
#
# New pictures, a folder or single files, get scores, decisions and a report by one command:
#
# ```sh
# anogan-tf score results/run new-pictures --out results/new
# ```
#
# And all of this notebook is on the command line, with networks of 64×64 and pictures of 256×256 pixels and more
# steps:
#
# ```sh
# anogan-tf train parts --out runs/parts --size 64 anogan-tf test runs/parts --out results anogan-tf score runs/parts
# new-pictures --out results
# ```
#
# - Work in the report: [the results page](../docs/results.md). Choose α by what errors cost: [6](06_decisions.ipynb).
# - More good pictures, without a training: `anogan-tf calibrate runs/parts MORE_GOOD…`.
# - Other folders, sizes and data sets: [recipes](../docs/recipes.md), [data](../docs/data.md).
