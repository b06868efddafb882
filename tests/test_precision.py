import runpy

import pytest
import tensorflow as tf

from anogan_tf import formats, gan, scoring


@pytest.mark.parametrize("module", [gan, scoring])
def test_what_trains_and_what_scores_switches_tensorfloat_off(module):
    tf.config.experimental.enable_tensor_float_32_execution(True)
    runpy.run_path(module.__file__)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_a_saved_model_is_called_in_whole_float32(tmp_path):
    function = tf.function(lambda pictures: {"sum": pictures}, [tf.TensorSpec((), tf.float32, formats.INPUT)])
    formats.of_name("saved_model").write({"serving_default": function}, tmp_path)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    formats.of_name("saved_model").load(tmp_path)
    assert not tf.config.experimental.tensor_float_32_execution_enabled()
