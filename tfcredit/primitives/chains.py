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

from tfcredit.primitives.seen import Seen, Terms, over, summed_in, times

BATCH = 32
"""Samples where the batch size is not known: Keras' default."""
LONG = frozenset({"amp", "null", "sparse"})
"""The primitives that take products of all samples."""


def through_inputs(
    seen: Seen, coefficients: dict[str, float | tf.Tensor]
) -> tuple[tf.Tensor, Terms] | None:
    """R and dR/dB of amp, null and sparse by X^T X, if that costs least.

    Args:
        seen: What R sees of the layer.
        coefficients: Primitive name -> number or scalar. Those of the three are taken out where
            the form is used.

    Returns:
        R of these and its terms; `None` where another form costs less, or there is none.
    """
    asked = LONG & coefficients.keys()
    rows = _rows(seen) if asked and _is_of_inputs(seen) else None
    if rows is None or not _is_least("inputs", asked, rows, seen):
        return None
    fields = seen.connection.on_fields(seen.b.shape)
    w, b = fields.matrix(seen.w), fields.matrix(seen.b)
    square = _square(rows[0], seen)
    terms, values = [], []

    def add(name: str, matrix: tf.Tensor, degree: int, sign: float = 1.0):
        factor = over(times(sign, coefficients.pop(name)), seen.n)
        terms.append((factor, fields.kernel(matrix, seen.b.shape)))
        values.append(times(factor, seen.inner(b, matrix)) / degree)

    forward = tf.matmul(square, w) if asked & {"amp", "null"} else None
    if "amp" in asked:
        add("amp", forward, 1, -1.0)
    if "sparse" in asked:
        add("sparse", tf.matmul(square, b), 2)
    if "null" in asked:
        add("null", tf.matmul(b, tf.matmul(w, forward, transpose_a=True)), 2)
    return tf.add_n(values), terms


def null_through_outputs(
    seen: Seen, coefficients: dict[str, float | tf.Tensor]
) -> tuple[tf.Tensor, Terms] | None:
    """R and dR/dB of null by Y^T Y, if that costs least; see `through_inputs`."""
    asked = LONG & coefficients.keys()
    rows = _rows(seen) if "null" in asked else None
    if rows is None or not _is_least("outputs", asked, rows, seen):
        return None
    fields = seen.connection.on_fields(seen.b.shape)
    b = fields.matrix(seen.b)
    matrix = tf.matmul(b, _square(rows[1], seen))
    factor = over(coefficients.pop("null"), seen.n)
    value = times(factor, seen.inner(b, matrix)) / 2.0
    return value, [(factor, fields.kernel(matrix, seen.b.shape))]


def _rows(seen: Seen) -> tuple[tf.Tensor, tf.Tensor] | None:
    # Options of the inputs of R alter what a subclass of `Seen` has.
    return seen.connection.rows(seen.x, seen.y, seen.b.shape) if type(seen) is Seen else None


def _square(rows: tf.Tensor, seen: Seen) -> tf.Tensor:
    """The product of a matrix with itself over its rows, in the dtype of B."""
    rows = tf.cast(rows, summed_in(rows.dtype))
    return tf.cast(tf.matmul(rows, rows, transpose_a=True), seen.b.dtype)


def _is_least(form: str, asked: Collection[str], rows: tuple, seen: Seen) -> bool:
    inputs, outputs = (each.shape[1] for each in rows)
    counted = costs(asked, _count(seen, inputs), inputs, outputs)
    if not _is_of_inputs(seen):
        del counted["inputs"]
    return min(counted, key=counted.get) == form


def _is_of_inputs(seen: Seen) -> bool:
    """True if all that R sees follows from x and the kernels."""
    return seen.y_is_product and seen.partner is seen.y


def _count(seen: Seen, inputs: int) -> int:
    """The number of samples, as far as it is known."""
    batch, *rest = seen.y.shape.as_list()
    positions = [size or 1 for size in rest]
    outputs = math.prod(seen.b.shape) // inputs
    return (batch or BATCH) * max(1, math.prod(positions) // outputs)


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
