"""amp, null and sparse by products of kernels, where each position of a layer is one sample.

There op(x; W) is a product of matrices, X W, and H(x, y) is X^T Y. A chain of products may then be
multiplied from its other end:

    H(x, op(x; B)) = (X^T X) B,    H(opT(y; B), y) = B (Y^T Y),    Y^T Y = W^T (X^T X) W

Two products of all samples become one, X^T X or Y^T Y, and products of kernels, which no tensor of
the size of the activity comes out of. All are exact. Which one costs least follows from the sizes.
"""

import math
from collections.abc import Collection

import tensorflow as tf

from tfcredit.primitives.seen import Seen, Terms, over, summed_in, times, total

BATCH = 32
"""Samples where the batch size is not known: Keras' default."""
LONG = frozenset({"amp", "null", "sparse"})
"""The primitives that take products of all samples."""


def shortest(
    seen: Seen, coefficients: dict[str, float | tf.Tensor]
) -> tuple[tf.Tensor, Terms] | None:
    """R and dR/dB of amp, null and sparse by X^T X, or of null by Y^T Y, if that costs least.

    Args:
        seen: What R sees of the layer.
        coefficients: Primitive name -> number or scalar. Those that the form covers are taken out.

    Returns:
        R of these and its terms; `None` where products cost least, or there is no other form.
    """
    asked = LONG & coefficients.keys()
    if not asked or type(seen) is not Seen:  # options of the inputs of R alter what others have
        return None
    rows = seen.connection.rows(seen.x, seen.y, seen.b.shape)
    form = "products" if rows is None else _least(asked, rows, seen)
    if form == "products":
        return None
    fields = seen.connection.on_fields(seen.b.shape)
    b = fields.matrix(seen.b)
    terms, values = [], []

    def add(name: str, matrix: tf.Tensor, degree: int, sign: float = 1.0):
        factor = over(times(sign, coefficients.pop(name)), seen.n)
        terms.append((factor, fields.kernel(matrix, seen.b.shape)))
        values.append(times(factor, seen.inner(b, matrix)) / degree)

    if form == "outputs":
        add("null", tf.matmul(b, _square(rows[1], seen)), 2)
        return values[0], terms
    square = _square(rows[0], seen)
    if "sparse" in asked:
        add("sparse", tf.matmul(square, b), 2)
    if asked & {"amp", "null"}:
        w = fields.matrix(seen.w)
        forward = tf.matmul(square, w)
        if "amp" in asked:
            add("amp", forward, 1, -1.0)
        if "null" in asked:
            add("null", tf.matmul(b, tf.matmul(w, forward, transpose_a=True)), 2)
    return total(values), terms


def _square(rows: tf.Tensor, seen: Seen) -> tf.Tensor:
    """The product of a matrix with itself over its rows, in the dtype of B."""
    rows = tf.cast(rows, summed_in(rows.dtype))
    return tf.cast(tf.matmul(rows, rows, transpose_a=True), seen.b.dtype)


def _least(asked: Collection[str], rows: tuple[tf.Tensor, tf.Tensor], seen: Seen) -> str:
    """The form that costs least of those that there are."""
    inputs, outputs = (each.shape[1] for each in rows)
    batch, *rest = seen.y.shape.as_list()
    positions = math.prod(size or 1 for size in rest) // outputs  # as far as they are known
    counted = costs(asked, (batch or BATCH) * max(1, positions), inputs, outputs)
    if not (seen.y_is_product and seen.partner is seen.y):  # then y is more than x and kernels
        del counted["inputs"]
    return min(counted, key=counted.get)


def costs(asked: Collection[str], count: int, inputs: int, outputs: int) -> dict[str, float]:
    """Multiplications of each form.

    Args:
        asked: Of amp, null and sparse those with a coefficient.
        count: Samples.
        inputs: Size of a sample of x.
        outputs: Size of a sample of y.

    Returns:
        Form -> count: `"products"` (op, opT and H, as far as they are not shared), `"inputs"` (X^T
        X) and `"outputs"` (Y^T Y for null, products for the others). The first wins ties.
    """
    product = count * inputs * outputs
    through_w = inputs * inputs * outputs * (bool(set(asked) & {"amp", "null"}))
    through_b = inputs * inputs * outputs * ("sparse" in asked)
    back = 2 * inputs * outputs * outputs * ("null" in asked)
    counted = {
        "products": _by_products(asked) * product,
        "inputs": count * inputs * inputs + through_w + through_b + back,
    }
    if "null" in asked:
        others = _by_products(set(asked) - {"null"}) * product
        counted["outputs"] = count * outputs * outputs + inputs * outputs * outputs + others
    return counted


def _by_products(asked: Collection[str]) -> int:
    """Products of all samples; amp costs none beside null or sparse."""
    long = len(set(asked) & {"null", "sparse"})
    return 2 * long if long else len(asked)
