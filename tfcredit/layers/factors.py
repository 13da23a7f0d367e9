"""Feedback kernels that are kept as two thin factors: the routing of errors through both."""

import dataclasses
import math

import tensorflow as tf

from tfcredit.connections import Connection
from tfcredit.errors import UserError
from tfcredit.layers.routing import are_backprop_errors


@dataclasses.dataclass(frozen=True)
class Factors:
    """The shapes of B = Q P for a layer's kernel.

    Q is a kernel of the layer's kind that has `rank` outputs in the place of each group's
    `columns`; P `[rank, columns]` narrows what reaches these, in all groups alike.

    Attributes:
        connection: The layer's three products, which take kernels of Q's shape too.
        order: The axes of the kernel, as `KernelAxes.shape` has them, outputs last.
        axes_shape: That shape.
        kernel_shape: The kernel's own shape.
        outputs: The number of axes that hold outputs.
        rank: Rows of P.
        columns: The outputs that share their inputs.
    """

    connection: Connection
    order: tuple[int, ...]
    axes_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    outputs: int
    rank: int
    columns: int

    @classmethod
    def of(cls, connection: Connection, kernel_shape: list[int], rank: int, layer: str):
        """The factors of a layer.

        Args:
            connection: Its products.
            kernel_shape: The shape of its kernel.
            rank: The rank asked for; that of the kernel where it has less.
            layer: The layer's name, for the message.

        Returns:
            The shapes.

        Raises:
            UserError: The outputs are not the last axes of what the layer gives.
        """
        axes = connection.axes(kernel_shape)
        first = getattr(connection, "channels_first", False)
        inner = getattr(connection, "inner", None)
        if first or getattr(inner, "channels_first", False) or not _is_last(connection):
            raise UserError(
                f"layer {layer!r} does not have its outputs on the last axes, along which "
                "low-dimensional feedback narrows errors: use channels_last, an equation that ends "
                "in the kernel's new axes, or another rule."
            )
        last = tuple(axes.outputs)
        others = tuple(axis for axis in range(len(axes.shape)) if axis not in last)
        columns = math.prod(axes.shape[axis] for axis in last)
        rank = min(rank, columns, axes.fan_in)
        shape = tuple(axes.shape)
        return cls(connection, others + last, shape, tuple(kernel_shape), len(last), rank, columns)

    @property
    def factor_shape(self) -> list[int]:
        """The shape of Q."""
        narrow = list(self.axes_shape)
        for number, axis in enumerate(self.order[-self.outputs :]):
            narrow[axis] = 1 if number else self.rank
        if len(narrow) > len(self.kernel_shape):  # groups and outputs are one axis of the kernel
            *narrow, groups, outputs = narrow
            narrow.append(groups * outputs)
        return narrow

    def cut(self, kernel: tf.Tensor) -> tf.Tensor:
        """The first `rank` outputs of each group of a kernel, in the shape of Q."""
        return self._back(self._matrix(kernel, self.axes_shape)[:, : self.rank], self.factor_shape)

    def product(self, q: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
        """B, of the kernel's shape."""
        narrow = [self.axes_shape[axis] for axis in self.order]
        narrow[-self.outputs :] = [self.rank] + [1] * (self.outputs - 1)
        shape = [narrow[self.order.index(axis)] for axis in range(len(narrow))]
        return self._back(self._matrix(q, shape) @ p, self.kernel_shape)

    def _matrix(self, kernel: tf.Tensor, shape) -> tf.Tensor:
        """A kernel whose axes have this shape, as a matrix `[.., outputs]`."""
        ordered = tf.transpose(tf.reshape(kernel, shape), self.order)
        return tf.reshape(ordered, [-1, math.prod(ordered.shape[-self.outputs :])])

    def _back(self, matrix: tf.Tensor, shape) -> tf.Tensor:
        """The inverse of `_matrix`."""
        ordered = [self.axes_shape[axis] for axis in self.order]
        ordered[-self.outputs :] = [matrix.shape[-1]] + [1] * (self.outputs - 1)
        if matrix.shape[-1] == self.columns:
            ordered[-self.outputs :] = [self.axes_shape[i] for i in self.order[-self.outputs :]]
        back = [self.order.index(axis) for axis in range(len(self.order))]
        return tf.reshape(tf.transpose(tf.reshape(matrix, ordered), back), shape)

    def narrowed(self, dy: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
        """P dy: of the shape that Q's outputs have."""
        rows = tf.matmul(tf.reshape(dy, [-1, self.columns]), p, transpose_b=True)
        groups = math.prod(dy.shape[-self.outputs :]) // self.columns
        last = [groups * self.rank] + [1] * (self.outputs - 1)
        narrow = tf.reshape(rows, tf.concat([tf.shape(dy)[: -self.outputs], last], 0))
        return tf.ensure_shape(narrow, [*dy.shape[: -self.outputs], *last])


def _is_last(connection: Connection) -> bool:
    """True unless an equation puts the kernel's outputs elsewhere than at the end of the output."""
    output, kernel = getattr(connection, "_output", ""), getattr(connection, "_kernel", "")
    new = [axis for axis in kernel if axis in output and axis not in connection._inputs]
    return output.endswith("".join(new))


def route_through_factors(
    factors: Factors,
    x: tf.Tensor,
    kernel: tf.Tensor,
    q: tf.Tensor,
    p: tf.Tensor,
    y: tf.Tensor,
) -> tf.Tensor:
    """`y` = op(x; W), already computed, with an error that travels down through P and Q.

    For an upstream gradient dy: dx = opT(P dy; Q), dW = H(x, dy), dQ = H(x, P dy) and
    dP = op(x; Q)^T dy, summed over samples and positions.

    Args:
        factors: The shapes.
        x: The layer's input `[n, ...]`.
        kernel: W in the dtype of `x`.
        q: Q in the dtype of its variable.
        p: P likewise.
        y: op(x; W).

    Returns:
        `y`.
    """
    connection = factors.connection

    @tf.custom_gradient
    def route(x, w, q, p):
        def gradient(dy):
            # No derivative of an error reaches what carries it.
            narrow, wide = (tf.stop_gradient(tf.cast(each, x.dtype)) for each in (q, p))
            z = factors.narrowed(dy, wide)
            dq = tf.cast(connection.hebbian(x, z, factors.factor_shape), q.dtype)
            seen = tf.reshape(connection.op(x, narrow), [-1, factors.rank])
            rows = tf.reshape(dy, [-1, factors.columns])
            dp = tf.cast(tf.matmul(seen, rows, transpose_a=True), p.dtype)
            down = (dy, w) if are_backprop_errors() else (z, narrow)
            dx = connection.op_transpose(*down, tf.shape(x))
            return dx, connection.hebbian(x, dy, w.shape), dq, dp

        return tf.stop_gradient(y), gradient

    return route(x, kernel, q, p)
