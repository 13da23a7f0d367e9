"""The base class of primitives, weighted sums of them, and their registry."""

import abc
import inspect
import warnings
from collections.abc import Callable

import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.primitives.seen import Seen, Terms, add


class WeightedSum(dict):
    """Primitives with coefficients, `{name: number or schedule}`; what `2.0 * amp + null` gives."""

    def __add__(self, other: "WeightedSum | Primitive") -> "WeightedSum":
        total = WeightedSum(self)
        for name, coefficient in _as_sum(other).items():
            total[name] = total[name] + coefficient if name in total else coefficient
        return total


class Primitive(abc.ABC):
    """One term of R. A subclass says its value and its gradient, and registers an instance.

    Attributes:
        name: As in coefficients and flags.
        degree: R is homogeneous of this degree in B, so R = <B, dR/dB> / degree (Euler).
        reads: Which of x, y, dy, W and B its gradient reads.
        value_is_free: True if `value` takes no product.
    """

    name: str
    degree: int
    reads: frozenset[str]
    value_is_free = False

    @property
    def has_value(self) -> bool:
        """True if `value` is stated, so that inputs of R may alter its parts."""
        return type(self).value is not Primitive.value

    def value(self, seen: Seen) -> tf.Tensor:
        """R, a scalar in the dtype of B; by default by Euler's theorem."""
        return seen.inner(seen.b, self.gradient(seen)) / self.degree

    @abc.abstractmethod
    def terms(self, seen: Seen, scale: float | tf.Tensor = 1.0) -> Terms:
        """`scale` times dR/dB, as factors and tensors that are not multiplied yet.

        A factor is a pass over a tensor of the size of B, so that sums of primitives collect them.
        """

    def gradient(self, seen: Seen) -> tf.Tensor:
        """dR/dB, of the shape and dtype of B."""
        return add(self.terms(seen))

    def __mul__(self, coefficient) -> WeightedSum:
        """`coefficient * primitive`, a sum of one term."""
        return WeightedSum({self.name: coefficient})

    __rmul__ = __mul__

    def __add__(self, other: "WeightedSum | Primitive") -> WeightedSum:
        """A sum of two terms, each with coefficient 1 where none was given."""
        return _as_sum(self) + other


def _as_sum(term: WeightedSum | Primitive) -> WeightedSum:
    return 1.0 * term if isinstance(term, Primitive) else term


PRIMITIVES: dict[str, Primitive] = {}
"""Name -> primitive; those that `register` makes come to the package's own."""


class _FunctionPrimitive(Primitive):
    """A primitive that is stated by its gradient."""

    def __init__(self, name, degree, reads, function):
        self.name, self.degree, self.reads, self._function = name, degree, reads, function

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        own = self._function(seen)
        if not tf.is_tensor(own) or not own.shape.is_compatible_with(seen.b.shape):
            raise UserError(
                f"the gradient of primitive {self.name!r} is {own!r}: it must be a tensor of the "
                f"shape of B, {tuple(seen.b.shape)}."
            )
        return [(scale, tf.cast(own, seen.b.dtype))]


def register(name: str, *, degree: int, reads: str = "xyWB", formula: str | None = None):
    """Decorator that makes a primitive of its gradient, for sums such as `0.1 * mine + decay`.

    R is not stated: as it is homogeneous in B, it is <B, dR/dB> / degree (Euler).

    Args:
        name: As sums in flags have it.
        degree: R is homogeneous of this degree in B, an integer >= 1.
        reads: Which of x, y, W and B the gradient reads.
        formula: Deprecated and unused: say in the function's docstring what R is.

    Returns:
        The decorator. Its function takes a `Seen` and gives dR/dB, of the shape of B; it divides
        by the batch size `seen.n` where R is a mean. The decorator gives the `Primitive`.

    Raises:
        UserError: The name of a primitive of tfcredit, one that is no identifier, a degree below
            1, or something that a primitive can't read.

    Example:
        >>> @register("quartic", degree=4, reads="B")
        ... def quartic(seen):
        ...     return seen.b**3
        >>> 0.5 * quartic
        {'quartic': 0.5}
    """
    if not name.isidentifier() or name.endswith("_"):
        raise UserError(
            f"primitive {name!r} needs a name of letters, digits and inner underscores."
        )
    if not isinstance(PRIMITIVES.get(name), _FunctionPrimitive | None):
        raise UserError(f"primitive {name!r} is tfcredit's own: choose another name.")
    if not isinstance(degree, int) or degree < 1:
        raise UserError(f"degree={degree!r} of primitive {name!r} must be an integer >= 1.")
    if not set(reads) <= set("xyWB"):
        raise UserError(
            f"reads={reads!r} of primitive {name!r} must be letters of x, y, W and B, such as 'xy'."
        )
    if formula is not None:
        warnings.warn(
            f"formula= of primitive {name!r} is unused and will go: its docstring says what R is.",
            DeprecationWarning,
            stacklevel=2,
        )

    def decorate(function: Callable[[Seen], tf.Tensor]) -> Primitive:
        function = _of_seen(name, function)
        PRIMITIVES[name] = _FunctionPrimitive(name, degree, frozenset(reads), function)
        return PRIMITIVES[name]

    return decorate


def _of_seen(name: str, function: Callable) -> Callable[[Seen], tf.Tensor]:
    """The function of a `Seen`; of (connection, x, y, w, b) as well, for one release."""
    if len(inspect.signature(function).parameters) == 1:
        return function
    warnings.warn(
        f"primitive {name!r} is a function of (connection, x, y, w, b): let it take one argument, "
        "seen, that has these as attributes.",
        DeprecationWarning,
        stacklevel=3,
    )

    def of_seen(seen: Seen) -> tf.Tensor:
        w, b = (tf.cast(kernel, seen.x.dtype) for kernel in (seen.w, seen.b))
        return function(seen.connection, seen.x, seen.y, w, b)

    return of_seen
