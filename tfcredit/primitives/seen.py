"""A layer as R sees it, and the sums that R's terms are made of."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfcredit.connections import Connection

Terms = Sequence[tuple[float | tf.Tensor, tf.Tensor | Callable[[], tf.Tensor]]]
"""dR/dB as factors and tensors of the shape of B whose products are to be added.

A function gives its tensor where the sum is taken: in the backward pass.
"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A layer as R sees it. Products run in the dtype of x, sums over the kernel in that of B.

    Attributes:
        connection: The layer's three products.
        x: The layer's input `[n, ...]`.
        y: Its pre-activation op(x; W) `[n, ...]`, without bias.
        w: The forward kernel W in the dtype of `b`.
        b: The feedback kernel B.
        dy: The error that reached `y`, or `None` outside of the backward pass.
        y_is_product: True if `y` is known to be op(x; W), so that op(x; B) - y may be computed as
            op(x; B - W).
        y_amp: What `amp` pairs with op(x; B) where it differs from `y`.
    """

    connection: Connection
    x: tf.Tensor
    y: tf.Tensor
    w: tf.Tensor
    b: tf.Tensor
    dy: tf.Tensor | None = None
    y_is_product: bool = False
    y_amp: tf.Tensor | None = None

    updates_forward = False
    """True if R holds the forward kernel's own terms too (`AlignmentInputs.update_forward`)."""

    @functools.cached_property
    def n(self) -> float | tf.Tensor:
        """The batch size: a number where it is known, else a scalar of the dtype of `b`.

        At least 1: a replica may get no samples, whose sums are 0 and stay so.
        """
        known = self.x.shape[0]
        if known is not None:
            return float(max(known, 1))
        return tf.cast(tf.maximum(tf.shape(self.x)[0], 1), self.b.dtype)

    @functools.cached_property
    def projected(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The forward projection op(x; W) and the backward projection op(x; B)."""
        return self.y, self.forward(self.b)

    @functools.cached_property
    def reconstructed(self) -> tf.Tensor:
        """The reconstruction opT(y; B), of the shape of x."""
        return self.back(self.b)

    @property
    def paired(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The two activities whose correlation `amp` is."""
        return self.partner, self.projected[1]

    @property
    def partner(self) -> tf.Tensor:
        """The partner of op(x; B) in `amp`."""
        return self.y if self.y_amp is None else self.y_amp

    def forward(self, kernel: tf.Tensor) -> tf.Tensor:
        """op(x; kernel)."""
        return self.connection.op(self.x, tf.cast(kernel, self.x.dtype))

    def back(self, kernel: tf.Tensor) -> tf.Tensor:
        """opT(y; kernel)."""
        return self.connection.op_transpose(self.y, tf.cast(kernel, self.x.dtype), tf.shape(self.x))

    def inner(self, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        """The sum of the products of two tensors of one shape, in the dtype of `b`."""
        dtype = self.b.dtype
        return tf.reduce_sum(tf.cast(one, dtype) * tf.cast(other, dtype))

    def half_square(self, tensor: tf.Tensor) -> tf.Tensor:
        """Half the sum of squares, in the dtype of `b`."""
        return tf.nn.l2_loss(tf.cast(tensor, self.b.dtype))

    def correlation(
        self, factor: float | tf.Tensor, left: tf.Tensor, right: tf.Tensor
    ) -> tuple[float | tf.Tensor, tf.Tensor]:
        """`factor` / n times H(left, right), as a term of dR/dB.

        Args:
            factor: A number, or a scalar.
            left: Of the shape of x.
            right: Of the shape of y.

        Returns:
            A factor and a tensor of the shape and dtype of B.
        """
        return over(factor, self.n), self.product(left, right)

    def product(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """H(left, right) in the dtype of `b`; float16 tensors are summed in float32."""
        left, right = (tf.cast(each, summed_in(each.dtype)) for each in (left, right))
        return tf.cast(self.connection.hebbian(left, right, self.b.shape), self.b.dtype)


def batch_size(x: tf.Tensor) -> tf.Tensor:
    """The number of samples of `x`, at least 1, a scalar of its dtype.

    A replica may get no samples: their sums are 0, and so are their means then.
    """
    return tf.cast(tf.maximum(tf.shape(x)[0], 1), x.dtype)


def summed_in(dtype: tf.DType) -> tf.DType:
    """The dtype for products of activity that is of `dtype`, in which their sums don't overflow.

    A sum over a batch and over an image of 64x64 pixels from 0 to 255 is beyond float16's 65,504.
    """
    return tf.float32 if dtype == tf.float16 else dtype


def scalar(value: float | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A coefficient as a tensor; `tf.cast` alone would round a Python number to float32."""
    return tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(value, dtype)


def times(ratio: float | tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """The product, which for the number 1 is the tensor (or number) itself."""
    if isinstance(ratio, float) and ratio == 1.0:
        return tensor
    if tf.is_tensor(ratio) and tf.is_tensor(tensor):
        ratio = tf.cast(ratio, tensor.dtype)
    return ratio * tensor


def over(factor: float | tf.Tensor, n: float | tf.Tensor) -> float | tf.Tensor:
    """`factor` / n: a number, or a tensor where one of them is a tensor."""
    if tf.is_tensor(factor) and tf.is_tensor(n):
        return tf.cast(factor, n.dtype) / n
    return factor / n


def add(terms: Terms, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
    """The sum of terms, times a scale: one pass over B's size less than to scale the sum."""
    return total(
        [times(times(factor, scale), term() if callable(term) else term) for factor, term in terms]
    )


def total(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum, which of one tensor is the tensor itself: each op is traced in every layer."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)
