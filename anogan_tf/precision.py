"""Whole float32 on every device."""

import tensorflow as tf


def use_whole_float32() -> None:
    """Switches TensorFloat-32 off, in which GPUs since Ampere multiply where TensorFlow is left alone.

    Of the 23 bits of a float32's mantissa it keeps 10. Small differences of large sums are lost: a filter that sums to
    zero no longer does, so that an even, bright surface has waves, and a distance |a|² + |b|² - 2ab was off by a tenth.
    Good pictures had the scores of defects in one process and not in another, it seems as each finds out which kernels
    are fastest. The switch is TensorFlow's own, of the whole process, as scores are computed in several threads.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)
