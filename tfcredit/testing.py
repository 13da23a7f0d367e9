"""Checks for rules of your own: what is wrong with them, what they read, and what they cost."""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfcredit import layers, rules
from tfcredit.connections import Connection, ConvConnection, DenseConnection
from tfcredit.errors import UserError
from tfcredit.primitives import PRIMITIVES, Primitive, Seen
from tfcredit.rules.state import checked, renewal

_CASES = {
    "dense": (DenseConnection(), (6,), (6, 4)),
    "conv": (ConvConnection((2, 1), "same"), (5, 4, 3), (3, 2, 3, 4)),
}
_BATCH = 5
_NONLOCAL_READS = {"W": "W itself", "op(.; B)": "B run forward", "opT(.; W)": "W run backward"}


@dataclasses.dataclass(frozen=True)
class RuleReport:
    """The findings of `check_rule`; `str` makes lines of it.

    Attributes:
        rule: The rule.
        reads: Which of x, y, dy, W and B what teaches B depends on, as measured. A rule that runs
            W forward on an input of its own, as a neuron does, does not read W by that.
        nonlocal_reads: Why it is not local: `"W"`, `"op(.; B)"`, `"opT(.; W)"`.
        products: Product -> how many samples it is run on per sample of the batch, for the
            teaching of B alone; the layer's own three products count 1 each.
        strategies: Whether a step on several devices was compared with one device's, which can't
            be where each replica draws noise of its own (`Rule.noise` is `"per_replica"`).
    """

    rule: rules.Rule
    reads: frozenset[str]
    nonlocal_reads: tuple[str, ...]
    products: dict[str, float]
    strategies: bool

    @property
    def local(self) -> bool:
        """True if each synapse is taught by what its own two neurons have."""
        return not self.nonlocal_reads

    def __str__(self) -> str:
        order = [name for name in ("x", "y", "dy", "W", "B") if name in self.reads]
        why = ", ".join(_NONLOCAL_READS[name] for name in self.nonlocal_reads)
        products = ", ".join(f"{count:g} {name}" for name, count in self.products.items() if count)
        return "\n".join(
            [
                f"rule: {self.rule.name}",
                f"reads: {', '.join(order) or 'nothing'}",
                "local: yes" if self.local else f"local: no ({why})",
                f"products beside the layer's three: {products or 'none'}",
                f"several devices: {'as one' if self.strategies else 'not compared'}",
            ]
        )


def check_rule(rule: Any) -> RuleReport:
    """Puts a rule to the test, on a dense and a convolutional layer.

    Checked are: shapes and finiteness of what it gives; that the gradient of `loss` is that of its
    value (finite differences in float64); that what it states of itself is so (`noise`,
    `counts_steps`, `linear_in_error`); that the same seed and step give the same; that its config
    makes an equal rule; a step in float32, mixed_bfloat16 and mixed_float16; and, where TensorFlow
    has several logical devices, that the mean of the replicas' steps is one device's.

    Args:
        rule: Anything that `tfcredit.rules.get` takes, with a feedback kernel.

    Returns:
        What it reads, whether it is local, and its cost.

    Raises:
        UserError: The first check that fails, in a sentence.

    Example:
        >>> report = check_rule("info_alignment")
        >>> sorted(report.reads), report.local
        (['B', 'x', 'y'], True)
    """
    rule = rules.get(rule)
    if not rule.has_feedback_kernel:
        raise UserError(f"rule {rule.name!r} has no feedback kernel, so there is nothing to check.")
    _check_degrees(rule)
    for name, (connection, shape, kernel_shape) in _CASES.items():
        where = f"a {name} layer"
        state, dy = _state(rule, connection, shape, kernel_shape)
        _check_statements(rule, state, dy, where)
        _check_loss(rule, _perturbed(rule, state, where), where)
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        _check_step(rule, policy)
    _check_saving(rule)
    reads, reasons, products = _measured(rule)
    _check_reads(rule, reads)
    devices = tf.config.list_logical_devices("CPU")
    compared = len(devices) > 1 and rule.noise != "per_replica"
    if len(devices) > 1:
        _check_replicas(rule, [device.name for device in devices[:2]], compared)
    return RuleReport(rule, reads, reasons, products, compared)


def _state(rule, connection, shape, kernel_shape, seed=0):
    random = np.random.default_rng(seed)
    x, w, b = (
        tf.constant(random.normal(size=size))
        for size in ((_BATCH, *shape), kernel_shape, kernel_shape)
    )
    y = connection.op(x, w)
    dy = tf.constant(random.normal(size=y.shape))
    bias = tf.zeros(kernel_shape[-1], x.dtype)
    step = tf.constant(3) if rule.counts_steps else None
    linear = keras.activations.linear
    state = rules.LayerState(connection, x, y, w, b, bias, linear, 7, step)
    memory = None if rule.memory is None else tf.constant(rule.memory)
    return dataclasses.replace(state, noise_kind=rule.noise, memory=memory), dy


def _perturbed(rule, state, where) -> rules.LayerState:
    """The state in a training call, with the rule's own perturbation."""
    seen = state.perturbed_by(rule, where)
    if seen.perturbation is None:
        return state
    through = state.connection.op(seen.perturbation, state.kernel)
    return dataclasses.replace(seen, y=state.y + through)


def _effect(rule, state, dy, where) -> list[np.ndarray]:
    """The gradient that B's optimizer gets, and the renewed B; zeros where there is none."""
    shape = state.feedback_kernel.shape
    db = tf.zeros_like(state.feedback_kernel)
    with tf.GradientTape() as tape:
        tape.watch(state.feedback_kernel)
        loss = rule.loss(state)
        if loss is not None:
            loss = tf.cast(_checked(rule, "loss", loss, (), where), db.dtype)
    if loss is not None:
        found = tape.gradient(loss, state.feedback_kernel)
        db += 0.0 if found is None else tf.cast(found, db.dtype)
    found = rule.gradient(state, dy, state.connection.hebbian(state.x, dy, shape))
    if found is not None:
        db += tf.cast(_checked(rule, "gradient", found, shape, where), db.dtype)
    renewed, _ = renewal(rule, state, where)
    if renewed is None:
        return [db.numpy(), np.zeros(shape)]
    return [db.numpy(), _finite(rule, "update", renewed, where).numpy()]


def _checked(rule, method, value, shape, where) -> tf.Tensor:
    return _finite(rule, method, checked(rule, method, value, shape, where), where)


def _finite(rule, method, value, where) -> tf.Tensor:
    if not np.isfinite(value.numpy()).all():
        raise UserError(f"{method} of rule {rule.name!r} gave NaN or infinity in {where}.")
    return value


class _CountingState(rules.LayerState):
    """A state that counts the draws of all states made of it."""

    draws: ClassVar[list] = []

    def _drawing_seed(self, *arguments):
        self.draws.append(self.seed)
        return super()._drawing_seed(*arguments)


def _check_statements(rule, state, dy, where):
    """Check that the rule does what it states of itself."""
    state = _CountingState(**vars(state))
    _CountingState.draws.clear()
    seen = _perturbed(rule, state, where)
    one, two = (_effect(rule, seen, dy, where) for _ in range(2))
    if not all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)):
        raise UserError(
            f"rule {rule.name!r} gives other values for the same seed and step in {where}: draw "
            "with LayerState.noise, and state noise = 'shared' or 'per_replica'."
        )
    if rule.noise is not None and not state.draws:
        raise UserError(
            f"rule {rule.name!r} states noise={rule.noise!r} and draws none in {where}: state what "
            "it draws with LayerState.noise."
        )
    if rule.noise not in (None, "shared", "per_replica"):
        raise UserError(
            f"rule {rule.name!r} states noise={rule.noise!r}: state None, 'shared' or "
            "'per_replica'."
        )
    dw = state.connection.hebbian(state.x, dy, state.kernel.shape)
    taught = rule.gradient(seen, dy, dw)
    if rule.linear_in_error and taught is not None:
        if not np.allclose(rule.gradient(seen, 3.0 * dy, 3.0 * dw), 3.0 * taught):
            raise UserError(
                f"rule {rule.name!r} states linear_in_error, but three times the error does not "
                f"give three times its gradient in {where}: leave the statement out."
            )


def _own_primitives(rule) -> list[Primitive]:
    """The primitives of a sum that are stated by their gradients."""
    names = rule.coefficients if isinstance(rule, rules.AlignmentRule) else ()
    return [PRIMITIVES[n] for n in names if n != "error" and not PRIMITIVES[n].has_value]


def _check_degrees(rule):
    state, _ = _state(rule, *_CASES["dense"])
    seen = Seen(state.connection, state.x, state.y, state.kernel, state.feedback_kernel)
    for primitive in _own_primitives(rule):
        once = primitive.gradient(seen)
        twice = primitive.gradient(dataclasses.replace(seen, b=2.0 * seen.b))
        if not np.allclose(twice, 2.0 ** (primitive.degree - 1) * once):
            raise UserError(
                f"primitive {primitive.name!r} states degree={primitive.degree}, but twice B does "
                f"not give {2 ** (primitive.degree - 1)} times its gradient: state the degree of R "
                "in B, or write a Rule with a `loss` if R has none."
            )


def _check_reads(rule, reads):
    own = _own_primitives(rule)
    if not own or rule.inputs != rules.AlignmentInputs():
        return
    stated = frozenset().union(*(PRIMITIVES[name].reads for name in rule.coefficients))
    if not reads <= stated:
        raise UserError(
            f"rule {rule.name!r} reads {', '.join(sorted(reads - stated))}, which none of its "
            f"primitives states: mend `reads` of {', '.join(repr(each.name) for each in own)}."
        )


def _check_loss(rule, state, where, step=1e-6):
    """The gradient along a random direction, against the difference of two values."""
    if type(rule).loss is rules.Rule.loss or rule.loss(state) is None:
        return
    b = state.feedback_kernel
    direction = tf.constant(np.random.default_rng(1).normal(size=b.shape))
    with tf.GradientTape() as tape:
        tape.watch(b)
        value = rule.loss(state)
    gradient = tape.gradient(value, b)
    slope = 0.0 if gradient is None else float(tf.reduce_sum(gradient * direction))
    ends = [
        float(rule.loss(dataclasses.replace(state, feedback_kernel=b + sign * step * direction)))
        for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    if not np.isclose(slope, expected, rtol=1e-4, atol=1e-6 + 1e-8 * abs(float(value))):
        raise UserError(
            f"loss of rule {rule.name!r} changes by {expected:.6g} along a direction in {where}, "
            f"but its gradient says {slope:.6g}: mend the gradient that it states."
        )


def _network(rule, policy="float32"):
    keras.utils.set_random_seed(0)
    options = {"rule": rule, "dtype": policy}
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="tanh", seed=1, **options),
            keras.layers.Flatten(),
            layers.Dense(3, seed=2, **options),
            keras.layers.Activation("linear", dtype="float32"),
        ]
    )


def _batch():
    random = np.random.default_rng(2)
    return random.normal(size=(8, 6, 6, 2)).astype("float32"), np.arange(8) % 3


def _compiled(rule, policy="float32"):
    model = _network(rule, policy)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def _check_step(rule, policy):
    model = _compiled(rule, policy)
    model.fit(*_batch(), batch_size=8, epochs=2, verbose=0)
    for weights in model.get_weights():
        if not np.isfinite(weights).all():
            raise UserError(f"rule {rule.name!r} gives NaN or infinity in steps under {policy}.")


def _check_saving(rule):
    config = rules.serialize(rule)
    copy = rules.get(config)
    if copy != rule:
        raise UserError(
            f"rule {rule.name!r} is saved as {config['config']}, which makes "
            f"{copy!r}, not {rule!r}: let get_config give all arguments of the constructor."
        )


class _Watch(Connection):
    """A connection that counts its products and knows W among the kernels.

    A rule is judged by what teaches B, not by how it is written: in the loss -<y, op(x; B)> the
    value of op(x; B) plays no part in the gradient. So products that no synapse has can be shaken:
    a rule whose effect changes with them needs them.

    Args:
        inner: The connection.
        w: W, with which `op` of `shown` is computed: that a neuron does, it is no reading of W.
        shown: What the rule sees for W.
        shaken: "op(.; B)" or "opT(.; W)", whose values are to be wrong; `None` for neither.
    """

    def __init__(
        self, inner: Connection, w: tf.Tensor, shown: tf.Tensor, shaken: str | None = None
    ):
        self.inner, self.w, self.shown, self.shaken = inner, w, shown, shaken
        self.samples = {"op": 0.0, "op_transpose": 0.0, "hebbian": 0.0}

    def op(self, x, kernel):
        if np.ptp(kernel) == 0:  # counts positions (`rules.geometry`): neither W nor B
            return self.inner.op(x, kernel)
        self.samples["op"] += len(x) / _BATCH
        if np.array_equal(kernel, self.shown):
            return self._forward(x, kernel)
        return self._shaken_by("op(.; B)")(self.inner.op(x, self._counted(x, kernel)))

    def op_transpose(self, y, kernel, input_shape):
        self.samples["op_transpose"] += len(y) / _BATCH
        if np.array_equal(kernel, self.shown):
            value = self.inner.op_transpose(y, kernel, input_shape)
            return self._shaken_by("opT(.; W)")(value)
        y = self._with_backward(y, self._shaken_by("op(.; B)"))
        return self.inner.op_transpose(y, self._counted(y, kernel), input_shape)

    def hebbian(self, x, y, kernel_shape):
        self.samples["hebbian"] += len(x) / _BATCH
        return self.inner.hebbian(x, y, kernel_shape)

    def axes(self, kernel_shape):
        return self.inner.axes(kernel_shape)

    def on_fields(self, kernel_shape):
        inner = self.inner.on_fields(kernel_shape)
        fields = _Watch(inner, self.w, self.shown, self.shaken)
        fields.samples = self.samples
        return fields

    def _forward(self, x, shown):
        """W forward; the gradient of an x that depends on B comes back through what is shown."""

        def backward(dy):
            return self._shaken_by("opT(.; W)")(self.inner.op_transpose(dy, shown, tf.shape(x)))

        return tf.custom_gradient(lambda x: (self.inner.op(x, self.w), backward))(x)

    def _shaken_by(self, what: str):
        """A function that makes the value of a product wrong, if it is one that is shaken."""

        def shake(value):
            if self.shaken != what:
                return value
            noise = tf.random.stateless_normal(tf.shape(value), [1, 2], dtype=value.dtype)
            return value + 3.0 * noise

        return shake

    def _counted(self, x, kernel):
        """A kernel whose gradient counts as the Hebbian product that it is."""

        def count(gradient):
            self.samples["hebbian"] += len(x) / _BATCH
            return gradient

        return self._with_backward(kernel, count)

    @staticmethod
    def _with_backward(value, change):
        """A tensor whose gradient is changed."""
        return tf.custom_gradient(lambda value: (tf.identity(value), change))(value)


def _measured(rule):
    """The tensors that change the effect, why it is not local, and the products it took."""
    connection, shape, kernel_shape = _CASES["dense"]
    state, dy = _state(rule, connection, shape, kernel_shape)
    other, other_dy = _state(rule, connection, shape, kernel_shape, seed=5)

    def run(dy=dy, shaken=None, **changes):
        watch = _Watch(connection, state.kernel, changes.get("kernel", state.kernel), shaken)
        seen = dataclasses.replace(state, connection=watch, **changes)
        seen = _perturbed(rule, seen, "a dense layer")
        watch.samples.update(dict.fromkeys(watch.samples, 0.0))  # That product is the layer's.
        return _effect(rule, seen, dy, "a dense layer"), watch

    _, watch = run()
    if rule.memory is not None:
        watch.samples = _usual_products(rule, state, run)
    # A rule may do in its first call, or at every N-th one, what it does in no other.
    scheduled = rule.counts_steps and rule.noise is None
    steps = [state.step, tf.constant(0)] if scheduled else [state.step]
    alterations = {
        "x": {"x": other.x},
        "y": {"y": other.y},
        "dy": {"dy": other_dy},
        "W": {"kernel": other.kernel},
        "B": {"feedback_kernel": other.feedback_kernel},
    }

    def matters(**changes) -> bool:
        return any(not _equal(run(step=s)[0], run(step=s, **changes)[0]) for s in steps)

    reads = frozenset(name for name, changes in alterations.items() if matters(**changes))
    reasons = {"W"} & reads
    reasons |= {what for what in ("op(.; B)", "opT(.; W)") if matters(shaken=what)}
    products = dict(watch.samples)
    products["hebbian"] -= 1.0  # It is dW, which the layer has.
    return reads, tuple(sorted(reasons)), products


def _equal(effects, others):
    return all(np.array_equal(one, other) for one, other in zip(effects, others, strict=True))


def _usual_products(rule, state, run, steps=50):
    """The mean over steps that follow the first one, in which a rule with a memory begins."""
    _, memory = renewal(rule, state, "a dense layer")
    total = dict.fromkeys(("op", "op_transpose", "hebbian"), 0.0)
    for step in range(steps):
        _, watch = run(step=state.step + step, memory=memory)
        for name, count in watch.samples.items():
            total[name] += count / steps
    return total


def _check_replicas(rule, devices, compared):
    """Two replicas with half a batch each: one B on both, and that of one device and a batch."""
    x, y = _batch()
    model = _trained(rule, devices, x, y)
    for layer in model.layers:
        b = getattr(layer, "feedback_kernel", None)
        copies = [] if b is None else [copy.numpy() for copy in b.value.values]
        if any(not np.array_equal(copies[0], copy) for copy in copies):
            raise UserError(
                f"rule {rule.name!r} leaves another B on each of two devices: draw the noise of "
                "`update` alike, with noise = 'shared', and let it be the same on all replicas."
            )
    if not compared:
        return
    alone = _trained(rule, None, x, y)
    for one, other in zip(alone.get_weights(), model.get_weights(), strict=True):
        if not np.allclose(one, other, rtol=1e-3, atol=1e-5):
            raise UserError(
                f"rule {rule.name!r} leaves other weights on two devices than on one (by "
                f"{np.abs(one - other).max():.2g}): let `loss` and `gradient` be means or sums "
                "over samples as the task's loss is, or state noise = 'per_replica'."
            )


def _trained(rule, devices, x, y):
    # Not the default's collective operations, which TensorFlow 2.21 fails to run on CPUs in a
    # second strategy of one process.
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = (
        tf.distribute.MirroredStrategy(devices, reduction)
        if devices
        else tf.distribute.get_strategy()
    )
    with strategy.scope():
        model = _compiled(rule)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model
