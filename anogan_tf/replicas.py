"""Training on several GPUs or machines: how `tf.distribute` is told of them, and what all have to wait for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

REWRITTEN = ("arithmetic_optimization", "remapping")  # of a graph, by the names that its operations have
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


def strategy() -> tf.distribute.Strategy:
    """How this process trains: as one worker of those that `TF_CONFIG` lists, else on all GPUs (or logical CPUs).

    To be called before TensorFlow computes anything. Of what TensorFlow does to make graphs faster it switches off what
    goes by the names of operations, which differ between replicas of one process and of several: sums would round in
    another order, and weights have other bits.
    """
    tf.config.optimizer.set_experimental_options(dict.fromkeys(REWRITTEN, False))
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what the others only read: the `chief` of `TF_CONFIG`, or worker 0 without one."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" if has_chief else (resolver.task_type, resolver.task_id) == ("worker", 0)


def check_batch(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises a ValueError if replicas would get parts of a batch that are not of one size."""
    n = strategy.num_replicas_in_sync
    if batch_size % n:
        raise ValueError(
            f"{n} replicas share a batch, so its size is a multiple of that. Received: --batch-size {batch_size}."
        )


def wait(strategy: tf.distribute.Strategy) -> None:
    """Goes on when all workers are here."""
    strategy.reduce("SUM", strategy.run(lambda: tf.ones(())), axis=None)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Says in one line that another worker is gone, on which this one can only wait."""
    try:
        yield
    except LOST as error:
        raise ConnectionError(
            "Another worker was lost. Start all workers again with the same command: they go on from the last "
            "checkpoint."
        ) from error
