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
# # 5 · Inside the latent space
#
# You learn what a GAN of eights knows, by pictures of its features, of the ways between its drawings, and of searches
# that go astray, and so what restarts, λ and long searches do. The published run `mnist-8` is looked at; nothing is
# trained.

# %%
import logging
import os

os.environ.setdefault("ANOGAN_TF_WEIGHTS", os.path.abspath("../weights"))  # where the published runs are

# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
from sklearn.manifold import TSNE

import anogan_tf as agt
from anogan_tf import look, plots, published
from anogan_tf.networks import feature_extractor

QUICK = bool(os.environ.get("ANOGAN_TF_QUICK"))  # a moment only, to see that everything works
SOURCE = os.environ.get("ANOGAN_TF_SOURCE", "digits" if QUICK else "mnist")  # of the images in the first picture
DATA_DIR = os.environ.get("ANOGAN_TF_DATA_DIR")  # of prepared TensorFlow Datasets; None for the usual place
STEPS = 5 if QUICK else 50

plt.rcParams.update(look.STYLE)
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of compiling many searches, as is done here
scorer = agt.load_run("mnist-8")
gan = scorer.gan
images = np.load(published.find("mnist-8") / "golden.npz")["images"] / np.float32(127.5) - 1
eights, others = images[:4], images[4:]

# %% [markdown]
# ## What the discriminator sees
#
# t-SNE lays images out so that those with like features f(x) lie side by side. Pixels do not separate eights from other
# digits as the features do of a discriminator that has only ever seen eights.

# %%
splits = agt.data.load(SOURCE, normal="8", image_shape=gan.image_shape, batch_size=128, data_dir=DATA_DIR)
test = list(splits.test.take(2 if QUICK else 8))
shown, labels = (np.concatenate([batch[key] for batch in test]) for key in ("image", "label"))
few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:300]])
shown, labels = shown[few], labels[few]
features = np.concatenate(
    [v.numpy().reshape(len(shown), -1) for v in feature_extractor(gan.discriminator)(shown).values()], axis=1
)

figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
for axis, (name, vectors) in zip(
    axes, {"pixels": shown.reshape(len(shown), -1), "features of the discriminator": features}.items(), strict=True
):
    places = TSNE(perplexity=min(30, len(shown) // 4), random_state=0).fit_transform(vectors)
    for label, colour, kind in ((1, plots.ANOMALOUS, "other digits"), (0, plots.NORMAL, "eights")):
        axis.scatter(*places[labels == label].T, s=12, color=colour, label=kind, alpha=0.7)
    axis.set(title=name, xticks=[], yticks=[])
axes[0].legend()
plt.show()

# %% [markdown]
# ## From one eight to another
#
# Every z is a drawing, and a walk from one z to another is a walk through eights. Normally distributed z lie near a
# sphere, so the walk follows it.


# %%
def between(a, b, steps):
    """Points on the great circle from a to b."""
    angle = np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
    t = np.linspace(0, 1, steps)[:, None]
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


rng = np.random.default_rng(4)
corners = rng.normal(size=(4, gan.latent_dim)).astype(np.float32)
left, right = between(corners[0], corners[1], 6), between(corners[2], corners[3], 6)
grid = np.concatenate([between(a, b, 10) for a, b in zip(left, right, strict=True)])
plots.samples(gan.generator(grid, training=False).numpy(), columns=10)

# %% [markdown]
# ## Restarts
#
# The loss has many valleys, and a search ends in the one it starts in. Several searches for each image, of which the
# best counts, find deeper ones: for eights and for other digits alike, which is why more is not always better.


# %%
def reconstructed(**options):
    anogan = agt.AnoGAN(gan, **{"score": "paper", "steps": STEPS, "chunk": 8} | options)
    return anogan.score(images)


drawn = {restarts: reconstructed(restarts=restarts) for restarts in (1, 4, 8)}
for restarts, outputs in drawn.items():
    of_eights, of_others = outputs["residual"].reshape(2, 4).mean(axis=1)
    print(f"{restarts} searches an image: residual {of_eights:.3f} of eights, {of_others:.3f} of others")
figure = plots.search_path(images, [outputs["reconstruction"] for outputs in drawn.values()], list(drawn))
for axis, restarts in zip(figure.axes[1:], drawn, strict=False):
    axis.set_title(f"best of {restarts}", fontsize=9)
figure

# %% [markdown]
# ## What λ does
#
# $L(z) = (1-\lambda)R + \lambda D$: at λ = 0 only pixels count, at λ = 1 only what the discriminator sees.

# %%
drawn = {weight: reconstructed(feature_weight=weight) for weight in (0.0, 0.1, 0.5, 0.9, 1.0)}
figure = plots.search_path(images, [outputs["reconstruction"] for outputs in drawn.values()], list(drawn))
for axis, weight in zip(figure.axes[1:], drawn, strict=False):
    axis.set_title(f"λ = {weight}", fontsize=9)
figure

# %%
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for part, colour, kind in ((slice(4), plots.NORMAL, "eights"), (slice(4, 8), plots.ANOMALOUS, "other digits")):
    axis.plot(
        list(drawn), [outputs["residual"][part].mean() for outputs in drawn.values()], color=colour, label=f"R, {kind}"
    )
    axis.plot(
        list(drawn),
        [outputs["discrimination"][part].mean() for outputs in drawn.values()],
        "--",
        color=colour,
        label=f"D, {kind}",
    )
axis.set(xlabel="λ", ylabel="mean over images")
axis.legend()
plt.show()

# %% [markdown]
# ## How far out is z?
#
# A long search can leave the region that the generator was trained on, and draw what is no eight any more. The length
# of z tells: normal draws have a length near √latent_dim.

# %%
path = agt.AnoGAN(gan, steps=STEPS if QUICK else 300, learning_rate=0.1, score="paper", chunk=8).search_path(images)
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
lengths = np.linalg.norm(path["z"], axis=-1)
axis.plot(lengths[:, :4], color=plots.NORMAL)
axis.plot(lengths[:, 4:], color=plots.ANOMALOUS)
axis.axhline(np.sqrt(gan.latent_dim), color=look.PALE, linestyle=":")
axis.set(xlabel="step", ylabel="|z|; blue: eights, orange: others")
plt.show()

# %% [markdown]
# ## Next
#
# - Why features decide, and not reconstructions: [quality](../docs/quality.md).
# - Generators that draw better, and how that is measured: [what generators draw](../docs/generators.md).
# - An encoder in place of the search: [3](03_f_anogan.ipynb). Your own pictures: [4](04_your_own_images.ipynb).
