"""The six terms of the regularisation function R that teaches a feedback kernel.

With forward kernel W, feedback kernel B, the layer's input x, its pre-activation y = op(x; W),
the error dy that reaches y, batch size n, and R summed over space and features:

| primitive | R                          | dR/dB                     | degree in B | reads    |
|-----------|----------------------------|---------------------------|-------------|----------|
| `decay`   | `1/2 |B|^2`                | `B`                       | 2           | B        |
| `amp`     | `-(1/n) <y, op(x; B)>`     | `-(1/n) H(x, y)`          | 1           | x, y     |
| `null`    | `1/(2n) |opT(y; B)|^2`     | `(1/n) H(opT(y; B), y)`   | 2           | B, y     |
| `sparse`  | `1/(2n) |op(x; B)|^2`      | `(1/n) H(x, op(x; B))`    | 2           | B, x     |
| `self`    | `-<B, W>`                  | `-W`                      | 1           | W        |
| `error`   | `<B, H(x, dy)>`            | `H(x, dy)`                | 1           | x, dy    |

H is `Connection.hebbian`, opT is `Connection.op_transpose`. `amp`, `decay`, `null` and `error` are
local to the synapse; `sparse` runs B forward and `self` reads W (weight transport). Source:
Kunin et al. 2020, section 3 and table 1, here with half-squares; `error` is Kolen-Pollack's.

All gradients are closed forms, so nothing differentiates R and only a tensor of the size of B
outlives the forward pass. `amp` and `null` share the factor y, `amp` and `sparse` the factor x,
and H is linear in each factor: a sum of them costs one product each of opT (or op) and one H.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfcredit.connections import Connection
from tfcredit.errors import UserError


class WeightedSum(dict):
    """Primitives with coefficients, `{name: number or schedule}`; what `2.0 * amp + null` gives."""

    def __add__(self, other: "WeightedSum | Primitive") -> "WeightedSum":
        total = WeightedSum(self)
        for name, coefficient in _as_sum(other).items():
            total[name] = total[name] + coefficient if name in total else coefficient
        return total


@dataclasses.dataclass(frozen=True)
class Primitive:
    """One term of R.

    Attributes:
        name: As in coefficients and flags.
        degree: R is homogeneous of this degree in B, so R = <B, dR/dB> / degree (Euler).
        reads: Which of x, y, dy, W and B its gradient reads.
        formula: R in words.
        gradient: dR/dB of a user's primitive (`register`); None for those of this module.
    """

    name: str
    degree: int
    reads: frozenset[str]
    formula: str
    gradient: Callable[..., tf.Tensor] | None = None

    def __mul__(self, coefficient) -> WeightedSum:
        """`coefficient * primitive`, a sum of one term."""
        return WeightedSum({self.name: coefficient})

    __rmul__ = __mul__

    def __add__(self, other: "WeightedSum | Primitive") -> WeightedSum:
        """A sum of two terms, each with coefficient 1 where none was given."""
        return _as_sum(self) + other


def _as_sum(term: WeightedSum | Primitive) -> WeightedSum:
    return 1.0 * term if isinstance(term, Primitive) else term


decay = Primitive("decay", 2, frozenset("B"), "1/2 |B|^2")
"""Draws B to 0."""
amp = Primitive("amp", 1, frozenset("xy"), "-(1/n) <y, op(x; B)>")
"""Turns B towards the correlation of x and y."""
null = Primitive("null", 2, frozenset("yB"), "1/(2n) |opT(y; B)|^2")
"""Makes what B sends back of y small."""
sparse = Primitive("sparse", 2, frozenset("xB"), "1/(2n) |op(x; B)|^2")
"""Makes what B makes of x small; runs B forward."""
self_ = Primitive("self", 1, frozenset("W"), "-<B, W>")
"""Turns B towards W, which it reads."""
error = Primitive("error", 1, frozenset({"x", "dy"}), "<B, H(x, dy)>")
"""Gives B the gradient of W."""

PRIMITIVES = {p.name: p for p in (decay, amp, null, sparse, self_, error)}
"""Name -> primitive; those that `register` makes come to them."""


def register(name: str, *, degree: int, formula: str, reads: str = "xyWB"):
    """Decorator that makes a primitive of its gradient, for sums such as `0.1 * mine + decay`.

    R is not stated: as it is homogeneous in B, it is <B, dR/dB> / degree (Euler).

    Args:
        name: As sums in flags have it.
        degree: R is homogeneous of this degree in B, an integer >= 1.
        formula: R in words.
        reads: Which of x, y, W and B the gradient reads.

    Returns:
        The decorator. Its function is called as `function(connection, x, y, w, b)` and gives dR/dB,
        of the shape of B; it divides by the batch size itself where R is a mean. The decorator
        gives the `Primitive`.

    Raises:
        UserError: The name of another primitive, one that is no identifier, or a degree below 1.

    Example:
        >>> @register("quartic", degree=4, formula="1/4 |B|^4", reads="B")
        ... def quartic(connection, x, y, w, b):
        ...     return b**3
        >>> 0.5 * quartic + decay
        {'quartic': 0.5, 'decay': 1.0}
    """
    if not name.isidentifier() or name.endswith("_"):
        raise UserError(
            f"primitive {name!r} needs a name of letters, digits and inner underscores."
        )
    if getattr(PRIMITIVES.get(name), "gradient", True) is None:
        raise UserError(f"primitive {name!r} is tfcredit's own: choose another name.")
    if not isinstance(degree, int) or degree < 1:
        raise UserError(f"degree={degree!r} of primitive {name!r} must be an integer >= 1.")

    def decorate(function: Callable[..., tf.Tensor]) -> Primitive:
        PRIMITIVES[name] = Primitive(name, degree, frozenset(reads), formula, function)
        return PRIMITIVES[name]

    return decorate


def batch_size(x: tf.Tensor) -> tf.Tensor:
    """The number of samples of `x`, a scalar of its dtype; graphs know it at run time only."""
    return tf.cast(tf.shape(x)[0], x.dtype)


def scalar(value: float | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A coefficient as a tensor; `tf.cast` alone would round a Python number to float32."""
    return tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(value, dtype)


def times(ratio: float | tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """The product, which for the number 1 is the tensor itself."""
    return tensor if isinstance(ratio, float) and ratio == 1.0 else ratio * tensor


Terms = Sequence[tuple[float | tf.Tensor, tf.Tensor]]
"""dR/dB as factors and tensors of the shape of B whose products are to be added."""


def value_and_gradient(*arguments: Any, **options: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """R = sum of coefficient * primitive, and dR/dB, in closed form with shared factors fused.

    Args:
        *arguments: Those of `value_and_terms`.
        **options: Likewise.

    Returns:
        R (a scalar) and dR/dB (the shape of B).
    """
    value, terms = value_and_terms(*arguments, **options)
    return value, add(terms)


def add(terms: Terms, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
    """The sum of terms, times a scale: one pass over B's size less than to scale the sum."""
    return tf.add_n([times(times(factor, scale), tensor) for factor, tensor in terms])


def value_and_terms(
    connection: Connection,
    coefficients: Mapping[str, float | tf.Tensor],
    x: tf.Tensor,
    y: tf.Tensor,
    kernel: tf.Tensor,
    feedback_kernel: tf.Tensor,
    x_backward: tf.Tensor | None = None,
    y_amp: tf.Tensor | None = None,
    y_is_product: bool = False,
) -> tuple[tf.Tensor, Terms]:
    """R and dR/dB as in `value_and_gradient`, the latter as terms that are not added yet.

    Products run in the dtype of `x`; sums over the kernel and the results are in the dtype of
    `feedback_kernel`.

    Args:
        connection: The layer's three products.
        coefficients: Name -> coefficient; `error` is ignored, since the backward pass adds it.
        x: What R sees as the layer's input, `[n, ...]`.
        y: What R sees as its pre-activation, `[n, ...]`.
        kernel: W, in the dtype of `feedback_kernel`; read by `self`, and with `y_is_product`.
        feedback_kernel: B.
        x_backward: The input of op(.; B) where it differs from `x`.
        y_amp: The factor that `amp` pairs with op(x; B) where it differs from `y`.
        y_is_product: Whether `y` is op(x; W), so that op(x; B) - y may be taken as op(x; B - W).

    Returns:
        R (a scalar) and the terms of dR/dB, at least one.

    Raises:
        UserError: A registered primitive whose gradient has not the shape of B.
    """
    dtype = feedback_kernel.dtype
    small = tf.cast(feedback_kernel, x.dtype)
    x = x if x_backward is None else x_backward
    y_amp = y if y_amp is None else y_amp
    # A number where it is one: what is known need not be computed, nor traced.
    n = float(x.shape[0]) if x.shape[0] else tf.cast(tf.shape(x)[0], dtype)
    outside, inside = _split(coefficients, n, dtype, x.dtype)

    def half_square(z):
        return tf.nn.l2_loss(tf.cast(z, dtype))

    def inner(one, other):
        return tf.reduce_sum(tf.cast(one, dtype) * tf.cast(other, dtype))

    values, terms = [], []

    # By Euler's theorem <B, dR/dB> is R plus once more its terms of degree 2. For a product it is
    # <B, H(l, r)> = <opT(r; B), l> = <op(l; B), r>: of activity that is there, where that is less.
    def add_product(factor, left, right, through=feedback_kernel, part=1.0, pair=None):
        product = tf.cast(connection.hebbian(left, right, feedback_kernel.shape), dtype)
        terms.append((factor, product))
        if pair is None or not _is_less(pair[0], feedback_kernel):
            pair = through, product
        values.append(times(part, factor) * inner(*pair))

    amp_pending = "amp" in inside
    if "null" in inside:
        # A number goes into B; what may be 0 at some step can't, as the square is divided by it.
        ratio = inside["null"]
        fixed = isinstance(ratio, float)
        through = tf.cast(times(ratio, feedback_kernel), x.dtype) if fixed else small
        sent = connection.op_transpose(y, through, tf.shape(x))
        scale = ratio if fixed else 1.0
        factor = _factor(coefficients["null"], dtype, n) / scale**2
        values.append(-factor * half_square(sent))
        left = sent if fixed else ratio * sent
        if amp_pending and y_amp is y:
            left, amp_pending = left - times(inside["amp"], x), False
        add_product(outside, left, y, times(scale, feedback_kernel), 1.0 / scale, (sent, left))
    if "sparse" in inside:
        factor = _factor(coefficients["sparse"], dtype, n)
        known = isinstance(inside["sparse"], float) and isinstance(inside.get("amp"), float)
        if y_is_product and amp_pending and known:
            # op(x; B) - r y is op(x; B - r W), with nothing to subtract in tensors of y's size. R,
            # |op(x; B)|^2 / 2 - r <y, op(x; B)> but for a factor, is then a difference of squares.
            ratio = inside["amp"] / inside["sparse"]
            apart = feedback_kernel - times(ratio, kernel)
            difference = connection.op(x, tf.cast(apart, x.dtype))
            values.append(-factor * ratio**2 * half_square(y))
            right = times(inside["sparse"], difference)
            add_product(outside, x, right, apart, 0.5, (difference, right))
            amp_pending = False
        else:
            seen = connection.op(x, small)
            values.append(-factor * half_square(seen))
            right = times(inside["sparse"], seen)
            if amp_pending:
                right, amp_pending = right - times(inside["amp"], y_amp), False
            add_product(outside, x, right, pair=(seen, right))
    if amp_pending:
        add_product(-outside, x, times(inside["amp"], y_amp))
    if "self" in coefficients:
        factor = _factor(coefficients["self"], dtype)
        terms.append((-factor, kernel))
        values.append(-factor * inner(feedback_kernel, kernel))
    if "decay" in coefficients:
        factor = _factor(coefficients["decay"], dtype)
        terms.append((factor, feedback_kernel))
        values.append(factor * half_square(feedback_kernel))
    for name, coefficient in coefficients.items():
        primitive = PRIMITIVES[name]
        if primitive.gradient is not None:
            own = primitive.gradient(connection, x, y, tf.cast(kernel, x.dtype), small)
            if not tf.is_tensor(own) or not own.shape.is_compatible_with(feedback_kernel.shape):
                raise UserError(
                    f"the gradient of primitive {name!r} is {own!r}: it must be a tensor of the "
                    f"shape of B, {tuple(feedback_kernel.shape)}."
                )
            terms.append((_factor(coefficient, dtype), tf.cast(own, dtype)))
            values.append(terms[-1][0] / primitive.degree * inner(feedback_kernel, terms[-1][1]))
    value = tf.add_n(values or [tf.zeros([], dtype)])
    return value, terms or [(1.0, tf.zeros_like(feedback_kernel))]


def _is_less(activity: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether a tensor is known to be the smaller one."""
    size, other = activity.shape.num_elements(), kernel.shape.num_elements()
    return None not in (size, other) and size < other


def _factor(
    coefficient: float | tf.Tensor, dtype: tf.DType, n: float | tf.Tensor = 1.0
) -> float | tf.Tensor:
    """A coefficient over n: a number, or a tensor of this dtype where one of them is a tensor."""
    if tf.is_tensor(coefficient) or tf.is_tensor(n):
        return scalar(coefficient, dtype) / scalar(n, dtype)
    return float(coefficient) / n


def _split(
    coefficients: Mapping[str, float | tf.Tensor],
    n: float | tf.Tensor,
    dtype: tf.DType,
    activity_dtype: tf.DType,
) -> tuple[float | tf.Tensor, dict[str, float | tf.Tensor]]:
    """The coefficients of R's products, over n, as a common factor and what is left of each.

    The factor acts on a tensor of the size of B, the rest on activity, which is mostly larger: so
    the factor is such that nothing is left of one coefficient. All of it acts on the activity in
    float16, where products have to sum means, as totals would overflow, and where coefficients are
    so far apart that what is left of one would underflow.
    """
    active = {
        name: coefficients[name] for name in ("amp", "null", "sparse") if name in coefficients
    }
    active = {name: value for name, value in active.items() if tf.is_tensor(value) or value != 0}
    numbers = [float(value) for value in active.values() if not tf.is_tensor(value)]
    sizes = [abs(number) for number in numbers]
    if not numbers or max(sizes) > 1000 * min(sizes) or activity_dtype == tf.float16:
        return 1.0, {key: scalar(_factor(v, dtype, n), activity_dtype) for key, v in active.items()}
    first = numbers[0]
    inside = {
        key: tf.cast(value / first, activity_dtype) if tf.is_tensor(value) else float(value / first)
        for key, value in active.items()
    }
    return _factor(first, dtype, n), inside
