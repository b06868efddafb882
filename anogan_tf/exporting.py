"""Exports: one model from pictures to decisions that needs no anogan_tf, and the proof that it gives the same."""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from anogan_tf import formats, resampling, scoring


def answers(scorer, pictures, *, draw):
    preprocessing = scoring.preprocessing_of(scorer)
    calibration = scorer.calibration
    levels = resampling.cropped(tf.cast(pictures, tf.float32), preprocessing.crop)
    size = tf.shape(levels)[1:3]
    if preprocessing.image_shape[2] == 1:
        levels = resampling.gray(levels)
    if preprocessing.scale is None:
        wanted = preprocessing.image_shape[:2]
    else:
        wanted = tf.unstack(tf.cast(tf.round(tf.cast(size, tf.float32) * preprocessing.scale), tf.int32))
    images = tf.ensure_shape(resampling.resized(levels, wanted) / 127.5 - 1.0, (None, *preprocessing.common_shape)) 
    outputs = scorer.tensors(images, draw=draw)
    outputs.pop("z", None)
    score = outputs["anomaly_score"]
    limits = np.float32((calibration.threshold, calibration.strict[0], calibration.pixel_threshold))
    known = tf.constant(calibration.scores, tf.float32)
    n = len(calibration.scores)
    outputs["p_value"] = (1.0 + tf.reduce_sum(tf.cast(known >= score[:, None], tf.float32), axis=1)) / (n + 1.0)
    within = tf.cast(score[:, None] <= limits[:2], tf.int32)
    outputs["decision"] = 2 - tf.reduce_sum(within, axis=1)
    outputs["thresholds"] = tf.identity(tf.constant(limits))
    if "anomaly_map" in outputs:
        maps = resampling.smoothed(outputs["anomaly_map"], scorer.smoothing * max(scorer.image_shape[:2]))
        maps = resampling.resized_maps(maps, tf.unstack(size))
        outputs |= {"anomaly_map": maps, "anomaly_mask": tf.cast(maps > limits[2], tf.uint8)}
    return outputs


def frozen(scorer, *, draw, many):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((None if many else 1, None, None, 3), tf.uint8, name=formats.INPUT)
    function = tf.function(lambda pictures: answers(scorer, pictures, draw=draw), autograph=False)
    concrete = function.get_concrete_function(spec)
    names = sorted(concrete.structured_outputs)
    constants = convert_variables_to_constants_v2(concrete, lower_control_flow=False)

    @tf.function(input_signature=[spec], autograph=False)
    def serving_default(pictures):
        return dict(zip(names, constants(pictures), strict=True))

    return serving_default
