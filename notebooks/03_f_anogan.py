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
# # 3 · f-AnoGAN: the same in one pass
#
# AnoGAN searches a z for each image. [f-AnoGAN](https://doi.org/10.1016/j.media.2019.01.010) trains an encoder E that
# says at once which z to draw. Here both are compared, and their hybrid: a search that starts where the encoder points.

# %%
import os
import time

# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import anogan_tf as agt
from anogan_tf import plots

QUICK = bool(os.environ.get("ANOGAN_TF_QUICK"))  # a moment only, to see that everything works
SOURCE = os.environ.get("ANOGAN_TF_SOURCE", "digits")  # or a name of TensorFlow Datasets, or a folder
DATA_DIR = os.environ.get("ANOGAN_TF_DATA_DIR")  # of prepared TensorFlow Datasets; None for the usual place
STEPS = 10 if QUICK else 1000

splits = agt.data.load(SOURCE, normal="8", batch_size=32, data_dir=DATA_DIR)
epochs = -(-STEPS // len(splits.train))


def fit(model):
    callbacks = [agt.callbacks.StopOnNaN(), agt.callbacks.Progress()]
    return model.fit(splits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks).history


# %% [markdown]
# ## A Wasserstein GAN with gradient penalty
#
# The critic has no sigmoid: it learns a number that is high for real and low for drawn images, and a penalty keeps its
# slope near 1 between them. Five of its steps go with each step of the generator.
#
# $$L_D = \mathbb E\,D(G(z)) - \mathbb E\,D(x) + 10\;\mathbb E\,(\lVert\nabla_{\hat x} D(\hat x)\rVert_2 - 1)^2$$

# %%
gan = agt.WGANGP(image_shape=splits.preprocessing.image_shape, latent_dim=16, width=32)
gan.compile()
plots.losses(fit(gan))

# %%
plots.samples(gan.generate(24), title="drawn by the generator")

# %% [markdown]
# ## Three encoders
#
# - **ziz** learns from noise: $\lVert z - E(G(z))\rVert^2/d$. It sees only drawn images.
# - **izi** learns from images: $\lVert x - G(E(x))\rVert^2/n$.
# - **izi_f** adds what the critic sees: izi $+\ \kappa\,\lVert f(x) - f(G(E(x)))\rVert^2/n_f$.

# %%
encoders = {}
for mode in ("ziz", "izi", "izi_f"):
    encoders[mode] = agt.FAnoGAN(gan, mode=mode, score="paper")
    encoders[mode].compile()
    fit(encoders[mode])

# %%
normal, mixed = (next(iter(part)) for part in (splits.validation, splits.test))
some = np.concatenate([normal["image"][:5], mixed["image"][mixed["label"] == 1][:5]])
for mode, fanogan in encoders.items():
    figure = plots.reconstructions(some, fanogan.reconstruct(some))
    figure.suptitle(f"{mode}: query, reconstruction, difference", fontsize=9)
    display(figure)

# %% [markdown]
# ## Time against quality
#
# All have the same GAN and the paper's score A(x); what differs is how z is found. A first chunk is scored before the
# clock starts, as the first call compiles.

# %%
search = {"score": "paper", "distance": "l2"}
methods = {
    "ziz": encoders["ziz"],
    "izi": encoders["izi"],
    "izi_f": encoders["izi_f"],
    "search, 20 steps": agt.AnoGAN(gan, steps=20, **search),
    "search, 100 steps": agt.AnoGAN(gan, steps=100, **search),
    "hybrid, 20 steps": agt.AnoGAN(gan, encoder=encoders["izi_f"].encoder, steps=20, **search),
}
test = (splits.test.take(4) if QUICK else splits.test).cache()
measured = {}
for name, scorer in methods.items():
    scorer.calibrate(splits.validation, alpha=0.05)
    start = time.perf_counter()
    result = scorer.test(test)
    measured[name] = 1000 * (time.perf_counter() - start) / result.n, result.auroc
    print(f"{name:18} {measured[name][0]:8.2f} ms an image   AUROC {result.auroc:.3f}")

# %%
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, (milliseconds, auroc) in measured.items():
    axis.scatter(milliseconds, auroc)
    axis.annotate(name, (milliseconds, auroc), xytext=(5, 5), textcoords="offset points")
axis.set(xscale="log", xlabel="ms an image", ylabel="AUROC")
axis.margins(x=0.4, y=0.1)
plt.show()

# %% [markdown]
# One pass is faster by the number of steps, and often better too: a search of many steps finds a z that draws even what
# is anomalous. The hybrid is for pictures of what is wrong where the encoder alone is not sharp enough.
# [The same on MNIST, at length](../docs/fanogan.md).
#
# What was tested last shows itself:

# %%
encoders["izi_f"].test(test)
