"""Callbacks for `fit`."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from anogan_tf import atomic, plots, stages


class DataOrder(keras.callbacks.Callback):
    """Tells a data set of `anogan_tf.data` which epoch it is, so that its order is a function of (seed, epoch).

    `fit` of our models adds it by itself.
    """

    def __init__(self, dataset: object) -> None:
        super().__init__()
        self.epoch = getattr(dataset, "epoch", None)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self.epoch is not None:
            self.epoch.assign(epoch)


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of a training, and goes on from there if the file exists.

    One file holds networks, optimisers, the states of Dropout, the epoch and the logs. It is written beside, flushed to
    disk and renamed, so that a crash at any moment leaves a whole one. With the data of `anogan_tf.data`, which are
    ordered by (seed, epoch), a resumed training ends with the same weights as an unbroken one.

    Args:
        path: The file, ending in `.weights.h5`.
        every_seconds: Least time between two saves, which happen at ends of epochs; the first epoch and the end of
            training always save. None for twenty times as long as the last one took.

    Attributes:
        logs: For each metric its value at each epoch, those before an interruption included.
    """

    def __init__(self, path: str | Path, every_seconds: float | None = None) -> None:
        super().__init__()
        if not str(path).endswith(".weights.h5"):
            raise ValueError(f"A checkpoint ends in .weights.h5. Received: path={path}.")
        self.path = Path(path)
        self.every_seconds = every_seconds
        self.logs = {}
        self.epochs_done = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.path.exists():
            self._restore()
        self.model._initial_epoch = self.epochs_done
        self._saved_at, self._saving_took = -math.inf, 0.0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epochs_done = epoch + 1
        for name, value in (logs or {}).items():
            self.logs.setdefault(name, []).append(float(value))
        pause = 20 * self._saving_took if self.every_seconds is None else self.every_seconds
        if time.monotonic() - self._saved_at >= pause:
            self._save()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.model._initial_epoch = None
        self._save()

    def _save(self):
        start = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(self.path, size=3 * weights_size(self.model)) as partial:  # Adam has two slots a weight
            self.model.save_weights(partial)
            with h5py.File(partial, "a") as file:
                group = file.create_group("training")
                group.attrs["epochs_done"] = self.epochs_done
                group["logs"] = json.dumps(self.logs)
                group["random_states"] = np.array([state.numpy() for state in _random_states(self.model)], np.int64)
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - start

    def _restore(self):
        self.model.load_weights(self.path)
        with h5py.File(self.path) as file:
            group = file["training"]
            self.epochs_done = int(group.attrs["epochs_done"])
            self.logs = json.loads(group["logs"].asstr()[()])
            for state, value in zip(_random_states(self.model), group["random_states"][()], strict=True):
                state.assign(value)


class Progress(keras.callbacks.Callback):
    """A progress bar over epochs, with the losses, see `stages.bar`."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        done = self.model._initial_epoch or 0
        self.bar = stages.bar(f"Training {self.model.name}", total=self.params["epochs"], initial=done, unit="epochs")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in (logs or {}).items()}, refresh=False)
        self.bar.update()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.bar.close()


class SampleGrid(keras.callbacks.Callback):
    """Draws the same z at the end of epochs, in inference mode, into `folder/epoch_NNNN.png`.

    Args:
        folder: Made where it is missing.
        n: Images in the grid.
        every: Epochs between two pictures.
    """

    def __init__(self, folder: str | Path, n: int = 64, every: int = 1) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.n = n
        self.every = every

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if (epoch + 1) % self.every == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            figure = plots.samples(self.model.generate(self.n), title=f"epoch {epoch + 1}")
            figure.savefig(self.folder / f"epoch_{epoch + 1:04d}.png", dpi=80)


class TensorBoard(keras.callbacks.Callback):
    """Writes losses and pictures for TensorBoard, which `pip install anogan-tf[tensorboard]` brings along.

    Pictures are samples of a GAN, and of an `FAnoGAN` queries, their reconstructions, and in red where the two differ.

    Args:
        log_dir: What to call `tensorboard --logdir` with; made where it is missing.
        queries: Images `(n, height, width, channels)` in [-1, 1] for an `FAnoGAN` to reconstruct.
        every: Epochs between two pictures.

    Raises:
        ImportError: If TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | Path, queries: np.ndarray | None = None, every: int = 1) -> None:
        super().__init__()
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("TensorBoard is not installed: pip install anogan-tf[tensorboard].")
        self.log_dir = str(log_dir)
        self.queries = queries
        self.every = every

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with self.writer.as_default(step=epoch + 1):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, value)
            if (epoch + 1) % self.every == 0:
                for name, figure in self._figures().items():
                    tf.summary.image(name, plots.pixels(figure)[None])

    def on_train_end(self, logs: dict | None = None) -> None:
        self.writer.close()

    def _figures(self):
        if hasattr(self.model, "generate"):
            return {"samples": plots.samples(self.model.generate(64))}
        if self.queries is None:
            return {}
        return {"reconstructions": plots.reconstructions(self.queries, self.model.reconstruct(self.queries))}


class StopOnNaN(keras.callbacks.Callback):
    """Raises an ArithmeticError at the first batch after which a metric is not finite; Keras' own looks at `loss` only.

    At the end of an epoch it looks at the weights too. Put it before `Checkpoint`, so that no broken state is saved.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        broken = {name: value for name, value in (logs or {}).items() if not math.isfinite(value)}
        if broken:
            self._stop(f"batch {batch + 1}: {broken}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        for variable in self.model.variables:
            if "float" in variable.dtype and not np.isfinite(variable.numpy()).all():
                self._stop(f"{variable.path} has values that are not finite")

    def _stop(self, what):
        raise ArithmeticError(
            f"Training diverged in epoch {self.epoch + 1}, {what}. The last checkpoint is kept; try a smaller learning "
            "rate."
        )


def weights_size(model: keras.Model) -> int:
    """About how many bytes the weights of a model take in a file."""
    values = (variable.value for variable in model.variables)
    return sum(value.shape.num_elements() * value.dtype.size + 4096 for value in values)


def _random_states(model):
    """The states of all seed generators in a model's layers, which weight files leave out."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    return [layer.seed_generator.state for layer in layers if hasattr(layer, "seed_generator")]
