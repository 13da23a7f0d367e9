"""R and dR/dB of a weighted sum of primitives, with what two primitives share computed once.

Where a position of the layer is one sample there may be a cheaper form (`chains.py`). Elsewhere
`amp` and `null` share the factor y, `amp` and `sparse` the factor x, and H is linear in each
factor: such a pair costs one product of opT (or op) and one H. `decay` and `self` are one distance.
All other primitives are summed.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from tfcredit.primitives import chains
from tfcredit.primitives.base import PRIMITIVES, Primitive
from tfcredit.primitives.seen import Seen, Terms, add, over, scalar, times, total


def value_and_gradient(
    coefficients: Mapping[str, float | tf.Tensor], seen: Seen
) -> tuple[tf.Tensor, tf.Tensor]:
    """R = sum of coefficient * primitive, and dR/dB, in closed form.

    Args:
        coefficients: Primitive name -> number or scalar; `error` is left to the backward pass.
        seen: What R sees of the layer.

    Returns:
        R (a scalar) and dR/dB (the shape of B), both in the dtype of B.

    Raises:
        UserError: A registered primitive whose gradient has not the shape of B.
    """
    value, terms = value_and_terms(coefficients, seen)
    return value, add(terms)


def value_and_terms(
    coefficients: Mapping[str, float | tf.Tensor], seen: Seen
) -> tuple[tf.Tensor, Terms]:
    """R and dR/dB as in `value_and_gradient`, the latter as terms that are not added yet.

    Args:
        coefficients: See `value_and_gradient`.
        seen: See `value_and_gradient`.

    Returns:
        R (a scalar) and the terms of dR/dB, at least one.

    Raises:
        UserError: See `value_and_gradient`.
    """
    left = {
        name: coefficient
        for name, coefficient in coefficients.items()
        if name != "error" and (tf.is_tensor(coefficient) or coefficient != 0)
    }
    shortest = chains.shortest(seen, left)
    parts = [] if shortest is None else [shortest]
    if {"amp", "null"} <= left.keys() and seen.partner is seen.y:
        parts.append(_amp_and_null(seen, left.pop("amp"), left.pop("null")))
    elif {"amp", "sparse"} <= left.keys():
        parts.append(_amp_and_sparse(seen, left.pop("amp"), left.pop("sparse")))
    if _is_distance(left):
        parts.append(_decay_and_self(seen, left.pop("decay"), left.pop("self")))
    parts += [_alone(PRIMITIVES[name], seen, value) for name, value in left.items()]
    if not parts:
        return tf.zeros([], seen.b.dtype), [(1.0, tf.zeros_like(seen.b))]
    values, terms = zip(*parts, strict=True)
    return total(values), [term for each in terms for term in each]


def _alone(primitive: Primitive, seen: Seen, coefficient) -> tuple[tf.Tensor, Terms]:
    terms = primitive.terms(seen, coefficient)
    if primitive.value_is_free:
        return times(coefficient, primitive.value(seen)), terms
    # By Euler's theorem, without a further product.
    values = [
        times(factor / primitive.degree, seen.inner(seen.b, tensor)) for factor, tensor in terms
    ]
    return total(values), terms


# By Euler's theorem <B, dR/dB> is R plus once more its terms of degree 2.
def _amp_and_null(seen: Seen, amp, null) -> tuple[tf.Tensor, Terms]:
    outside, amp_inside, ratio = _split(seen, amp, null)
    # A number goes into B; what may be 0 at some step can't, as the square is divided by it.
    scale = ratio if isinstance(ratio, float) else 1.0
    through = times(scale, seen.b)
    sent = seen.back(through)
    left = (sent if isinstance(ratio, float) else ratio * sent) - times(amp_inside, seen.x)
    doubled, product = _inner_and_product(seen, (sent, left), through, (left, seen.y))
    squared = times(over(null, seen.n), seen.half_square(sent)) / scale**2
    return times(outside, doubled / scale) - squared, [(outside, product)]


def _amp_and_sparse(seen: Seen, amp, sparse) -> tuple[tf.Tensor, Terms]:
    outside, amp_inside, ratio = _split(seen, amp, sparse)
    share = over(sparse, seen.n)
    if seen.y_is_product and isinstance(amp_inside, float) and isinstance(ratio, float):
        # op(x; B) - r y is op(x; B - r W), with nothing to subtract in tensors of y's size. R,
        # |op(x; B)|^2 / 2 - r <y, op(x; B)> but for a factor, is then a difference of squares.
        part = amp_inside / ratio
        apart = seen.b - times(part, seen.w)
        difference = seen.forward(apart)
        right = times(ratio, difference)
        square, product = _inner_and_product(seen, (difference, right), apart, (seen.x, right))
        value = times(outside, square) / 2.0 - times(share * part**2, seen.half_square(seen.y))
        return value, [(outside, product)]
    _, backward = seen.projected
    right = times(ratio, backward) - times(amp_inside, seen.partner)
    doubled, product = _inner_and_product(seen, (backward, right), seen.b, (seen.x, right))
    value = times(outside, doubled) - times(share, seen.half_square(backward))
    return value, [(outside, product)]


def _is_distance(coefficients: Mapping[str, float | tf.Tensor]) -> bool:
    """True if decay and self are best made of B's distance to W."""
    if not {"decay", "self"} <= coefficients.keys():
        return False
    decay, self_ = coefficients["decay"], coefficients["self"]
    # Where `self` is far above `decay` R would be a small difference of large squares.
    return not tf.is_tensor(decay) and not tf.is_tensor(self_) and self_ <= 2.0 * decay


def _decay_and_self(seen: Seen, decay: float, self_: float) -> tuple[tf.Tensor, Terms]:
    # With r = self / decay the sum is decay (|B - r W|^2 - |r W|^2) / 2: one tensor in place of two
    # that are scaled and added, and squares of one tensor in place of a product of two.
    ratio = float(self_ / decay)
    apart = seen.b - times(ratio, seen.w)
    value = decay * (seen.half_square(apart) - ratio**2 * seen.half_square(seen.w))
    return value, [(decay, apart)]


def _inner_and_product(
    seen: Seen, activity: tuple, kernel: tf.Tensor, factors: tuple
) -> tuple[tf.Tensor, tf.Tensor | Callable[[], tf.Tensor]]:
    """<kernel, H(l, r)>, which is <opT(r; kernel), l> = <op(l; kernel), r>, and H of the factors.

    The inner product is that of the smaller pair of tensors. H waits where that is the activity:
    dR/dB is kept from the forward pass to the update then as factors that are smaller.
    """
    size, other = activity[0].shape.num_elements(), kernel.shape.num_elements()
    if None not in (size, other) and size < other:
        return seen.inner(*activity), lambda: seen.product(*factors)
    product = seen.product(*factors)
    return seen.inner(kernel, product), product


def _split(seen: Seen, amp, other) -> tuple:
    """Two coefficients over n as a common factor and what is left of each.

    The factor acts on a tensor of the size of B, the rest on activity, which is mostly larger: so
    the factor is such that nothing is left of one coefficient. All of it acts on the activity in
    float16, which a ratio of coefficients may leave, and where coefficients are so far apart that
    what is left of one would underflow.
    """
    pair, dtype = (amp, other), seen.x.dtype
    numbers = [float(value) for value in pair if not tf.is_tensor(value)]
    sizes = [abs(number) for number in numbers]
    if not numbers or max(sizes) > 1000 * min(sizes) or dtype == tf.float16:
        return 1.0, *(scalar(over(value, seen.n), dtype) for value in pair)
    inside = (
        tf.cast(value / numbers[0], dtype) if tf.is_tensor(value) else float(value) / numbers[0]
        for value in pair
    )
    return over(numbers[0], seen.n), *inside
