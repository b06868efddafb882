"""Nothing that trains or scores is tied to the host: each operation of its graphs has a kernel for GPUs.

Without a GPU that is what can be looked at: what TensorFlow would place where.
"""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

import anogan_tf as agt
from anogan_tf.distances import Kinds, Places, Scales, Turning
from anogan_tf.local_features import local_features

pytestmark = pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="this TensorFlow knows no GPU")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (12, 16, 16, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def anogan():
    gan = agt.DCGAN((16, 16, 1), latent_dim=4, width=4, self_supervision=("rotation", "shift"))
    gan.compile()
    return agt.AnoGAN(gan, encoder=agt.FAnoGAN(gan).encoder, score="features+transformations")


def graphs(anogan):
    search, context = anogan._begun(IMAGES)
    yield "start of the search", anogan._start_and_context.get_concrete_function(tf.constant(IMAGES))
    yield "search", search.advance.get_concrete_function(context, tf.constant(2))
    yield "evidence", anogan._comparison.evidence.get_concrete_function(tf.constant(IMAGES))
    yield "outputs", anogan._comparison.outputs.get_concrete_function(tf.constant(IMAGES), tf.identity(search.z))
    yield "training", tf.function(anogan.gan.train_step).get_concrete_function(tf.constant(IMAGES))
    features = local_features(IMAGES).numpy()
    yield "local features", local_features.get_concrete_function(tf.constant(IMAGES))
    for of_scale in (Places, Kinds, Turning):
        scales = Scales.fit(features, 0, of_scale)
        yield of_scale.__name__, tf.function(scales._of_features).get_concrete_function(tf.constant(features[0]))


def test_each_operation_has_a_kernel_for_gpus(anogan):
    for name, function in graphs(anogan):
        graph = function.graph.as_graph_def()
        nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
        lacking = {node.op for node in nodes if not devices(node.op) & {"GPU", "DEFAULT"}}
        assert not lacking, f"{name}: {lacking}"


def test_an_operation_of_the_host_is_noticed():
    assert not devices("PyFuncStateless") & {"GPU", "DEFAULT"}


def devices(operation):
    return {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(operation).kernel}
