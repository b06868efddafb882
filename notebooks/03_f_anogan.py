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
# You learn four ways to train an encoder that says at once which z to draw, what each of them draws, how fast they
# are, and what they are good for: pictures of what should have been there, while local features decide.
#
# AnoGAN searches a z for each image. [f-AnoGAN](https://doi.org/10.1016/j.media.2019.01.010) trains an encoder E for
# that. Both are compared here, and their hybrid, a search that starts where the encoder points.

# %%
import os
import time

# %matplotlib inline
import keras
import matplotlib.pyplot as plt
import numpy as np

import anogan_tf as agt
from anogan_tf import look, plots
from anogan_tf.commands import flower

QUICK = bool(os.environ.get("ANOGAN_TF_QUICK"))  # a moment only, to see that everything works
SOURCE = os.environ.get("ANOGAN_TF_SOURCE")  # a folder of your own
STEPS = 5 if QUICK else 600
plt.rcParams.update(look.STYLE)

# %% [markdown]
# ## Photographs of a flower
#
# They are made as `anogan-tf demo` makes them (of a picture by vultilion, CC BY 2.0, that comes with scikit-learn):
# 100 good ones, and for the test 20 more and 32 with a painted defect. The networks take 32×32 pixels.

# %%
if SOURCE is None:
    SOURCE = "results/flowers-0"
    flower.write(SOURCE)
splits = agt.data.load(SOURCE, image_shape=(32, 32, 3), batch_size=16)
normal, test = (np.concatenate([batch["image"] for batch in part]) for part in (splits.validation, splits.test))
labels = np.concatenate([batch["label"] for batch in splits.test])
some = np.concatenate([test[labels == 0][:3], test[labels == 1][2::4][:8]])


def fit(model, steps=STEPS):
    callbacks = [agt.callbacks.StopOnNaN(), agt.callbacks.Progress()]
    epochs = -(-steps // len(splits.train))
    return model.fit(splits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks).history


plots.samples(some, columns=len(some), title="three good ones, and some with a defect")

# %% [markdown]
# ## A GAN for few pictures
#
# 80 pictures are few. The generator repeats pixels and convolves (`upsampling`), the discriminator sees its pictures
# moved by chance (`augment`), and of the generator a moving average is kept (`use_ema`):
# [why](../docs/generators.md). The paper has a Wasserstein GAN, `agt.WGANGP`, which takes more steps; what follows
# works with either.

# %%
gan = agt.DCGAN((32, 32, 3), latent_dim=16, width=24, architecture="upsampling", augment="translation")
gan.compile(
    keras.optimizers.Adam(1e-3, beta_1=0.5, use_ema=True, ema_momentum=0.99), keras.optimizers.Adam(1e-3, beta_1=0.5)
)
plots.losses(fit(gan))

# %%
plots.samples(gan.generate(12), columns=6, title="drawn by the generator")

# %% [markdown]
# ## Three encoders for a GAN that is done
#
# - **ziz** learns from noise: $\lVert z - E(G(z))\rVert^2/d$. It sees only drawn images.
# - **izi** learns from images: $\lVert x - G(E(x))\rVert^2/n$.
# - **izi_f** adds what the discriminator sees: izi $+\ \kappa\,\lVert f(x) - f(G(E(x)))\rVert^2/n_f$.
#
# All score by the paper's $A(x)$, of the same terms as izi_f. A first batch is scored before the clock starts, as the
# first call compiles; *error* is that of the reconstructions of good pictures, as a share of that of the mean
# picture.

# %%
measured = {}
mean_error = np.square(normal - normal.mean(axis=0)).mean()


def measure(name, scorer):
    """Draws what a scorer makes of some pictures, and keeps its time, its AUROC and its error."""
    error = np.square(normal - scorer.score(normal)["reconstruction"]).mean() / mean_error
    scorer.calibrate(splits.validation, alpha=0.05)
    start = time.perf_counter()
    result = scorer.test(splits.test)
    measured[name] = 1000 * (time.perf_counter() - start) / result.n, result.auroc, error
    print(f"{name}: {measured[name][0]:.1f} ms a picture, AUROC {result.auroc:.3f}, error {error:.2f}")
    figure = plots.reconstructions(some, scorer.score(some)["reconstruction"])
    figure.suptitle(f"{name}: query, reconstruction, difference")
    display(figure)


for mode in ("izi_f",) if QUICK else ("ziz", "izi", "izi_f"):
    fanogan = agt.FAnoGAN(gan, mode=mode, score="paper")
    fanogan.compile()
    fit(fanogan)
    measure(mode, fanogan)

# %% [markdown]
# ## An encoder that is trained together with the generator
#
# A generator that is done draws what it likes to, and an encoder can only choose among that. **joint** trains both
# on: the reconstruction teaches the generator to draw every good picture, the discriminator keeps it sharp.

# %%
joint = agt.FAnoGAN(gan, mode="joint", score="paper")
joint.compile()
fit(joint, 2 * STEPS)
measure("joint", joint)

# %% [markdown]
# ## The search, from a random z and from E(x)

# %%
options = {"score": "paper", "distance": "l2"}
measure("search, 50 steps", agt.AnoGAN(gan, steps=5 if QUICK else 50, **options))
measure("hybrid, 10 steps", agt.AnoGAN(gan, encoder=joint.encoder, steps=10, **options))

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for axis, column, name in zip(axes, (1, 2), ("AUROC of A(x)", "error of good pictures"), strict=True):
    for method, values in measured.items():
        axis.scatter(values[0], values[column])
        axis.annotate(method, (values[0], values[column]), xytext=(6, 4), textcoords="offset points", fontsize=10)
    axis.set(xscale="log", xlabel="ms a picture", ylabel=name)
    axis.margins(x=0.4, y=0.15)
plt.show()

# %% [markdown]
# What one sees: `ziz` has never seen a photograph, and does not know what to make of one. `izi` and `izi_f` choose
# the nearest of what a blurred generator can draw. With `joint` the petals are there, and a bite in the rim stands
# out in the difference. The search draws nearest, and takes several times as long; from E(x) ten steps do for about
# the same $A(x)$, which is why `anogan-tf train` takes these for a folder. (Photographs of one flower are so alike
# that their mean, whose error is 1, is hard to come near to in so short a training.)
#
# ## What decides
#
# A scratch is a few pixels, and a picture has thousands, each a little off in its drawing: $A(x)$ of a whole picture
# tells few defects. So the drawing is for people to see what should be there, and local features of the picture, four
# times as large, decide:

# %%
side = 64 if QUICK else 128
large = agt.data.load(SOURCE, image_shape=(side, side, 3), batch_size=16)
scorer = agt.LocalNeighbours(agt.AnoGAN(gan, encoder=joint.encoder, steps=10, **options), factor=side // 32)
scorer.cross_calibrate([*large.reference, *large.validation], alpha=0.05)
result = scorer.test(large.test)
result

# %% [markdown]
# ## Next
#
# - The same by one command: `anogan-tf demo`, or `anogan-tf train FOLDER --out runs/mine` for your own pictures
#   ([4](04_your_own_images.ipynb)).
# - The encoders on MNIST, at length: [f-AnoGAN](../docs/fanogan.md); as the paper had them:
#   [recipes](../docs/recipes.md#the-settings-of-the-f-anogan-paper).
# - How good generators are, measured: [what generators draw](../docs/generators.md).
