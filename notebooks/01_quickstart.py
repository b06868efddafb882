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
# # 1 · Is this bottle whole?
#
# You learn to score pictures with a run that is there, to read scores, p-values and decisions, and to see where a
# picture is wrong. It takes a minute, and nothing is downloaded or trained.
#
# The run `mvtec-bottle` of this repository has seen 209 photographs of whole bottles, from above, and no broken one.
# The eight bottles below are of [MVTec AD](https://www.mvtec.com/company/research/datasets/mvtec-ad), © MVTec
# Software GmbH, [CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/), and so are pictures made of
# them.

# %%
import os

os.environ.setdefault("ANOGAN_TF_WEIGHTS", os.path.abspath("../weights"))  # where the published runs are

# %matplotlib inline
import numpy as np

import anogan_tf as agt
from anogan_tf import plots, published

scorer = agt.load_run("mvtec-bottle")
published.names()

# %% [markdown]
# ## Eight bottles that it has not seen
#
# Four are whole, four are not. Images are floats in [-1, 1], of the shape that the scorer takes; `score` takes
# folders and files as well (`scorer.score(["photos/new"])`).

# %%
images = np.load(published.find("mvtec-bottle") / "golden.npz")["images"] / np.float32(127.5) - 1
print(images.shape)
plots.samples(images, columns=4)

# %% [markdown]
# ## How anomalous, and is that too much?
#
# Two thresholds were set on whole bottles alone: about 5 % of new whole ones exceed the lower one and are
# *suspicious* or worse, 1 % the higher one and are *anomalous*. A p-value is the share of whole bottles that look at
# least as anomalous.

# %%
scored = scorer.score(images)
calibration = scorer.calibration
p_values = agt.thresholds.p_values(scored["anomaly_score"], calibration.scores)
print(f"suspicious above {calibration.threshold:.2f}, anomalous above {calibration.strict[0]:.2f}\n")
for number, (score, p) in enumerate(zip(scored["anomaly_score"], p_values, strict=True), 1):
    decision = agt.thresholds.decision(score, calibration.threshold, calibration.strict[0])
    print(f"bottle {number}: score {score:5.2f}, p = {p:.3f}  {decision}")

# %% [markdown]
# All four are found, and no whole one raises an alarm. So far apart are they: the scores of the whole bottles that
# set the threshold end where those of the broken ones have not begun.

# %%
figure = plots.histogram(calibration.scores, calibration.threshold)
axis = figure.axes[0]
axis.plot(
    scored["anomaly_score"][4:], np.full(4, 0.02), "v", color=plots.ANOMALOUS, ms=10, label="the four broken ones"
)
axis.legend()
figure

# %% [markdown]
# ## Where?
#
# *Query* is the bottle, *reconstruction* the whole bottle nearest to it that the network can draw, *difference* is
# bright where the two differ. What decides is the *anomaly map*: how far each spot is from the same spot of whole
# bottles. A line is around what exceeds the level that four whole bottles in five nowhere reach.


# %%
def shown(number):
    score = scored["anomaly_score"][number - 1]
    return plots.result(
        images[number - 1],
        scored["reconstruction"][number - 1],
        scored["anomaly_map"][number - 1],
        pixel_threshold=calibration.pixel_threshold,
        title=f"bottle {number}: score {score:.2f}, threshold {calibration.threshold:.2f}",
    )


shown(5)

# %%
shown(6)

# %% [markdown]
# A whole one has no line, or a small one; here none:

# %%
shown(2)

# %% [markdown]
# ## Next
#
# - The same for a folder of your pictures, from the command line: `anogan-tf score mvtec-bottle PATH… --out results`
#   leaves a page to work in ([the results page](../docs/results.md)).
# - Train on your own pictures: [4](04_your_own_images.ipynb). Choose a threshold by what errors cost:
#   [6](06_decisions.ipynb).
# - How it works inside: train an AnoGAN ([2](02_train_anogan.ipynb)), an f-AnoGAN ([3](03_f_anogan.ipynb)), look into
#   the latent space ([5](05_inside_the_latent_space.ipynb)).
