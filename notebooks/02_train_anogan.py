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
# # 2 · Train an AnoGAN
#
# You learn how images become a tested detector: the two losses of the paper ([Schlegl et al.
# 2017](https://arxiv.org/abs/1703.05921)), the search, the second task that makes the discriminator a better judge,
# reference, calibration and test. The training takes some minutes on two cores.
#
# Choose what to train on: `"digits"` ships with scikit-learn, `"mnist"` and others come from TensorFlow Datasets, a
# path names a folder of your own.

# %%
import os

# %matplotlib inline
import keras
import matplotlib.pyplot as plt
import numpy as np

import anogan_tf as agt
from anogan_tf import look, losses, plots
from anogan_tf.networks import feature_extractor

QUICK = bool(os.environ.get("ANOGAN_TF_QUICK"))  # a moment only, to see that everything works
SOURCE = os.environ.get("ANOGAN_TF_SOURCE", "digits" if QUICK else "mnist")
DATA_DIR = os.environ.get("ANOGAN_TF_DATA_DIR")  # of prepared TensorFlow Datasets; None for the usual place
NORMAL = "3"
STEPS = 20 if QUICK else 2000
plt.rcParams.update(look.STYLE)

# %% [markdown]
# ## Images as `tf.data`
#
# `load` keeps a fifth of the normal images for the thresholds and sets all others apart for the test. Any
# `tf.data.Dataset` of images in [-1, 1] does in place of ours.

# %%
splits = agt.data.load(SOURCE, normal=NORMAL, batch_size=16, data_dir=DATA_DIR)
shape = splits.preprocessing.image_shape
images, labels = next(iter(splits.train))
print(splits.train.element_spec, len(splits.train), "batches an epoch")
plots.samples(images[:16].numpy(), title="normal: all that training sees")

# %% [markdown]
# ## The GAN
#
# The generator G draws images of noise z, the discriminator D tells drawn from real ones, and each learns from the
# other. `DCGAN` is a Keras model with a training step of its own; `fit`, callbacks and TensorBoard work as ever.
# Small batches make many steps of the same images.
#
# D has a second task: it tells how an image was turned and moved (`self_supervision`). What it has to know of threes
# for that makes its features a far better judge of what is no three.

# %%
gan = agt.DCGAN(image_shape=shape, latent_dim=64, width=32, self_supervision=("rotation", "shift"))
epochs = -(-STEPS // len(splits.train))
rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * len(splits.train))
gan.compile(*(keras.optimizers.Adam(rate, beta_1=0.5) for _ in range(2)))
history = gan.fit(
    splits.train,
    epochs=epochs,
    shuffle=False,
    verbose=0,
    callbacks=[agt.callbacks.StopOnNaN(), agt.callbacks.Progress()],
)
plots.losses(history.history)

# %%
plots.samples(gan.generate(32), title="drawn by the generator")

# %% [markdown]
# ## The two losses
#
# For a query $x$ the search looks for the $z$ with the lowest
#
# $$L(z) = (1-\lambda)\,R(z) + \lambda\,D(z)$$
#
# The **residual** compares pixels, the **discrimination** compares what the discriminator sees, in features $f$ of an
# inner layer; means over elements, so that λ does not depend on the size of the image:
#
# $$R(z) = \frac1n\sum|x - G(z)| \qquad D(z) = \frac1{n_f}\sum|f(x) - f(G(z))|$$
#
# Here is each term along the search of eight test images, four of them normal (blue).

# %%
batches = list(splits.test.take(16))
test_images, test_labels = (np.concatenate([batch[key] for batch in batches]) for key in ("image", "label"))
chosen = np.concatenate([np.flatnonzero(test_labels == label)[:4] for label in (0, 1)])
queries = test_images[chosen]

anogan = agt.AnoGAN(gan, feature_weight=0.1, score="features+transformations")
path = anogan.search_path(queries)
f = feature_extractor(gan.discriminator)
residual, discrimination = [], []
for z in path["z"]:
    drawn = gan.generator(z, training=False)
    residual.append(losses.residual(queries, drawn, "l1"))
    discrimination.append(losses.feature_distance(f(queries, training=False), f(drawn, training=False), "l1"))

figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for axis, (name, values) in zip(
    axes,
    {"R(z)": residual, "D(z)": discrimination, "L(z) = 0.9 R + 0.1 D": path["loss"]}.items(),
    strict=True,
):
    axis.plot(np.array(values)[:, :4], color=plots.NORMAL, alpha=0.7)
    axis.plot(np.array(values)[:, 4:], color=plots.ANOMALOUS, alpha=0.7)
    axis.set(title=name, xlabel="step")
plt.show()

# %%
steps = [0, 2, 5, 10, 25, anogan.steps]
plots.search_path(queries, [gan.generator(path["z"][step], training=False).numpy() for step in steps], steps)

# %% [markdown]
# ## Reference, calibration, test
#
# Three parts of the data for three things, and no image serves two of them. What the score learns from normal images
# comes from training images; the threshold from normal validation images; the figures from the test part.

# %%
anogan.fit_reference(splits.train)
anogan.calibrate(splits.validation, alpha=0.05)
calibration = anogan.calibration
print(
    f"threshold {calibration.threshold:.3g} from {len(calibration.scores)} images, α = {calibration.attained_alpha:.3f}"
)

# %%
result = anogan.test(splits.test.take(8 if QUICK else len(splits.test)))
result

# %% [markdown]
# The score is the sum of two: the distance of $f(x)$ to the subspace in which features of normal images lie, and how
# badly the discriminator tells how $x$ was turned and moved. The paper's own is $A(x) = (1-\lambda)R + \lambda D$ at
# the best $z$; both are in reach:

# %%
paper = agt.AnoGAN(gan, score="paper")
paper.calibrate(splits.validation.take(8), alpha=0.05)
compared = paper.test(splits.test.take(8 if QUICK else 32))
print(f"AUROC: features and transformations {result.auroc:.3f}, A(x) {compared.auroc:.3f}")

# %% [markdown]
# The [table of MNIST](../benchmarks/results/mnist/table.md), by the defaults of the command line and twice the steps,
# has 0.992 for threes, and 0.918 for A(x).
#
# ## Next
#
# - Keep it: `agt.save_run("runs/threes", anogan)`, then `anogan-tf score runs/threes PATH…`.
# - The same by one command: `anogan-tf train mnist --normal 3 --out runs/threes` ([which settings it takes, and
#   why](../docs/quality.md)).
# - Reconstructions in one pass, on photographs: [3](03_f_anogan.ipynb). Your own pictures:
#   [4](04_your_own_images.ipynb). A threshold by what errors cost: [6](06_decisions.ipynb).
