"""How the package is used, for a type checker: nothing here is run. `pyright` passes only if each wrong use is refused.

An ignore that ignores nothing is an error itself (`reportUnnecessaryTypeIgnoreComment`).
"""

from pathlib import Path

import keras
import numpy as np
from PIL import Image

import anogan_tf as agt


def right(images: np.ndarray) -> None:
    splits = agt.data.load("mnist", normal="8", image_shape=(28, 28, 1), batch_size=64)
    gan = agt.DCGAN(image_shape=(28, 28, 1), latent_dim=64, width=32, self_supervision=("rotation",))
    gan.compile(keras.optimizers.Adam(1e-3), "adam", label_smoothing=0.1)
    gan.fit(splits.train, epochs=16, shuffle=False)
    samples: np.ndarray = gan.generate(16)
    agt.load_weights(gan.generator, "generator.h5")

    anogan = agt.AnoGAN(gan, steps=50, score="features")
    anogan.fit_reference(splits.reference)
    anogan.calibrate(splits.validation, alpha=0.05)
    results, threshold, accuracy = anogan.test(splits.test, results_dir="results")
    scores: np.ndarray = anogan.score(images, draw=False)["anomaly_score"]
    for _ in anogan.score_batches(splits.test):
        pass

    critic = agt.WGANGP((28, 28, 1), 64)
    critic.compile(critic_steps=3)
    fanogan = agt.FAnoGAN(critic, mode="izi_f")
    agt.FAnoGAN(agt.DCGAN(architecture="upsampling", augment="translation"), mode="joint")
    hybrid = agt.AnoGAN(critic, encoder=fanogan.encoder, steps=20)
    local = agt.LocalNeighbours(agt.AnoGAN(gan, score="paper"), factor=4)
    joint = agt.JointNeighbours(agt.AnoGAN(gan, score="paper"), features="EfficientNetV2B0")
    patched = agt.Patched(local, overlap=0.5)
    scorers: list[agt.scoring.Scorer] = [anogan, fanogan, hybrid, local, joint, patched]
    agt.save_run("runs/mnist-8", scorers[0])
    agt.load_run("runs/mnist-8").score(samples)
    agt.load_run("runs/parts").score([Path("a.png"), "more"])
    agt.load_run("runs/parts").score(Path("a.png"))
    agt.load_run("runs/parts").score(Image.open("a.png"))
    print(scores, results, threshold, accuracy, agt.thresholds.conformal(scores, 0.05))


def wrong(gan: agt.DCGAN, anogan: agt.AnoGAN) -> None:
    agt.DCGANN()  # pyright: ignore[reportAttributeAccessIssue]
    agt.DCGAN(widht=32)  # pyright: ignore[reportCallIssue]
    agt.DCGAN(latent_dim="8")  # pyright: ignore[reportArgumentType]
    agt.data.load("mnist", nomral="8")  # pyright: ignore[reportCallIssue]
    agt.data.load("mnist", batch_size="64")  # pyright: ignore[reportArgumentType]
    agt.load_weights("generator.h5", gan.generator)  # pyright: ignore[reportArgumentType]
    gan.compile(views="three")  # pyright: ignore[reportArgumentType]
    agt.AnoGAN("gan")  # pyright: ignore[reportArgumentType]
    agt.FAnoGAN(gan, mod="izi")  # pyright: ignore[reportCallIssue]
    anogan.score(42)  # pyright: ignore[reportArgumentType]
    anogan.calibrate(3.0)  # pyright: ignore[reportArgumentType]
    agt.Patched("anogan")  # pyright: ignore[reportArgumentType]
    agt.save_run("runs/mnist-8", "anogan")  # pyright: ignore[reportArgumentType]
    agt.load_run("runs/mnist-8", chunks=4)  # pyright: ignore[reportCallIssue]
