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
# A folder of pictures of good parts is all it takes. Name yours below; with `None` this notebook makes one: 100
# pictures of washers, some scratched, some stained.
#
# ```text
# parts/train/good/*.png          good parts to learn from; a fifth is kept for the threshold
# parts/test/good/*.png           good parts to test on
# parts/test/<defect>/*.png       parts with a defect: never learned from
# ```
#
# A folder of nothing but good pictures will do as well; then there is no AUROC to tell. Masks of the defects
# (`ground_truth/<defect>/<name>_mask.png`) are welcome and not needed.

# %%
import json
import os
from pathlib import Path

# %matplotlib inline
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import anogan_tf as agt
from anogan_tf import plots, thresholds

FOLDER = None  # such as "photos/parts"
QUICK = bool(os.environ.get("ANOGAN_TF_QUICK"))  # a moment only, to see that everything works
RESULTS = Path("results/parts")
STEPS = 10 if QUICK else 600


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
# A GAN learns well at 32×32 pixels, from few pictures too. Small defects need more: local features of pictures four
# times as large decide, compared with those of the good ones, and the GAN draws what the part should look like.

# %%
small = agt.data.load(folder, image_shape=(32, 32, 3), batch_size=16)
large = agt.data.load(folder, image_shape=(128, 128, 3), batch_size=16)
for part in ("train", "validation", "test"):
    print(f"{part}: {len(large.samples.part(part))} pictures")
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
# ## What α means with 40 pictures
#
# α is the rate of false alarms to allow. The threshold is a score that few of the good validation pictures reach, and n
# of them can promise no less than 1/(n + 1): of 40 good pictures a fifth, 8, is kept, so 1 in 9.

# %%
for n in (8, 19, 40, 99):
    print(f"{n:3} validation pictures: α is at least {1 / (n + 1):.3f}")

# %%
scorer = agt.LocalNeighbours(agt.AnoGAN(gan, score="paper", steps=5 if QUICK else 50, chunk=16), factor=4)
scorer.fit_reference(large.reference)
scorer.calibrate(large.validation, alpha=0.12)
calibration = scorer.calibration
print(f"asked for α = {calibration.alpha}, attained {calibration.attained_alpha:.3f}")
print(f"threshold {calibration.threshold:.4g}")

# %% [markdown]
# Ask for less than 1/(n + 1), and the threshold is the largest validation score, and a warning says what it attains. To
# promise α = 0.05, give at least 19 validation pictures: about 100 good ones, or `validation_fraction=0.5` of 40.

# %%
thresholds.conformal(np.linspace(0, 1, 40), alpha=0.05)

# %% [markdown]
# ## Test, and the report

# %%
tested = large.validation if large.test is None else large.test  # good pictures alone make a report too
result = scorer.test(tested, results_dir=RESULTS, pictures=10 if QUICK else 80)
result

# %% [markdown]
# The same as a folder: `index.html` shows each picture, the most anomalous first, with score, p-value, decision and
# regions; `scores.csv` is for programs. One of its pictures: query, what the GAN drew of it, their difference, and the
# map over the picture, with a line around what exceeds the pixel threshold.

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
#   needs no threshold.
# - **p-value**: the share of good parts that look at least as anomalous. With 8 validation pictures it cannot be less
#   than 1/9.
# - **fp** in the confusion are false alarms: about α of the good parts.
#
# ## Keep it

# %%
agt.save_run("results/run", scorer)
loaded = agt.load_run("results/run")
print(loaded.score(next(iter(tested))["image"][:4])["anomaly_score"])

# %% [markdown]
# On the command line all of this is
#
# ```sh
# anogan-tf train parts --out runs/parts --size 64
# anogan-tf test runs/parts --out results
# anogan-tf score runs/parts new-pictures --out results
# ```
