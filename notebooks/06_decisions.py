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
# # 6 · Decisions, and what errors cost
#
# You learn to choose α by what a miss and a false alarm cost, to use three answers in place of two, and to change
# your mind without training or scoring anything again. It takes a minute: what decides here is learned in seconds, so
# no GAN is trained.

# %%
import logging
from pathlib import Path

# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import anogan_tf as agt
from anogan_tf import look, plots
from anogan_tf.commands import flower

plt.rcParams.update(look.STYLE)
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of compiling often, as is done here
rng = np.random.default_rng(0)

# %% [markdown]
# ## Good pictures, and scratches that are hard to see
#
# Photographs of one flower, as `anogan-tf demo` makes them (of a picture by vultilion, CC BY 2.0, that comes with
# scikit-learn): 100 good ones to learn from, 100 new good ones, and 100 with a scratch, from plain to hardly there.
# With plain defects alone there would be nothing to decide.


# %%
def good(seed):
    """100 photographs of the flower, as it should be."""
    flower.write(f"results/flowers-{seed}", seed)
    return [Image.open(path).convert("RGB") for path in sorted(Path(f"results/flowers-{seed}/train/good").iterdir())]


def scratched(picture):
    """The picture with a dark line, from hardly there to plain."""
    mask, start, angle = Image.new("L", picture.size), rng.uniform(35, 85, 2), rng.uniform(0, 2 * np.pi)
    end = start + rng.uniform(6, 24) * np.array([np.cos(angle), np.sin(angle)])
    ImageDraw.Draw(mask).line([*start, *end], fill=int(rng.uniform(20, 200)), width=2)
    return Image.composite(
        Image.new("RGB", picture.size, (92, 38, 20)), picture, mask.filter(ImageFilter.GaussianBlur(0.7))
    )


def arrays(pictures):
    """Pictures as the scorer takes them."""
    return np.stack([np.asarray(picture.resize((64, 64))) for picture in pictures]) / np.float32(127.5) - 1


known, new, defective = arrays(good(0)), arrays(good(1)), arrays(scratched(picture) for picture in good(2))
plots.samples(np.concatenate([new[:5], defective[:10]]), columns=5, title="five good ones, ten scratched ones")

# %% [markdown]
# ## Learn, and let every good picture set the threshold
#
# `cross_calibrate` holds the good pictures out in turn, so that each is scored as a new one, and all of them tell how
# high scores of good pictures go. The GAN would draw what a picture should look like; it takes no part in the
# decision, and is left as it is.

# %%
gan = agt.DCGAN(image_shape=(32, 32, 3), latent_dim=16, width=16)
scorer = agt.LocalNeighbours(agt.AnoGAN(gan, score="paper"), factor=2)
scorer.cross_calibrate(known, alpha=0.05)
scores = {
    name: scorer.score(images, draw=False)["anomaly_score"]
    for name, images in (("good", new), ("scratched", defective))
}
threshold, (strict, _) = scorer.calibration.threshold, scorer.calibration.strict

figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
bins = np.linspace(min(scores["good"]), 2.5 * strict, 40)
for (name, values), colour in zip(scores.items(), (look.NORMAL, look.ANOMALOUS), strict=True):
    axis.hist(np.minimum(values, bins[-1]), bins, alpha=0.6, color=colour, label=f"new, {name}")
axis.axvline(threshold, color="black", linestyle="--", label="suspicious above, α = 0.05")
axis.axvline(strict, color="black", label="anomalous above, α = 0.01")
axis.set(xlabel="anomaly score (higher ones in the last bar)", ylabel="pictures")
axis.legend()
plt.show()

# %% [markdown]
# ## Three answers
#
# Up to the first threshold a part is `normal`; above both it is `anomalous`, and a machine may reject it; between
# them it is `suspicious`, and a person looks. α is the share of good parts that leave `normal`; a fifth of it the
# share that leaves `suspicious`.

# %%
for name, values in scores.items():
    answers = [agt.thresholds.decision(score, threshold, strict) for score in values]
    print(f"{name:>9}: " + ", ".join(f"{answers.count(answer)} {answer}" for answer in agt.thresholds.DECISIONS))

# %% [markdown]
# ## What α costs
#
# Of all parts a share $p$ is defective. A missed one costs $M$, a false alarm $F$, and a part on average
#
# $$\text{cost}(\alpha) = p\,M\,\text{missed}(\alpha) + (1-p)\,F\,\alpha$$
#
# The scores of good pictures are kept, so every α is at hand at once (`calibration.at`). Some defective pictures, if
# there are any, tell how many are missed. Here one part in 50 is defective; put in your own numbers:

# %%
p = 0.02
alphas = np.arange(1, 41) / (len(scorer.calibration.scores) + 1)
levels = np.array([scorer.calibration.at(float(alpha)).threshold for alpha in alphas])
missed = np.array([np.mean(scores["scratched"] <= level) for level in levels])
alarms = np.array([np.mean(scores["good"] > level) for level in levels])

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
left.plot(alphas, missed, color=look.ANOMALOUS, label="scratched ones missed")
left.plot(alphas, alarms, color=look.NORMAL, label="new good ones that raise an alarm")
left.plot(alphas, alphas, ":", color=look.PALE, label="α, the promise")
left.set(xlabel="α", ylabel="share", ylim=(0, None))
left.legend()
best = {}
for ratio in (1, 10, 100):
    cost = p * ratio * missed + (1 - p) * alphas
    best[ratio] = alphas[cost.argmin()]
    right.plot(alphas, cost / cost.min(), label=f"a miss costs {ratio} × a false alarm")
    right.plot(best[ratio], 1, "o", color=right.lines[-1].get_color())
right.set(xlabel="α", ylabel="cost, of the least", ylim=(0.9, 4))
right.legend()
plt.show()
print("cheapest:", ", ".join(f"α = {alpha:.2f} where a miss costs {ratio} ×" for ratio, alpha in best.items()))

# %% [markdown]
# Where a miss costs no more than a false alarm and defects are rare, hardly any alarm pays. Where it costs a hundred,
# many do. Near its lowest point the cost hardly moves: choose a round α, and do not look for the second digit.
#
# ## Change your mind
#
# `recalibrate` sets another α in a run, from the scores that it keeps:

# %%
scorer.recalibrate(alpha=0.1)
print(f"α = 0.05: threshold {threshold:.2f};  α = 0.1: {scorer.calibration.threshold:.2f}")
lower = scorer.calibration.threshold
for name, values in scores.items():
    first, second = np.mean(values > threshold), np.mean(values > lower)
    print(f"{name:>9}: {first:.0%} above {threshold:.2f}, {second:.0%} above {lower:.2f}")

# %% [markdown]
# On the command line `anogan-tf score RUN PATH… --alpha 0.1` decides so one time, `anogan-tf calibrate RUN --alpha
# 0.1` for good. On the results page the threshold is a slider that says its α.
#
# ## How many good pictures α takes
#
# n good pictures promise 1 / (n + 1) at best, for `anomalous` at a fifth of that. So few would do:

# %%
for alpha in (0.2, 0.1, 0.05, 0.01):
    both = agt.thresholds.needed(alpha), agt.thresholds.needed(alpha / 5)
    print(f"α = {alpha}: {both[0]} good pictures, {both[1]} to tell anomalous from suspicious")

# %% [markdown]
# ## Next
#
# - Without a single defective picture: [three rules](../docs/decisions.md#what-a-miss-and-a-false-alarm-cost), and
#   the same curves for pills.
# - More good pictures, without a training: `anogan-tf calibrate RUN MORE_GOOD…`.
# - What the promise rests on, and when it breaks: [reliability](../docs/reliability.md#false-alarms).
# - Your own pictures: [4](04_your_own_images.ipynb).
