"""A network of this package in PyTorch: the same layers with the same weights."""

import keras
import numpy as np
import torch
from torch.nn import functional


class TorchNetwork(torch.nn.Module):
    """A chain of Keras layers in inference mode; images and features are `(batch, channels, height, width)`.

    Args:
        network: A Functional Keras model without branches.
    """

    def __init__(self, network):
        super().__init__()
        self.steps = [TORCH[type(layer)](layer) for layer in network.layers if type(layer) in TORCH]
        unknown = {type(layer).__name__ for layer in network.layers if type(layer) not in (*TORCH, *NOTHING)}
        if unknown:
            raise ValueError(f"There is no PyTorch counterpart. Received: layers {sorted(unknown)}.")

    def forward(self, tensor):
        for step in self.steps:
            tensor = step(tensor)
        return tensor


def _tensor(array):
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _weights(layer, *axes):
    """Kernel, with its axes in PyTorch's order, and bias or None."""
    kernel, *bias = layer.get_weights()
    return _tensor(kernel.transpose(axes)), _tensor(bias[0]) if bias else None


def _activation(layer):
    return {"linear": lambda tensor: tensor, "relu": torch.relu, "tanh": torch.tanh}[layer.activation.__name__]


def _dense(layer):
    (kernel, bias), activation = _weights(layer, 1, 0), _activation(layer)
    return lambda tensor: activation(functional.linear(tensor, kernel, bias))


def _convolution(layer):
    (kernel, bias), activation = _weights(layer, 3, 2, 0, 1), _activation(layer)
    side, stride = layer.kernel_size[0], layer.strides[0]

    def apply(tensor):
        padding = []
        for size in tensor.shape[:1:-1]:  # width, then height
            total = max((-(-size // stride) - 1) * stride + side - size, 0)
            padding += [total // 2, total - total // 2]
        return activation(functional.conv2d(functional.pad(tensor, padding), kernel, bias, stride))

    return apply


def _transposed(layer):
    (kernel, bias), activation = _weights(layer, 3, 2, 0, 1), _activation(layer)
    side, stride = layer.kernel_size[0], layer.strides[0]

    def apply(tensor):
        height, width = tensor.shape[2] * stride, tensor.shape[3] * stride
        padding = (side - stride) // 2
        tensor = functional.conv_transpose2d(tensor, kernel, bias, stride, padding)
        return activation(tensor[:, :, :height, :width])  # an odd surplus lies at the end

    return apply


def _normalization(layer):
    scale, shift, mean, variance = (_tensor(weight) for weight in layer.get_weights())
    return lambda tensor: functional.batch_norm(tensor, mean, variance, scale, shift, eps=layer.epsilon)


def _reshape(layer):
    height, width, channels = layer.target_shape
    return lambda tensor: tensor.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def _crop(layer):
    (top, bottom), (left, right) = layer.cropping
    return lambda tensor: tensor[:, :, top : tensor.shape[2] - bottom, left : tensor.shape[3] - right]


TORCH = {
    keras.layers.Dense: _dense,
    keras.layers.Conv2D: _convolution,
    keras.layers.Conv2DTranspose: _transposed,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.Reshape: _reshape,
    keras.layers.Cropping2D: _crop,
    keras.layers.Activation: _activation,
    keras.layers.ReLU: lambda layer: torch.relu,
    keras.layers.LeakyReLU: lambda layer: lambda tensor: functional.leaky_relu(tensor, layer.negative_slope),
}
NOTHING = (keras.layers.InputLayer, keras.layers.Dropout)
