"""What a rule is: how errors travel, and what teaches the feedback kernel."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfcredit import noise
from tfcredit.connections import Connection
from tfcredit.errors import UserError
from tfcredit.primitives import scalar


@dataclasses.dataclass(frozen=True)
class LayerState:
    """What a rule may look at in one layer, in one training call.

    Attributes:
        connection: The layer's three products.
        x: The layer's input `[n, ...]`, behind a stop-gradient, in the compute dtype.
        y: The product op(x; W) without bias, likewise; `None` in `Rule.perturbation`.
        kernel: The forward kernel W in the variable's dtype.
        feedback_kernel: The feedback kernel B, likewise.
        bias: The layer's bias (compute dtype), shaped to be added to `y`, or `None`.
        activation: The layer's activation, a function.
        seed: The layer's integer seed.
        step: The number of training calls of this layer before this one: an int32 scalar, or
            `None` where the rule does not need it (`Rule.counts_steps`).
        perturbation: What the rule added to the layer's input in this call (`Rule.perturbation`),
            of the shape of `x`; it is in `x` and `y` already. `None` where it added nothing.
        y_is_product: Whether `y` is known to be op(x; W), as it is in layers: then op(x; B) - y,
            which needs `x` and `y` only, may be computed as op(x; B - W), which costs less.
    """

    connection: Connection
    x: tf.Tensor
    y: tf.Tensor | None
    kernel: tf.Tensor
    feedback_kernel: tf.Tensor
    bias: tf.Tensor | None
    activation: Callable
    seed: int
    step: tf.Tensor | None
    perturbation: tf.Tensor | None = None
    y_is_product: bool = False

    def perturbed_by(self, rule: "Rule", where: str) -> "LayerState":
        """This state with the rule's perturbation, if it has one, added to `x`.

        Args:
            rule: The rule.
            where: In which layer, for messages.

        Returns:
            A state; its `y` is the one of before.
        """
        added = rule.perturbation(self)
        if added is None:
            return self
        added = checked(rule, "perturbation", added, self.x.shape, where)
        added = tf.stop_gradient(tf.cast(added, self.x.dtype))
        return dataclasses.replace(self, x=self.x + added, perturbation=added)

    def noise(
        self,
        shape: Sequence[int] | tf.Tensor,
        dtype: tf.DType,
        distribution: str = "normal",
        alike: bool = False,
        index: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Noise that is a function of (seed, step, index) and nothing else.

        Args:
            shape: Its shape.
            dtype: Its floating dtype; it is drawn in float32.
            distribution: `"normal"`, `"uniform"` or `"sign"` (1 and -1).
            alike: Whether all replicas draw the same values; otherwise each draws its own.
            index: Which of several draws of one step, an int32 scalar; `None` where there is one.

        Returns:
            Independent numbers of mean 0 and variance 1.

        Raises:
            UserError: The distribution is unknown.
        """
        return noise.drawn(self._drawing_seed(alike, index), shape, dtype, distribution)

    def whole_number(self, bound: int | tf.Tensor) -> tf.Tensor:
        """A random whole number that is a function of (seed, step) and nothing else.

        Args:
            bound: What it is below, an integer >= 1 or an int32 scalar.

        Returns:
            An int32 scalar, each number from 0 to `bound` - 1 as likely but for a share `bound` /
            2^32; each replica's own.
        """
        return noise.whole_number(self._drawing_seed(), bound)

    def _drawing_seed(self, alike: bool = False, index: tf.Tensor | None = None) -> tf.Tensor:
        seed = tf.stack([tf.constant(self.seed, tf.int32), self.step])
        if index is not None:
            seed = tf.random.experimental.stateless_fold_in(seed, index, "philox")
        replica = tf.distribute.get_replica_context()
        if not alike and replica is not None and replica.num_replicas_in_sync > 1:
            index = tf.cast(replica.replica_id_in_sync_group, tf.int32)
            seed = tf.random.experimental.stateless_fold_in(seed, index)
        return seed


def checked(rule: "Rule", method: str, value: Any, shape: Sequence[int], where: str) -> tf.Tensor:
    """What a rule's method gave.

    Args:
        rule: The rule.
        method: The method's name.
        value: What it gave.
        shape: The shape that it must have.
        where: In which layer, for the message.

    Returns:
        `value`.

    Raises:
        UserError: It is no tensor, or one of another shape.
    """
    if tf.is_tensor(value) and value.shape.is_compatible_with(shape):
        return value
    given = f"a tensor of shape {tuple(value.shape)}" if tf.is_tensor(value) else repr(value)
    raise UserError(
        f"{method} of rule {rule.name!r} gave {given} in {where}: it must give a tensor of shape "
        f"{tuple(shape)}."
    )


class Rule:
    """Base of all rules. A rule holds no state: layers hold the kernels, steps and seeds.

    `loss`, `error_coefficient`, `error_gradient`, `gradient`, `perturbation`, `update`,
    `initializer` and `initial` may be overridden, and these facts stated:

    Attributes:
        name: As `--rule` takes it.
        has_feedback_kernel: Whether errors travel through B at all (all but backprop and the rules
            of `tfcredit.rules.network`).
        sends_error: Whether an error leaves the layer downwards (all but the latter).
        follows_forward: Whether B is to be updated by the optimizer of the forward kernel.
        feedback_optimizer: Name and learning rate of the optimizer for B that the command line
            uses unless told otherwise; `None` where no optimizer updates B.
    """

    name = "rule"
    has_feedback_kernel = True
    sends_error = True
    follows_forward = False
    feedback_optimizer: tuple[str, float] | None = None

    @property
    def learns(self) -> bool:
        """Whether a gradient reaches B, so that B is a trainable variable."""
        ways = ("loss", "error_coefficient", "error_gradient", "gradient")
        return any(getattr(type(self), way) is not getattr(Rule, way) for way in ways)

    @property
    def renews(self) -> bool:
        """Whether the training call itself assigns a new B (`update`)."""
        return type(self).update is not Rule.update

    @property
    def perturbs(self) -> bool:
        """Whether training calls add something to the layer's input (`perturbation`)."""
        return type(self).perturbation is not Rule.perturbation

    @property
    def teaches_by_error(self) -> bool:
        """Whether the rule states dB itself (`gradient`)."""
        return type(self).gradient is not Rule.gradient

    @property
    def counts_steps(self) -> bool:
        """Whether the rule depends on the step: schedules and random draws."""
        return False

    @property
    def draws_for_each_replica(self) -> bool:
        """Whether replicas draw other numbers than one device, so that their steps differ."""
        return False

    def loss(self, state: LayerState) -> tf.Tensor | None:
        """The layer's R, whose gradient reaches B (only), or `None`."""
        return None

    def error_coefficient(self, step: tf.Tensor | None) -> float | tf.Tensor | None:
        """What dB gets of the forward kernel's gradient H(x, dy); `None` for nothing."""
        return None

    def error_gradient(self, state: LayerState, dw: tf.Tensor) -> tf.Tensor | None:
        """What dB gets of the error, as a function of what the layer has already.

        Args:
            state: The layer.
            dw: The forward kernel's gradient H(x, dy), with the scale of the loss.

        Returns:
            A tensor of the shape of B, linear in `dw`, or `None`; by default `error_coefficient`
            times `dw`.
        """
        coefficient = self.error_coefficient(state.step)
        return None if coefficient is None else scalar(coefficient, dw.dtype) * dw

    def gradient(self, state: LayerState, dy: tf.Tensor) -> tf.Tensor:
        """What the optimizer takes for the gradient of B: any function of x, y, dy, W and B.

        Args:
            state: The layer.
            dy: The error that reached `y`, of its shape, without the scale of the loss.

        Returns:
            A tensor of the shape of B.
        """
        raise NotImplementedError

    def perturbation(self, state: LayerState) -> tf.Tensor | None:
        """What training calls add to the layer's input, of its shape; `None` for nothing.

        `y` of the state is `None`: the layer computes it from the altered input, which the
        forward kernel learns from too.
        """
        return None

    def update(self, state: LayerState) -> tf.Tensor | None:
        """A new value of B that the training call itself assigns; `None` for none.

        Errors of the same call already travel through it. It must be the same on all replicas.
        """
        return None

    def initializer(self, given: Any, seed: int):
        """The feedback initializer of a layer.

        Args:
            given: The layer's argument; `None` for the distribution of the forward kernel.
            seed: The layer's seed.

        Returns:
            What a layer takes for its feedback initializer; by default `given`.
        """
        return given

    def initial(self, connection: Connection, drawn: tf.Tensor, seed: int) -> tf.Tensor:
        """The B that a layer starts with.

        Args:
            connection: The layer's three products.
            drawn: What the feedback initializer has drawn, of the shape of B.
            seed: The layer's seed.

        Returns:
            A tensor of the shape and dtype of `drawn`; by default `drawn`.
        """
        return drawn

    def get_config(self) -> dict:
        """Constructor arguments, as plain data."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Rule":
        """The inverse of `get_config`."""
        return cls(**config)

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
