"""The kinds of layer: three products each, and the meaning of the kernel's axes.

A layer computes `y = op(x; W)`. The two other products are the adjoints of `op`:

    <op(x; W), y>  =  <x, op_transpose(y; W)>  =  <W, hebbian(x, y)>

Everything above this package (primitives, rules, layers) is written in terms of them, so a new
kind of layer is one new `Connection`.
"""

from tfcredit.connections.axes import KernelAxes
from tfcredit.connections.base import Connection
from tfcredit.connections.convolution import ConvConnection
from tfcredit.connections.dense import DenseConnection
from tfcredit.connections.depthwise import DepthwiseConnection
from tfcredit.connections.einsum import EinsumConnection
from tfcredit.connections.gated import GatedConnection
from tfcredit.connections.transposed import TransposedConnection

__all__ = [
    "Connection",
    "ConvConnection",
    "DenseConnection",
    "DepthwiseConnection",
    "EinsumConnection",
    "GatedConnection",
    "KernelAxes",
    "TransposedConnection",
]
