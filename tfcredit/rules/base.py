"""The base of rules: a rule states how errors travel, and what teaches the feedback kernel."""

from typing import Any

import tensorflow as tf

from tfcredit.rules import deprecated
from tfcredit.rules.state import LayerState


class Rule:
    """Base of all rules. A rule holds no state: layers hold the kernels, steps and seeds.

    Five methods may be overridden, beside `in_network`, and the facts below stated. What is stated
    is what happens: `tfcredit.testing.check_rule` compares them.

    | method         | when it runs            | what it gives                            |
    |----------------|-------------------------|------------------------------------------|
    | `loss`         | training calls          | R, whose gradient reaches B only         |
    | `gradient`     | the backward pass       | dB, of the error                         |
    | `update`       | training calls          | a new B, without an optimizer            |
    | `perturbation` | training calls          | noise that is added to the layer's input |
    | `initial`      | when the layer is built | the first B                              |

    Attributes:
        name: As `--rule` takes it.
        noise: Whose random numbers `LayerState.noise` gives: `"shared"`, the same on all replicas;
            `"per_replica"`, other ones on each; `None` (default) for a rule that draws none.
        linear_in_error: Whether `gradient` is linear in (dy, dw). The errors that it gets then
            carry the scale of the loss, which saves two passes over B. Default False.
        memory: The first values of a few numbers that layers keep for the rule beside B, and that
            `update` renews with it; `None` (default) for a rule without them.
        start_angle: The angle to the first W that B starts at, in degrees; `None` (default) for a
            B that is drawn independently.
        has_feedback_kernel: Whether errors travel through B at all (all but backprop, `frozen` and
            the rules of `tfcredit.rules.network`).
        sends_error: Whether an error leaves the layer downwards (all but those of
            `tfcredit.rules.network`).
        trains_kernel: Whether W learns at all (all but `frozen`).
        feedback_rank: The rank of two thin factors that layers keep in the place of B; `None`
            (default) for rules with a whole B, or without one.
        follows_forward: Whether B is to be updated by the optimizer of the forward kernel.
        follows_decay: Whether B gets the gradient of W's regularizer, at B, as W gets it at W.
            Default False: a rule that follows states its decay itself.
        aligns_when_frozen: Whether frozen layers call `update`, too, with `LayerState.frozen`: for
            rules whose B has to find W once. Default False: B of a frozen layer rests.
        feedback_optimizer: Name and learning rate of the optimizer for B that the command line
            uses unless told otherwise; `None` where no optimizer updates B.
    """

    name = "rule"
    noise: str | None = None
    linear_in_error = False
    memory: tuple[float, ...] | None = None
    start_angle: float | None = None
    has_feedback_kernel = True
    sends_error = True
    trains_kernel = True
    feedback_rank: int | None = None
    follows_forward = False
    follows_decay = False
    aligns_when_frozen = False
    feedback_optimizer: tuple[str, float] | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        deprecated.adapt(cls)

    @property
    def is_backprop(self) -> bool:
        """True if the layer learns as its Keras layer does: W learns, of errors through W."""
        other = self.has_feedback_kernel or self.feedback_rank is not None
        return self.trains_kernel and self.sends_error and not other

    @property
    def learns(self) -> bool:
        """True if a gradient reaches B, so that B is a trainable variable."""
        return type(self).loss is not Rule.loss or type(self).gradient is not Rule.gradient

    @property
    def renews(self) -> bool:
        """True if the training call itself assigns a new B (`update`)."""
        return type(self).update is not Rule.update

    @property
    def perturbs(self) -> bool:
        """True if training calls add something to the layer's input (`perturbation`)."""
        return type(self).perturbation is not Rule.perturbation

    @property
    def scales_errors(self) -> bool:
        """True if `gradient` has to see errors without the scale of the loss."""
        return type(self).gradient is not Rule.gradient and not self.linear_in_error

    @property
    def counts_steps(self) -> bool:
        """True if the rule depends on the step (`LayerState.step`): by noise or by schedules."""
        return self.noise is not None

    def loss(self, state: LayerState) -> tf.Tensor | None:
        """The layer's R, a scalar whose gradient reaches B only; `None` for none."""
        return None

    def gradient(self, state: LayerState, dy: tf.Tensor, dw: tf.Tensor) -> tf.Tensor | None:
        """The part of B's gradient that follows from the error; the optimizer adds that of `loss`.

        Args:
            state: The layer.
            dy: The error that reached `y`, of its shape and dtype, without the scale of the loss
                unless `linear_in_error`.
            dw: The forward kernel's gradient H(x, dy), likewise.

        Returns:
            A tensor of the shape of B: any function of x, y, dy, W and B; `None` for none.
        """
        return None

    def perturbation(self, state: LayerState) -> tf.Tensor | None:
        """The noise that training calls add to the layer's input, of its shape; `None` for none.

        `y` of the state is `None`: the layer computes it from the altered input, which the
        forward kernel learns from too.
        """
        return None

    def update(self, state: LayerState) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor] | None:
        """A new B, of its shape, that the training call itself assigns; `None` for none.

        Errors of the same call already travel through it. It must be the same on all replicas. A
        rule that states a `memory` gives a pair: the new B, and the new `LayerState.memory`.
        """
        return None

    def in_network(self, layers: int) -> "Rule":
        """The rule as it is meant in a network; `models.wire` asks for it.

        Args:
            layers: The number of layers with feedback kernels in the network.

        Returns:
            A rule; by default this one.
        """
        return self

    def initial(self, state: LayerState, drawn: tf.Tensor) -> tf.Tensor:
        """The B that a layer starts with.

        Args:
            state: The layer, without activity: `x` and `y` are `None`.
            drawn: What the feedback initializer has drawn, of the shape of B.

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

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
