"""The six primitives of Kunin et al. 2020 and Kolen-Pollack, each complete in itself."""

from tfcredit.primitives.base import PRIMITIVES, Primitive


class Decay(Primitive):
    """1/2 |B|^2: draws B to 0."""

    name, degree, reads = "decay", 2, frozenset("B")
    value_is_free = True

    def value(self, seen):
        """See `Primitive.value`."""
        own = seen.half_square(seen.b)
        return own + seen.half_square(seen.w) if seen.updates_forward else own

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        return [(scale, seen.b)]


class Amp(Primitive):
    """-(1/n) <y, op(x; B)>: turns B towards the correlation of x and y."""

    name, degree, reads = "amp", 1, frozenset("xy")

    def value(self, seen):
        """See `Primitive.value`."""
        return -seen.inner(*seen.paired) / seen.n

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        return [seen.correlation(-scale, seen.x, seen.partner)]


class Null(Primitive):
    """1/(2n) |opT(y; B)|^2: makes what B sends back of y small."""

    name, degree, reads = "null", 2, frozenset("yB")

    def value(self, seen):
        """See `Primitive.value`."""
        return seen.half_square(seen.reconstructed) / seen.n

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        return [seen.correlation(scale, seen.reconstructed, seen.y)]


class Sparse(Primitive):
    """1/(2n) |op(x; B)|^2: makes what B makes of x small; runs B forward."""

    name, degree, reads = "sparse", 2, frozenset("xB")

    def value(self, seen):
        """See `Primitive.value`."""
        forward, backward = seen.projected
        own = seen.half_square(backward)
        return (own + seen.half_square(forward) if seen.updates_forward else own) / seen.n

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        _, backward = seen.projected
        return [seen.correlation(scale, seen.x, backward)]


class Self(Primitive):
    """-<B, W>: turns B towards W, which it reads."""

    name, degree, reads = "self", 1, frozenset("W")
    value_is_free = True

    def value(self, seen):
        """See `Primitive.value`."""
        return -seen.inner(seen.b, seen.w)

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        return [(-scale, seen.w)]


class Error(Primitive):
    """<B, H(x, dy)>: gives B the gradient of W; the backward pass adds it."""

    name, degree, reads = "error", 1, frozenset({"x", "dy"})

    def terms(self, seen, scale=1.0):
        """See `Primitive.terms`."""
        return [(scale, seen.product(seen.x, seen.dy))]


# A statement each: the site's reference reads them.
decay = Decay()
"""Draws B to 0."""
amp = Amp()
"""Turns B towards the correlation of x and y."""
null = Null()
"""Makes what B sends back of y small."""
sparse = Sparse()
"""Makes what B makes of x small; runs B forward."""
self_ = Self()
"""Turns B towards W, which it reads."""
error = Error()
"""Gives B the gradient of W."""
PRIMITIVES.update((each.name, each) for each in (decay, amp, null, sparse, self_, error))
