"""Keras layers whose errors travel through feedback kernels."""

from tfcredit.layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from tfcredit.layers.composite import (
    CompositeLayer,
    GroupQueryAttention,
    MultiHeadAttention,
    SeparableConv1D,
    SeparableConv2D,
)
from tfcredit.layers.convolution import Conv1D, Conv2D, Conv3D
from tfcredit.layers.dense import Dense
from tfcredit.layers.depthwise import DepthwiseConv1D, DepthwiseConv2D
from tfcredit.layers.direct import DirectFeedback
from tfcredit.layers.einsum import EinsumDense
from tfcredit.layers.feedback import FeedbackLayer
from tfcredit.layers.recurrent import GRU, LSTM, RNN, SimpleRNN
from tfcredit.layers.routing import backprop_errors
from tfcredit.layers.transposed import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose

__all__ = [
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "RNN",
    "SimpleRNN",
    "SimpleRNNCell",
    "CompositeLayer",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "DirectFeedback",
    "EinsumDense",
    "FeedbackLayer",
    "GroupQueryAttention",
    "MultiHeadAttention",
    "SeparableConv1D",
    "SeparableConv2D",
    "backprop_errors",
]
