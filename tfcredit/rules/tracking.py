"""Tracking rules: B finds W once, then gets every update that W gets, and is corrected by noise.

With the same update through the same optimizer W - B does not change: B never lags, at any learning
rate. W's regularizer acts on B, too. What is left to a rule is to find W once, and to correct what
the shared update misses: noise on W, weights that are loaded. Each layer remembers the error of B
that it expects, |B - W|^2 / |W|^2 = tan(angle)^2, and whether B is to be aligned: it then spends
noise at once until the angle is reached. Every other layer refines B by as much noise as a budget
of cost allows.
"""

import dataclasses
import math
import weakref
from collections.abc import Callable

import tensorflow as tf

from tfcredit import checks
from tfcredit.connections import Connection, KernelAxes
from tfcredit.connections.base import FieldConnection
from tfcredit.errors import UserError
from tfcredit.rules.base import Rule
from tfcredit.rules.calibrated import MAX_NUMBERS, seen_deviation, unit_noise
from tfcredit.rules.registry import register
from tfcredit.rules.state import LayerState, replicas
from tfcredit.rules.turns import in_turn

# Degrees by which an error that has crossed all layers of a network may be turned.
ANGLE_OF_NETWORK = 10.0
# The angle of a layer whose network is unknown: that of a layer among 25.
ANGLE_OF_LAYER = 2.0
# An alignment costs as much as so many steps of the layer, or so many multiplications, at most.
ALIGNMENT_STEPS, ALIGNMENT_PRODUCTS = 50, 2**36
# It draws its noise in parts of so many numbers, of 4 bytes each.
PART = 2**22
# Besides its samples a refinement takes some 20 passes over the kernel, which cost as much as so
# many samples. A layer waits until its budget pays for them and for as many samples, but not longer
# than some steps: then it spends all on samples. (On ResNet-18 at 224 pixels and batch 16, two
# cores, a step takes 1.13 of backprop's where a layer waits for 32 samples, and 1.01 of
# Kolen-Pollack's with 256.)
SAMPLES_OF_PASSES, MOST_STEPS = 256, 50
# A correction of `tracking_activation` takes at least so many samples in the alignment.
LEAST_SAMPLES = 256
# Each half of the noise tells by so many samples at most how many independent columns W has.
COMPARED = 64
# The mirror sees the error of B with much noise: the excess over the expected one is a running mean
# of so large a share of each look, less so many of its standard deviations.
LOOK, DOUBTS = 0.1, 5.0
# Corrections that an alignment takes at most: each takes a share of the error, a half as a rule.
MOST_CORRECTIONS = 200
# An alignment is due if the estimate's share along B is so far from what p says: W was replaced.
# Few samples tell it less well: from the least share on it takes what chance does not explain, up
# to the largest one, which a W of another direction still shows.
LEAST_SHARE, LARGEST_SHARE = 0.25, 0.9
# It is due, too, if a look finds so many times the error that an alignment leaves more than was
# expected, and more than chance explains: W was changed at once.
JUMP = 4.0
# Two estimates of a kernel are of the same one if they differ by so many times what is expected.
SAME = 2.0
# The error of B, measured outright, that asks for an alignment however it came about.
LARGEST_ERROR = 0.25
# Graph of a step -> what `_graph_of` made for it.
_MADE = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class _Fields:
    """A layer as a matrix product on receptive fields.

    Attributes:
        connection: The products on fields.
        axes: What the kernel's axes stand for.
        count: The fields in a batch of all replicas, samples times positions: a number if it is
            known before the graph runs, else a float32 scalar.
    """

    connection: Connection
    axes: KernelAxes
    count: float | tf.Tensor

    @classmethod
    def of(cls, state: LayerState) -> "_Fields":
        shape = state.kernel.shape.as_list()
        axes = state.connection.axes(shape)
        if axes.scatters:
            written = math.prod(axes.shape[axis] for axis in (*axes.taps, *axes.outputs))
            numbers, of_field = state.x, math.prod(shape) // written
        else:
            numbers, of_field = state.y, axes.columns
        known = numbers.shape.num_elements()
        count = tf.cast(tf.size(numbers), tf.float32) if known is None else float(known)
        return cls(state.connection.on_fields(shape), axes, count * (replicas() / of_field))

    @property
    def fan_in(self) -> int:
        """The weights that an output sums over."""
        return self.axes.fan_in

    def samples(self, budget: float) -> tf.Tensor:
        """Samples of noise that cost a share of the layer's three products, not rounded."""
        return 1.5 * budget * self.count  # Noise takes two products.

    def estimate(self, xi: tf.Tensor, kernel: tf.Tensor, k: int | tf.Tensor) -> tf.Tensor:
        """H(xi, op(xi; kernel)) / k for k samples of noise: unbiased for the kernel."""
        return self.estimate_by(xi, self.connection.op(xi, kernel), kernel.shape, k)

    def estimate_by(self, xi: tf.Tensor, y: tf.Tensor, shape, k: int | tf.Tensor) -> tf.Tensor:
        """Likewise, by the responses y = op(xi; kernel) of a kernel of this shape."""
        return self.connection.hebbian(xi, y / tf.cast(k, y.dtype), shape)


class TrackingRule(Rule):
    """Base of the rules that align B once, then follow W and refine B.

    Args:
        angle: Angle between B and W after the alignment, in degrees, in (0, 45). Default `None`:
            in a network of L layers with feedback kernels that of tan(angle)^2 = tan(10)^2 / L, so
            that errors which have crossed all of them are turned by 10 degrees at most, as errors
            of independent kernels add up; 2 degrees for a layer whose network is unknown.
        budget: The cost of refining B, products and passes over the kernel, as a share of the
            layer's three products, in (0, 1]. Default 0.02. A layer of small batches, whose budget
            does not pay for the passes in 50 steps, spends all of it on products.

    Raises:
        UserError: A value outside these ranges.
    """

    noise = "shared"
    # The error of B, as far as it is known; 1 where an alignment is due, else 0.
    memory = (0.0, 1.0)
    follows_forward = follows_decay = True
    aligns_when_frozen = True
    linear_in_error = True

    def __init__(self, angle: float | None = None, budget: float = 0.02):
        if angle is not None:
            angle = checks.number("angle", angle, above=0, below=45, unit="degrees")
        self.angle = angle
        self.budget = checks.number("budget", budget, above=0, at_most=1)

    @property
    def allowed(self) -> float:
        """The error tan(angle)^2 that an alignment leaves."""
        return _error(ANGLE_OF_LAYER if self.angle is None else self.angle)

    def in_network(self, layers: int) -> "TrackingRule":
        """See `Rule.in_network`: an angle that is not given becomes that of one layer among all."""
        if self.angle is not None:
            return self
        error = _error(ANGLE_OF_NETWORK) / layers
        return type(self)(math.degrees(math.atan(math.sqrt(error))), self.budget)

    def gradient(self, state: LayerState, dy: tf.Tensor, dw: tf.Tensor) -> tf.Tensor:
        """See `Rule.gradient`: B follows W."""
        return dw

    def update(self, state: LayerState) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Rule.update`: nothing, a refinement, or an alignment."""
        fields = _Fields.of(state)
        self._check_budget(state, fields.samples(self.budget))
        w, b = (_wide(tf.stop_gradient(kernel)) for kernel in (state.kernel, state.feedback_kernel))
        seed = tf.convert_to_tensor(state.seed, tf.int32)
        if tf.executing_eagerly():
            seen = dataclasses.replace(state, kernel=w, feedback_kernel=b, seed=seed)
            b, memory = self._renewed(seen, fields)
        else:
            renewed = _graph_of(self, fields.axes, state.frozen)
            b, memory = in_turn(lambda: renewed(w, b, state.memory, seed, state.step, fields.count))
        return tf.cast(b, state.feedback_kernel.dtype), memory

    def _renewed(self, state: LayerState, fields: _Fields) -> tuple[tf.Tensor, tf.Tensor]:
        """B and memory of a layer of which the kernels, seed, step and memory are known."""
        every, half = self._schedule(fields)
        kept = state.feedback_kernel, state.memory
        # Layers refine in turn, so that steps cost alike.
        turn = state.step + state.seed % MOST_STEPS
        due = (tf.math.floormod(turn, every) == 0) & (not state.frozen)

        def rest():
            return kept

        def refine():
            return self._refined(state, fields, half)

        def align():
            return self._aligned(state, fields)

        branch = tf.where(state.memory[-1] > 0, 2, tf.where(due, 1, 0))
        return tf.switch_case(branch, [rest, refine, align])

    def _schedule(self, fields: _Fields) -> tuple[int | tf.Tensor, int | tf.Tensor]:
        """The steps from one refinement to the next, and a half of the samples that it takes."""

        def schedule():
            per_step = tf.convert_to_tensor(fields.samples(self.budget))
            every = tf.clip_by_value(tf.math.ceil(2 * SAMPLES_OF_PASSES / per_step), 1, MOST_STEPS)
            collected = per_step * every
            samples = tf.maximum(
                collected - SAMPLES_OF_PASSES, tf.minimum(collected, SAMPLES_OF_PASSES)
            )
            half = tf.clip_by_value(samples / 2, 1, max(MAX_NUMBERS // fields.fan_in // 2, 1))
            return tf.cast(every, tf.int32), tf.cast(half, tf.int32)

        if tf.is_tensor(fields.count):
            return schedule()
        with tf.init_scope():  # XLA has to know how much noise it compiles.
            return tuple(int(number) for number in schedule())

    def _check_budget(self, state: LayerState, per_step: float | tf.Tensor) -> None:
        if not tf.is_tensor(per_step) and 0 < per_step * MOST_STEPS < 1:
            raise UserError(
                f"budget={self.budget:g} of rule {self.name!r} does not pay for one sample of "
                f"noise in {MOST_STEPS} steps of a layer with {state.kernel.shape.as_list()} "
                f"weights: give at least {self.budget / (per_step * MOST_STEPS):.2g}, or a larger "
                "batch."
            )

    def _refined(
        self, state: LayerState, fields: _Fields, half: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """B and its error after two times `half` samples of noise."""
        raise NotImplementedError

    def _aligned(self, state: LayerState, fields: _Fields) -> tuple[tf.Tensor, tf.Tensor]:
        """B and its error after the noise that the angle asks for."""
        raise NotImplementedError

    def get_config(self) -> dict:
        """See `Rule.get_config`."""
        return {"angle": self.angle, "budget": self.budget}


@register("tracking_mirror")
class TrackingMirror(TrackingRule):
    """B is aligned with W by noise, follows it by dW, and is refined by a Kalman filter.

    An estimate of k samples, H(xi, op(xi; W)) / k, errs by r = (fan_in - 1) / k, relative to
    |W|^2. The alignment averages (fan_in - 1) / tan(angle)^2 samples, in parts of bounded memory,
    but costs at most as much as 50 steps of the layer or some seconds. From then on

        B <- B + g (estimate - B),    g = p / (p + r),    p <- (1 - g) p,

    with the error p of B: B is the mean of all samples so far. With k samples a step and k t0 in
    the alignment, tan(angle)^2 = (fan_in - 1) / (k (t + t0)). Nothing is to be tuned: the gain
    follows from the budget. From one refinement to the next W - B stays, and so does p |W|^2: where
    W has grown beyond its largest |W|^2 since the alignment, p has fallen. |B|^2 tells by how much,
    as it is |W|^2 (1 + p).

    Where W moves in ways that B does not see, the error is larger than p. Two halves of the noise
    err independently, so <estimate_1 - B, estimate_2 - B> / |W|^2 is unbiased for it. Its running
    mean over p, less what chance explains, is added to p. Chance explains the more, the fewer
    independent columns W has; the responses of W to both halves tell. A W that was replaced shows
    in the share of the estimate along B, one that was changed at once in the error that is seen.
    Both are aligned with again in the next step; a B that then turns out to be right keeps what it
    knows.

    Locality: the noise phase reads the layer's own noise xi and its response, as `weight_mirror`
    does. To follow, both synapses have to see the same x and dy, which Kolen and Pollack assume;
    p is one number for the layer. W is read by running it forward only.

    Optimizers whose step depends on the size of the weight (LAMB, LARS, Adafactor) give W and B
    steps of slightly different size; the refinement corrects the difference. ScheduleFreeAdamW
    keeps copies of the weights and pulls B back to the one of before the alignment: it does not
    work.

    Args:
        angle: See `TrackingRule`.
        budget: See `TrackingRule`.

    Raises:
        UserError: A value outside the ranges; a budget that does not pay for one sample.

    Source: Akrout et al. 2019 for the noise phase, Kolen and Pollack 1994 for the shared update;
    calibration, schedule and filter are this package's (docs/tracking.md).
    """

    # The error p; how much more of it the noise has seen; the largest |W|^2 since the alignment, to
    # which both are relative; 1 where an alignment is due.
    memory = (0.0, 0.0, 0.0, 1.0)

    def _aligned(self, state, fields):
        """See `TrackingRule`."""
        b, error = self._mean(state, fields)
        before, known = state.feedback_kernel, state.memory[0]
        square = tf.cast(2 * tf.nn.l2_loss(b), error.dtype) / (1 + error)
        apart = tf.cast(2 * tf.nn.l2_loss(b - before), error.dtype)
        # False for a B of NaN, and for one that is not known.
        same = (known > 0) & (apart <= SAME * (known + error) * square)
        gain = _gain(known, error)
        b = tf.where(same, before + tf.cast(gain, b.dtype) * (b - before), b)
        error = tf.where(same, (1 - gain) * known, error)
        return b, tf.stack([error, 0.0, square, 0.0])

    def _mean(self, state: LayerState, fields: _Fields) -> tuple[tf.Tensor, tf.Tensor]:
        """The mean of the samples that the angle asks for, and its error."""
        samples = tf.cast(self._alignment_samples(fields), tf.int32)
        numbers = fields.fan_in + fields.axes.columns
        part = max(min(PART // numbers, self._asked(fields.fan_in)), 1)
        parts = (samples + part - 1) // part

        def add(index, total):
            xi = unit_noise(state, part, fields.fan_in, total.dtype, index)
            return index + 1, total + fields.estimate(xi, state.kernel, part)

        count, total = tf.while_loop(
            lambda index, total: index < parts,
            add,
            (0, tf.zeros_like(state.kernel)),
            parallel_iterations=1,  # or the noise of ten parts is drawn at once
        )
        error = (fields.fan_in - 1) / tf.cast(count, tf.float32) / part
        return total / tf.cast(count, total.dtype), error

    def _asked(self, fan_in: int) -> int:
        """Samples that the angle asks for."""
        return max(math.ceil((fan_in - 1) / self.allowed), 1)

    def _alignment_samples(self, fields: _Fields) -> tf.Tensor:
        weights = fields.fan_in * fields.axes.columns
        most = tf.maximum(fields.samples(ALIGNMENT_STEPS), ALIGNMENT_PRODUCTS / (2 * weights))
        return tf.clip_by_value(most, 1.0, self._asked(fields.fan_in))

    def _refined(self, state, fields, half):
        """See `TrackingRule`."""
        b, (error, excess, largest, _) = state.feedback_kernel, tf.unstack(state.memory)
        xi = unit_noise(state, 2 * half, fields.fan_in, b.dtype)
        halves = tf.split(fields.connection.op(xi, state.kernel), 2)
        first, second = (
            fields.estimate_by(noise, y, b.shape, half)
            for noise, y in zip(tf.split(xi, 2), halves, strict=True)
        )
        # Inner products in place of differences: each pass over a kernel counts. (A product of
        # matrices of one row would not write first * second, but takes 2.5 times as long by oneDNN:
        # 3.4 for 1.3 ms, of 2.4 million numbers on two cores of a Xeon with AMX.)
        square, total = 2 * tf.nn.l2_loss(b), first + second
        both, product = tf.reduce_sum(total * b), tf.reduce_sum(first * second)
        seen = product - both + square
        lost = tf.math.is_finite(product) & ~tf.math.is_finite(square)
        along = tf.math.divide_no_nan(both / 2 - square, square)
        seen, square, along = (tf.cast(each, error.dtype) for each in (seen, square, along))
        w_square = square / (1 + error)
        seen = tf.math.divide_no_nan(seen, w_square)
        # W - B is what it was. Where W shrinks the error stays: weight decay takes both along.
        before, largest = largest, tf.maximum(largest, w_square)
        kept = tf.math.divide_no_nan(before, largest)
        error, excess = kept * error, kept * excess
        shared = tf.cast(_shared_by_columns(*halves), error.dtype)
        half = tf.cast(half, error.dtype)
        doubt = DOUBTS * seen_deviation(fields.fan_in, shared, half)
        # <W, B> / |B|^2 is 1 / (1 + p).
        along = tf.abs(along + error / (1 + error))
        jump = seen - error - excess
        limit = tf.clip_by_value(DOUBTS * tf.sqrt(shared / half), LEAST_SHARE, LARGEST_SHARE)
        changed = (along > limit) | (
            jump > tf.maximum(tf.maximum(JUMP * self.allowed, error), doubt)
        )
        excess += LOOK * jump
        moved = tf.maximum(excess - math.sqrt(LOOK / 2) * doubt, 0.0)
        error, excess = error + moved, excess - moved
        gain = _gain(error, (fields.fan_in - 1) / (2 * half))
        error *= 1 - gain
        gain = tf.cast(gain, b.dtype)
        b = tf.cond(lost, lambda: total / 2, lambda: (1 - gain) * b + gain / 2 * total)
        error = tf.where(lost, 0.0, error)
        due = tf.cast(changed | lost, error.dtype)
        return b, tf.stack([error, excess, largest, due])


@register("tracking_activation")
class TrackingActivation(TrackingRule):
    """B is aligned with W by the responses that it gives itself, follows W by dW, and is corrected.

    As in `calibrated_activation` noise runs forward through B too: lack = H(xi, op(xi; W - B)) / k
    vanishes with the error, and so does its noise. With g = k / (k + fan_in - 1),

        B <- B + g lack,    p <- (1 - g) p,    p = |lack|^2 / (1 + (fan_in - 1) / k) / |B|^2:

    the error p of B is measured in every refinement and falls exponentially. The alignment repeats
    corrections until the angle is reached: some ten times fan_in samples, where averages take
    (fan_in - 1) / tan(angle)^2. An error above 0.25 before a correction, or one that has risen at
    once, tells of a W that was replaced, and is aligned with in the next step.

    Locality: non-local, as B also runs forward. To follow, both synapses have to see the same x and
    dy. No weight is read.

    Args:
        angle: See `TrackingRule`.
        budget: See `TrackingRule`.

    Raises:
        UserError: A value outside the ranges; a budget that does not pay for one sample.

    Source: as `tracking_mirror` and `calibrated_activation`.
    """

    def _aligned(self, state, fields):
        """See `TrackingRule`."""
        enough = max(fields.fan_in, LEAST_SAMPLES)
        part = max(min(enough, PART // (fields.fan_in + fields.axes.columns)), 1)

        def correct(index, b, _):
            xi = unit_noise(state, part, fields.fan_in, b.dtype, index)
            b, _, left = self._corrected(state.kernel, b, fields, xi, part)
            return index + 1, b, left

        _, b, error = tf.while_loop(
            # By half: an error that is measured is now and then too small.
            lambda index, _, error: (index < MOST_CORRECTIONS) & (error > self.allowed / 2),
            correct,
            (0, _finite(state.feedback_kernel), tf.ones([])),
            parallel_iterations=1,
        )
        return b, tf.stack([error, 0.0])

    def _refined(self, state, fields, half):
        """See `TrackingRule`."""
        xi = unit_noise(state, 2 * half, fields.fan_in, state.kernel.dtype)
        b, error = _finite(state.feedback_kernel), state.memory[0]
        b, found, left = self._corrected(state.kernel, b, fields, xi, 2 * half)
        jump = tf.maximum(JUMP * self.allowed, error)
        changed = (found > LARGEST_ERROR) | (found - error > jump)
        return b, tf.stack([left, tf.cast(changed, left.dtype)])

    def _corrected(self, kernel, b, fields, xi, k):
        """B after a correction by k samples; the error before it, and the one that is left."""
        spread = (fields.fan_in - 1) / tf.cast(k, b.dtype)
        lack = fields.estimate(xi, kernel - b, k)
        gain = 1 / (1 + spread)
        error, square = 2 * tf.nn.l2_loss(lack) * gain, 2 * tf.nn.l2_loss(b)
        found = tf.math.divide_no_nan(error, square)
        left = (1 - gain) * found
        # A B of zeros has no scale yet; that of a W of zeros is right.
        wrong = tf.cast(error > 0, error.dtype) + 0.0 * error  # which keeps NaN
        found, left = (tf.where(square > 0, each, wrong) for each in (found, left))
        return b + gain * lack, tf.cast(found, tf.float32), tf.cast(left, tf.float32)


def _graph_of(rule: TrackingRule, axes: KernelAxes, frozen: bool) -> Callable:
    """`TrackingRule._renewed` for kernels with these axes, as a graph that all their layers call.

    With a graph of its own for each layer in the midst of that of the step, a ResNet-50 v2 took
    4.6 s of processor time longer to trace, 10 s longer to start and 275 MB more.

    Layers share it in one step's graph only. TensorFlow (2.21) builds loops in another way where
    XLA compiles the step, so XLA refused a graph that had been built for another step.
    """
    made = _MADE.setdefault(tf.compat.v1.get_default_graph(), {})
    key = rule, axes, frozen
    if key not in made:

        def renewed(kernel, feedback_kernel, memory, seed, step, count):
            state = LayerState(
                connection=FieldConnection(axes),
                x=None,
                y=None,
                kernel=kernel,
                feedback_kernel=feedback_kernel,
                bias=None,
                activation=None,
                seed=seed,
                step=step,
                noise_kind=rule.noise,
                memory=memory,
                frozen=frozen,
            )
            return rule._renewed(state, _Fields(FieldConnection(axes), axes, count))

        made[key] = tf.function(
            renewed, autograph=False, experimental_attributes={"_noinline": True}
        )
    return made[key]


def _gain(error: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Kalman's gain, where the estimate may be exact."""
    least = 1e-12
    return (error + least) / (error + noise + least)


def _shared_by_columns(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """|W^T W|^2 / |W|^4, by the responses of W to two halves of the noise.

    1 / columns for independent ones of equal length, which is the least; 1 for columns of one
    direction.
    """
    columns = math.prod(first.shape[1:])
    first, second = (tf.reshape(each[:COMPARED], [-1, columns]) for each in (first, second))
    products = tf.reduce_mean(tf.matmul(first, second, transpose_b=True) ** 2)
    squares = [tf.reduce_mean(tf.reduce_sum(each**2, -1)) for each in (first, second)]
    return tf.clip_by_value(
        tf.math.divide_no_nan(products, squares[0] * squares[1]), 1 / columns, 1.0
    )


def _finite(kernel: tf.Tensor) -> tf.Tensor:
    """The kernel, or zeros in the place of one that is not finite."""
    return tf.where(tf.reduce_all(tf.math.is_finite(kernel)), kernel, tf.zeros_like(kernel))


def _error(degrees: float) -> float:
    """tan(angle)^2."""
    return math.tan(math.radians(degrees)) ** 2


def _wide(kernel: tf.Tensor) -> tf.Tensor:
    """In float32 at least: half precision can't hold sums of noise."""
    return tf.cast(kernel, tf.float32) if kernel.dtype.size < 4 else kernel
