"""A layer as its rule sees it, and the check of what the rule's methods give."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfcredit import noise
from tfcredit.connections import Connection
from tfcredit.errors import UserError

if TYPE_CHECKING:
    from tfcredit.rules.base import Rule


@dataclasses.dataclass(frozen=True)
class LayerState:
    """A layer as its rule sees it in one training call.

    Attributes:
        connection: The layer's three products.
        x: The layer's input `[n, ...]`, behind a stop-gradient, in the compute dtype.
        y: The product op(x; W) without bias, likewise; `None` in `Rule.perturbation`.
        kernel: The forward kernel W in the variable's dtype.
        feedback_kernel: The feedback kernel B, likewise.
        bias: The layer's bias (compute dtype), shaped to be added to `y`, or `None`.
        activation: The layer's activation, a function.
        seed: The layer's seed, an integer or an int32 scalar.
        step: The number of training calls of this layer before this one: an int32 scalar, or
            `None` where the rule does not need it (`Rule.counts_steps`).
        perturbation: What the rule added to the layer's input in this call (`Rule.perturbation`),
            of the shape of `x`; it is in `x` and `y` already. `None` where it added nothing.
        y_is_product: Whether `y` is known to be op(x; W), as it is in layers: then op(x; B) - y,
            which needs `x` and `y` only, may be computed as op(x; B - W), which costs less.
        noise_kind: Whose random numbers `noise` gives: the rule's statement, `Rule.noise`.
        memory: The numbers that the rule keeps beside B (`Rule.memory`), a float32 vector; `None`
            where it keeps none.
        alignment_activation: What options of `AlignmentInputs` take for the layer's activation,
            where that follows behind other layers, such as batch norm; `None` for `activation`.
        frozen: Whether the layer rests (`trainable = False`); only rules that state
            `Rule.aligns_when_frozen` see such a state.
    """

    connection: Connection
    x: tf.Tensor
    y: tf.Tensor | None
    kernel: tf.Tensor
    feedback_kernel: tf.Tensor
    bias: tf.Tensor | None
    activation: Callable
    seed: int | tf.Tensor
    step: tf.Tensor | None
    perturbation: tf.Tensor | None = None
    y_is_product: bool = False
    noise_kind: str | None = "per_replica"
    memory: tf.Tensor | None = None
    alignment_activation: Callable | None = None
    frozen: bool = False

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
        alike: bool | None = None,
        index: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Noise that is a function of (seed, step, index) and nothing else.

        All replicas draw the same values, or each its own, as the rule's `noise` says.

        Args:
            shape: Its shape.
            dtype: Its floating dtype; it is drawn in float32.
            distribution: `"normal"`, `"uniform"` or `"sign"` (1 and -1).
            alike: Deprecated: let the rule state `noise = "shared"`.
            index: Which of several draws of one step, an int32 scalar; `None` where there is one.

        Returns:
            Independent numbers of mean 0 and variance 1.

        Raises:
            UserError: The distribution is unknown, or the rule states that it draws no noise.
        """
        return noise.drawn(self._drawing_seed(alike, index), shape, dtype, distribution)

    def whole_number(self, bound: int | tf.Tensor) -> tf.Tensor:
        """A random whole number that is a function of (seed, step) and nothing else.

        Args:
            bound: What it is below, an integer >= 1 or an int32 scalar.

        Returns:
            An int32 scalar, each number from 0 to `bound` - 1 as likely but for a share `bound` /
            2^32; on replicas as `noise` draws.

        Raises:
            UserError: The rule states that it draws no noise.
        """
        return noise.whole_number(self._drawing_seed(), bound)

    def _drawing_seed(self, alike: bool | None = None, index: tf.Tensor | None = None) -> tf.Tensor:
        shared = self.noise_kind == "shared"
        if alike is not None:
            warnings.warn(
                "LayerState.noise(alike=...) will go: let the rule state noise = 'shared', or "
                "'per_replica'.",
                DeprecationWarning,
                stacklevel=3,
            )
            shared = alike
        elif self.noise_kind is None:
            self._unstated()
        seed = tf.stack([tf.convert_to_tensor(self.seed, tf.int32), self.step])
        if index is not None:
            seed = tf.random.experimental.stateless_fold_in(seed, index, "philox")
        replica = tf.distribute.get_replica_context()
        if not shared and replica is not None and replica.num_replicas_in_sync > 1:
            index = tf.cast(replica.replica_id_in_sync_group, tf.int32)
            seed = tf.random.experimental.stateless_fold_in(seed, index)
        return seed

    def _unstated(self) -> None:
        """A rule draws noise that it does not state."""
        remedy = (
            "let it state noise = 'shared' (all replicas draw the same, as `update` needs it) or "
            "noise = 'per_replica'."
        )
        if self.step is None:
            raise UserError(f"a rule draws noise and states noise=None: {remedy}")
        warnings.warn(
            f"a rule with counts_steps draws noise and states noise=None: {remedy} For now each "
            "replica draws its own.",
            DeprecationWarning,
            stacklevel=4,
        )


def checked(rule: "Rule", method: str, value: Any, shape: Sequence[int], where: str) -> tf.Tensor:
    """Check the shape of what a rule's method gave.

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


def replicas() -> int:
    """The number of replicas that take a step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def renewal(
    rule: "Rule", state: LayerState, where: str
) -> tuple[tf.Tensor, tf.Tensor | None] | tuple[None, None]:
    """The result of `Rule.update`.

    Args:
        rule: The rule.
        state: The layer.
        where: In which layer, for messages.

    Returns:
        The new B and the new memory, each `None` if there is none.

    Raises:
        UserError: One of them is no tensor of the right shape, or a memory that the rule states is
            missing.
    """
    given = rule.update(state)
    if given is None:
        return None, None
    kernel, memory = given, None
    if rule.memory is not None:
        if not isinstance(given, tuple) or len(given) != 2:
            raise UserError(
                f"update of rule {rule.name!r} gave {given!r} in {where}: as the rule states a "
                "memory, it must give a pair, the new B and the new memory."
            )
        kernel, memory = given
        memory = checked(rule, "update", memory, [len(rule.memory)], where)
    return checked(rule, "update", kernel, state.feedback_kernel.shape, where), memory
