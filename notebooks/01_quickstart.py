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
# # 1 · Is this an eight?
#
# A generator that has seen nothing but handwritten eights can draw nothing but eights. Show it a four and ask for the
# closest thing it can draw: what is missing, or too much, is what is wrong with the four, as an eight.
#
# The run `mnist-8` is in this repository, trained and calibrated. Nothing is downloaded or trained here, and it takes
# less than two minutes.

# %%
import os

os.environ.setdefault("ANOGAN_TF_WEIGHTS", os.path.abspath("../weights"))  # where the published runs are

# %matplotlib inline
import numpy as np

import anogan_tf as agt
from anogan_tf import plots, published

scorer = agt.load_run("mnist-8")
published.names()

# %% [markdown]
# ## Eight queries
#
# Four eights of MNIST's test part and four other digits, from the run's golden file. Images are floats in [-1, 1], of
# the shape that the networks take.

# %%
images = np.load(published.find("mnist-8") / "golden.npz")["images"] / np.float32(127.5) - 1
print(images.shape, images.min(), images.max())
plots.samples(images)

# %% [markdown]
# ## Scores, and a decision
#
# `score` searches the closest drawing for all images at once. The threshold was set on eights that the networks were
# not trained on, so that about 5 % of new eights exceed it.

# %%
scored = scorer.score(images)
threshold = scorer.calibration.threshold
print(f"threshold {threshold:.2f}")
for number, score in enumerate(scored["anomaly_score"], 1):
    print(f"image {number}: {score:6.2f}  {'anomalous' if score > threshold else 'an eight'}")

# %% [markdown]
# A threshold that spares 95 % of eights misses some others: a 1 is the middle of an eight, and a 9 most of one. Of all
# other digits in MNIST's test part this run finds three in four, and its AUROC is 0.96.
#
# How likely is such a score? The histogram shows the validation eights; the p-value of an image is the share of them
# that look at least as anomalous.

# %%
p_values = agt.thresholds.p_values(scored["anomaly_score"], scorer.calibration.scores)
print(np.round(p_values, 4))
plots.histogram(scorer.calibration.scores, threshold)

# %% [markdown]
# ## What it sees
#
# Above each query, its score; below it the closest drawing, and in red where the two differ.

# %%
plots.reconstructions(images, scored["reconstruction"], [f"{score:.2f}" for score in scored["anomaly_score"]])

# %% [markdown]
# One of them large, with the map of what differs, and a line around what exceeds the pixel threshold:

# %%
most = scored["anomaly_score"].argmax()
plots.result(
    images[most],
    scored["reconstruction"][most],
    scored["anomaly_map"][most],
    pixel_threshold=scorer.calibration.pixel_threshold,
    title=f"score {scored['anomaly_score'][most]:.2f}, threshold {threshold:.2f}",
)

# %% [markdown]
# ## The way from z₀ to the reconstruction
#
# Every search starts at the same point z₀, and Adam walks from there to the z whose drawing G(z) is closest to the
# query.

# %%
path = scorer.search_path(images)
steps = [0, 2, 5, 10, 25, scorer.steps]
plots.search_path(images, [scorer.gan.generator(path["z"][step], training=False).numpy() for step in steps], steps)

# %%
plots.mapping_loss(path["loss"])

# %% [markdown]
# Eights are found within some twenty steps; most other digits end where no step helps any more, and their loss stays
# high.
#
# From here: train your own ([2](02_train_anogan.ipynb)), make it fast ([3](03_f_anogan.ipynb)), use your own pictures
# ([4](04_your_own_images.ipynb)), or look inside ([5](05_inside_the_latent_space.ipynb)).
