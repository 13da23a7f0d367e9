"""The base of all feedback layers: the extra variable, the routing of errors, the training call."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfcredit import rules
from tfcredit.connections import Connection
from tfcredit.errors import UserError
from tfcredit.initializers import AtAngle
from tfcredit.initializers import feedback_initializer as independent_initializer
from tfcredit.layers.activity import add_bias, as_activity, refuse_complex
from tfcredit.layers.factors import Factors, route_through_factors
from tfcredit.layers.inner_graphs import refuse_vectorized_map
from tfcredit.layers.losses import FollowedDecay, ThreadLosses
from tfcredit.layers.recomputation import BlockRun, block_run, recording, with_value
from tfcredit.layers.routing import hold_back_error, is_alignment_off, route_error
from tfcredit.rules.state import checked, renewal
from tfcredit.seeding import default_seed, derive


@dataclasses.dataclass(frozen=True)
class Reading:
    """The values that a call has read of its layer's variables, each of them once.

    TensorFlow 2.21's graph optimizer may move a second reading past the variable's update in the
    same step.
    """

    kernel: tf.Tensor
    feedback_kernel: tf.Tensor
    bias: tf.Tensor | None = None
    step: tf.Tensor | None = None
    memory: tf.Tensor | None = None

    def with_values_of(self, other: "Reading") -> "Reading":
        """The values that an earlier call has read; gradients reach the variables read here."""
        pairs = ((getattr(other, n), getattr(self, n)) for n in ("kernel", "feedback_kernel"))
        bias = None if self.bias is None else with_value(other.bias, self.bias)
        return Reading(*(with_value(*pair) for pair in pairs), bias, other.step, other.memory)


class Call(NamedTuple):
    """Things that a call in a recomputed block keeps for its repetitions.

    Attributes:
        reading: What it has read.
        carrier: The feedback kernel that its errors travel through.
        training: Whether it is a training call.
    """

    reading: Reading
    carrier: tf.Tensor
    training: bool


def refuse_recurrent_rule(layer_class: type, arguments: Mapping[str, Any]) -> None:
    """Refuse a rule for a kernel that a layer does not have.

    Args:
        layer_class: The layer's class.
        arguments: Keyword arguments that it was given.

    Raises:
        UserError: `recurrent_rule` is among them.
    """
    if "recurrent_rule" in arguments:
        raise UserError(
            f"recurrent_rule={arguments['recurrent_rule']!r} is given, but {layer_class.__name__} "
            "has no recurrent kernel: leave it out, or give it to SimpleRNN, LSTM or GRU."
        )


class FeedbackLayer(ThreadLosses, keras.layers.Layer):
    """Mixin of Keras layers with a kernel; stands before the Keras class in the bases.

    Subclasses set `connection` in `build`.

    Args:
        *args: Positional arguments of the Keras layer.
        rule: Anything that `tfcredit.rules.get` takes. Default `"backprop"`: the Keras layer.
        feedback_initializer: Initializer of the feedback kernel. Default: the distribution of
            `kernel_initializer`, drawn independently, unless the rule brings its own.
            `tfcredit.initializers.AtAngle` draws it at an angle to the forward kernel.
        seed: Integer seed of the feedback kernel and of the rule's noise. Default: drawn from
            Python's generator, which `keras.utils.set_random_seed` controls.
        alignment_activation: What the options `activation_forward` and `activation_backward` of
            `tfcredit.rules.AlignmentInputs` take for this layer's activation, such as "relu" where
            one follows behind batch norm. Default: the layer's own.
        **kwargs: Keyword arguments of the Keras layer.

    Attributes:
        rule: The layer's `Rule`.
        connection: Its three products.
        feedback_kernel: The variable B, of the shape of `kernel`; `None` for backprop.
        feedback_product: What errors travel through, if not W: the value of B, or the product of
            the factors that the layer keeps in its place; else `None`.

    Raises:
        UserError: An unknown rule; a feedback initializer that repeats the kernel's values, or
            that contradicts the rule.
    """

    connection: Connection
    feedback_kernel = None
    _factors = _factor = _projection = None
    _step = None
    _memory = None

    def __init__(
        self,
        *args: Any,
        rule: Any = "backprop",
        feedback_initializer: Any = None,
        seed: int | None = None,
        alignment_activation: Any = None,
        **kwargs: Any,
    ):
        refuse_recurrent_rule(type(self), kwargs)
        self.rule = rules.get(rule)
        super().__init__(*args, **kwargs)
        if kwargs.get("lora_rank"):
            self._refuse("LoRA")
        if isinstance(self.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
            self._refuse("quantisation")
        self.seed = default_seed() if seed is None else int(seed)
        self.alignment_activation = alignment_activation and keras.activations.get(
            alignment_activation
        )
        self.feedback_initializer = independent_initializer(
            self._at_start_angle(feedback_initializer), self.kernel_initializer, self.seed
        )

    def add_weight(self, *args, name=None, **kwargs):
        """See `keras.layers.Layer.add_weight`."""
        if name == "bias" or (name == "kernel" and self.rule.has_feedback_kernel):
            # Rules compare W and B, so both stay in the variable's dtype under mixed precision, as
            # does the bias, whose gradient is a sum; `call` casts them for the products.
            kwargs["autocast"] = False
        return super().add_weight(*args, name=name, **kwargs)

    def build(self, input_shape):
        """Create the Keras layer's variables, and the feedback kernel where the rule has one."""
        super().build(input_shape)
        if self.rule.feedback_rank is not None:
            self._build_factors()
        if not self.rule.has_feedback_kernel:
            self._hold_frozen()
            return
        alike = "only_first_replica"  # What a training call assigns is the same on all.
        decays = self.rule.follows_decay and self.kernel.regularizer is not None
        self.built = True  # Keras shows `kernel` from here on.
        self.feedback_kernel = self.add_weight(
            name="feedback_kernel",
            shape=self.kernel.shape,
            initializer=self._first_feedback_kernel,
            trainable=self.rule.learns,
            # A constraint is a part of the update that B gets with W.
            constraint=self.kernel.constraint if self.rule.follows_forward else None,
            regularizer=FollowedDecay(self.kernel) if decays else None,
            autocast=False,
            aggregation="none" if self.rule.learns and not self.rule.renews else alike,
        )
        self.feedback_kernel.follows_forward = self.rule.follows_forward
        if self.rule.counts_steps:
            self._step = self.add_weight(
                name="alignment_step",
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation=alike,
            )
        if self.rule.memory is not None:
            self._memory = self.add_weight(
                name="rule_memory",
                shape=(len(self.rule.memory),),
                dtype="float32",
                initializer=lambda shape, dtype: tf.constant(self.rule.memory, dtype, shape),
                trainable=False,
                autocast=False,
                aggregation=alike,
            )

    def _build_factors(self):
        """Create Q and P of B = Q P."""
        shape, rank = self.kernel.shape, self.rule.feedback_rank
        self._factors = factors = Factors.of(self.connection, list(shape), rank, self.name)
        seed = derive(self.seed, "projection")
        # B then has the variance of the feedback initializer's numbers.
        projection = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform", seed)
        self._factor = self.add_weight(
            name="feedback_factor",
            shape=factors.factor_shape,
            initializer=lambda _, dtype: factors.cut(
                tf.convert_to_tensor(self._initial_feedback_kernel(shape, dtype))
            ),
            autocast=False,
        )
        self._projection = self.add_weight(
            name="feedback_projection",
            shape=(factors.rank, factors.columns),
            initializer=projection,
            autocast=False,
        )
        for variable in self.feedback_factors:
            variable.follows_forward = True

    @property
    def feedback_factors(self) -> tuple[keras.Variable, ...]:
        """The variables Q and P of a rule with a `feedback_rank`; else none."""
        return () if self._factors is None else (self._factor, self._projection)

    @property
    def feedback_product(self) -> tf.Tensor | None:
        """B, be it kept whole or as two factors."""
        if self._factors is None:
            kept = self.feedback_kernel
            return None if kept is None else tf.convert_to_tensor(kept)
        q, p = map(tf.convert_to_tensor, self.feedback_factors)
        return self._factors.product(q, p)

    @property
    def trainable(self) -> bool:
        """See `keras.layers.Layer.trainable`; variables of the rule `frozen` never are."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool):
        keras.layers.Layer.trainable.fset(self, value)
        self._hold_frozen()

    def thaw(self):
        """Let a layer of the rule `frozen` learn by backprop; others stay as they are."""
        if not self.rule.trains_kernel:
            self.rule = rules.get("backprop")
            for variable in self._trainable_variables:
                variable.trainable = self.trainable

    def _hold_frozen(self):
        if not self.rule.trains_kernel:
            for variable in self._trainable_variables:
                variable.trainable = False

    @property
    def rule_memory(self) -> keras.Variable | None:
        """The numbers that the rule keeps beside B, of the shape `[n]`; `None` for none."""
        return self._memory

    def renew_feedback_kernel(self):
        """Draw the feedback kernel anew, as `build` did, after W has been replaced.

        The numbers that the rule keeps beside B start anew, too: a tracking rule aligns B with W in
        the next training call. A layer without a feedback kernel stays as it is.
        """
        if self.feedback_kernel is not None:
            shape, dtype = self.feedback_kernel.shape, self.feedback_kernel.dtype
            self.feedback_kernel.assign(self._first_feedback_kernel(shape, dtype))
        if self._memory is not None:
            self._memory.assign(self.rule.memory)

    def _at_start_angle(self, given: Any) -> Any:
        """The feedback initializer: the rule's own where it states an angle."""
        angle = self.rule.start_angle
        if angle is None:
            return given
        given = keras.initializers.get(given)
        if given is None:
            return AtAngle(angle, derive(self.seed, "feedback_kernel"))
        if not isinstance(given, AtAngle) or given.degrees != angle:
            raise UserError(
                f"feedback_initializer={given!r} and rule {self.rule.name}(angle={angle:g}) "
                "contradict each other: leave the initializer out, or use rule feedback_alignment."
            )
        return given

    def _first_feedback_kernel(self, shape, dtype=None):
        drawn = tf.convert_to_tensor(self._initial_feedback_kernel(shape, dtype))
        step = None if self._step is None else tf.convert_to_tensor(self._step)
        reading = Reading(tf.convert_to_tensor(self.kernel), drawn, step=step)
        return self.rule.initial(self._make_state(reading), drawn)

    def _initial_feedback_kernel(self, shape, dtype=None):
        if isinstance(self.feedback_initializer, AtAngle):
            return self.feedback_initializer(shape, dtype, kernel=self.kernel)
        return self.feedback_initializer(shape, dtype)

    def compute_output_spec(self, inputs, *args, **kwargs):
        """See `keras.layers.Layer.compute_output_spec`."""
        if self.rule.has_feedback_kernel:
            refuse_complex(inputs.dtype, self.name, self.rule.name)
        return super().compute_output_spec(inputs, *args, **kwargs)

    def call(self, inputs, training=None):
        """The layer's output; a training call also adds R to `losses`, or renews B."""
        if training and not self.rule.is_backprop:
            refuse_vectorized_map(self.name)
        if self._factors is not None:
            return self._call_with_factors(inputs, bool(training) and self.trainable)
        if not self.rule.has_feedback_kernel:
            return self._plain_call(inputs if self.rule.sends_error else hold_back_error(inputs))
        asked = bool(training)
        training = asked and self.trainable  # As Keras' batch norm: frozen ones rest.
        aligns = asked and not training and self.rule.aligns_when_frozen
        run = block_run()
        if run is not None and run.repeated is not None:
            return self._repeated_call(inputs, run.recall(self))
        if run is not None and (training or aligns):
            self._check_recomputation(run)
        x = self._activity(inputs)
        with recording(run):
            reading = self._read()
        state = self._state_of(x, reading, perturbed=training)
        carrier = reading.feedback_kernel
        if training or aligns:
            with recording(run):
                carrier = self._learn(dataclasses.replace(state, frozen=aligns))
        if run is not None:
            run.keep(self, Call(reading, carrier, training))
        return self._routed(x, state, reading.bias, carrier, training)

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """See `keras.layers.Layer.rematerialized_call`; in graphs it fails where `training` is."""

        def call(*args):
            return layer_call(*args, **kwargs)

        again = super().rematerialized_call(call, *args, **kwargs)
        return lambda *args, **_: again(*args)

    def _repeated_call(self, inputs, kept: "Call"):
        """A call once more, in the backward pass: errors are routed, and nothing is learned."""
        x, reading = self._activity(inputs), self._read().with_values_of(kept.reading)
        # Keras does not tell here whether it is a training call.
        state = self._state_of(x, reading, perturbed=kept.training)
        return self._routed(x, state, reading.bias, kept.carrier, kept.training)

    def _routed(self, x, state: rules.LayerState, bias: tf.Tensor | None, carrier, training: bool):
        """The output for an input `x` and its state, whose error travels through `carrier`."""
        if state.perturbation is not None:
            x = x + state.perturbation
        unscaled = training and self.rule.scales_errors
        outputs = route_error(
            self.connection,
            x,
            tf.cast(state.kernel, x.dtype),
            state.feedback_kernel,
            state.y,
            self._teacher(state) if training or self._teaches_always else None,
            unscaled,
            carrier,
        )
        if unscaled:
            outputs, zero = outputs
            self.add_alignment_loss(zero)
        return self._activated(outputs, bias)

    @property
    def learns_in_training(self) -> bool:
        """True if a training call does more than to route errors."""
        return self.rule.learns or self.rule.renews or self.rule.counts_steps

    def _check_recomputation(self, run: BlockRun):
        """Refuse a training call that would not be right in a recomputed block."""
        why = None
        if self.rule.scales_errors:
            why = "needs errors without the scale of the loss, which is not known in"
        elif run.is_cached and self.learns_in_training:
            why = "would learn twice a step if a tf.function is inside of"
        if why is not None:
            raise UserError(
                f"layer {self.name!r} has rule {self.rule.name!r}, which {why} a block that is run "
                "again in the backward pass (tf.recompute_grad, keras.RematScope): leave the layer "
                "or the function out of the block, or use rule='feedback_alignment'."
            )

    def _plain_call(self, inputs):
        """Keras' call, but for a bias whose gradient Keras would sum in half precision."""
        real = not tf.as_dtype(inputs.dtype).is_complex
        if self.bias is None or not real or tf.as_dtype(self.compute_dtype).size >= 4:
            return super().call(inputs)
        x = self._activity(inputs)
        y = self._product(x, tf.cast(self.kernel, x.dtype))
        return self._activated(y, self._shaped_bias())

    def _call_with_factors(self, inputs, training: bool):
        """Keras' call, whose error travels through P and Q; a training call adds their decay."""
        x, run = self._activity(inputs), block_run()
        w = tf.cast(tf.convert_to_tensor(self.kernel), x.dtype)
        with recording(run):
            q, p = map(tf.convert_to_tensor, self.feedback_factors)
            if training and not is_alignment_off() and (run is None or run.repeated is None):
                # Not a regularizer, which would read the variables a second time: see `Reading`.
                self.add_alignment_loss(self.rule.decay * (tf.nn.l2_loss(q) + tf.nn.l2_loss(p)))
        y = self.connection.op(tf.stop_gradient(x), tf.stop_gradient(w))
        return self._activated(
            route_through_factors(self._factors, x, w, q, p, y), self._shaped_bias()
        )

    def _product(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return self.connection.op(x, kernel)

    def _activated(self, y: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
        y = y if bias is None else add_bias(y, bias)
        return y if self.activation is None else self.activation(y)

    def _activity(self, inputs) -> tf.Tensor:
        return as_activity(inputs, self.compute_dtype, self.name, self.rule.name)

    def layer_state(self, inputs: tf.Tensor, perturbed: bool = False) -> rules.LayerState:
        """The state of this layer that the rule sees.

        Args:
            inputs: The layer's input `[n, ...]`.
            perturbed: Whether the rule may add its perturbation, as in a training call.

        Returns:
            Both kernels, and the activity behind a stop-gradient.
        """
        return self._state_of(self._activity(inputs), self._read(), perturbed)

    def _read(self) -> Reading:
        """The variables' values."""
        return Reading(
            tf.convert_to_tensor(self.kernel),
            tf.convert_to_tensor(self.feedback_kernel),
            self._shaped_bias(),
            None if self._step is None else tf.convert_to_tensor(self._step),
            None if self._memory is None else tf.convert_to_tensor(self._memory),
        )

    def _state_of(self, x: tf.Tensor, reading: Reading, perturbed: bool) -> rules.LayerState:
        """`layer_state` of an input and what has been read."""
        state = self._make_state(reading, tf.stop_gradient(x))
        if perturbed:
            state = state.perturbed_by(self.rule, f"layer {self.name!r}")
        w = tf.stop_gradient(tf.cast(state.kernel, x.dtype))
        return dataclasses.replace(state, y=self.connection.op(state.x, w), y_is_product=True)

    def synapse(self, inputs: tf.Tensor, perturbed: bool = False) -> rules.LayerState:
        """`layer_state` by its old name, for one release."""
        warnings.warn(
            "layer.synapse is called layer.layer_state.", DeprecationWarning, stacklevel=2
        )
        return self.layer_state(inputs, perturbed)

    def _make_state(self, reading: Reading, x: tf.Tensor | None = None) -> rules.LayerState:
        return rules.LayerState(
            connection=self.connection,
            x=x,
            y=None,
            kernel=reading.kernel,
            feedback_kernel=reading.feedback_kernel,
            bias=None if reading.bias is None else tf.cast(reading.bias, x.dtype),
            activation=self.activation,
            seed=self.seed,
            step=reading.step,
            noise_kind=self.rule.noise,
            memory=reading.memory,
            alignment_activation=self.alignment_activation,
        )

    def _learn(self, state: rules.LayerState) -> tf.Tensor:
        """Do a training call's work on B; return the B that the call's errors travel through."""
        renewed, memory = renewal(self.rule, state, f"layer {self.name!r}")
        if renewed is not None:
            renewed = tf.stop_gradient(renewed)
            self.feedback_kernel.assign(renewed)
        if memory is not None:
            self._memory.assign(memory)
        loss = None if is_alignment_off() else self.rule.loss(state)
        if loss is not None:
            self.add_alignment_loss(self._checked("loss", loss, ()))
        if self._step is not None and not state.frozen:
            # Not assign_add, which the graph could run before the reading that the noise needs.
            self._step.assign(state.step + 1)
        return state.feedback_kernel if renewed is None else renewed

    @property
    def _teaches_always(self) -> bool:
        """True if B gets of errors outside of training calls too: no scale stands between."""
        return self.rule.linear_in_error and self.trainable

    def _teacher(self, state: rules.LayerState) -> Callable:
        """The share of the error in dB, as a function of (dy, dw)."""
        seen = dataclasses.replace(
            state,
            kernel=tf.stop_gradient(state.kernel),
            feedback_kernel=tf.stop_gradient(state.feedback_kernel),
        )

        rests = self.rule.follows_forward and not self.kernel.trainable

        def teach(dy, dw):
            if rests:  # B has nothing to follow; Keras warns of a gradient that is None.
                return tf.zeros_like(dw)
            change = self.rule.gradient(seen, dy, dw)
            if change is None:
                return None
            return self._checked("gradient", change, self.kernel.shape)

        return teach

    def _checked(self, method: str, value, shape) -> tf.Tensor:
        """The value that the rule's method gave, if it is a tensor of this shape."""
        return checked(self.rule, method, value, shape, f"layer {self.name!r}")

    def _shaped_bias(self) -> tf.Tensor | None:
        """The bias in its own dtype, shaped to be added to the product."""
        if self.bias is None:
            return None
        bias = tf.convert_to_tensor(self.bias)
        if getattr(self, "data_format", None) == "channels_first":
            return tf.reshape(bias, [1, -1] + [1] * self.rank)
        return bias

    def enable_lora(self, *args, **kwargs):
        """See Keras; refused for feedback layers."""
        self._refuse("LoRA")
        return super().enable_lora(*args, **kwargs)

    def quantized_call(self, *args, **kwargs):
        """See Keras; in the compute dtype, as the bias, which is added last, is not cast."""
        return keras.ops.cast(super().quantized_call(*args, **kwargs), self.compute_dtype)

    def quantize(self, *args, **kwargs):
        """See Keras; refused for feedback layers."""
        self._refuse("quantisation")
        return super().quantize(*args, **kwargs)

    def _refuse(self, what: str):
        if self.rule.has_feedback_kernel:
            raise UserError(
                f"layer {self.name!r} has rule {self.rule.name!r}, which does not support {what}: "
                "its kernel would no longer be the one that the rule sees; use rule='backprop'."
            )

    def _named_variables(self) -> dict:
        if not self.built:  # It was never called; Keras saves such layers, too.
            return {}
        own = {"kernel": self.kernel, "bias": self.bias, "feedback_kernel": self.feedback_kernel}
        own |= {"alignment_step": self._step, "rule_memory": self._memory}
        own |= {"feedback_factor": self._factor, "feedback_projection": self._projection}
        return {name: variable for name, variable in own.items() if variable is not None}

    @property
    def _has_own_variables(self) -> bool:
        return self.rule.has_feedback_kernel or self.rule.feedback_rank is not None

    def save_own_variables(self, store):
        """Save all variables by name; Keras would save kernel and bias only."""
        if not self._has_own_variables:
            super().save_own_variables(store)
            return
        for name, variable in self._named_variables().items():
            store[name] = variable

    def load_own_variables(self, store):
        """Load what `save_own_variables` saved."""
        variables = self._named_variables()
        foreign = {"feedback_kernel", "feedback_factor"} & set(store.keys())
        if not foreign and not (self._has_own_variables and self.built):
            super().load_own_variables(store)
            return
        stored = {name: store[name] for name in store.keys()}
        if self._memory is not None:
            # Files of before `calibrated_mirror` kept anything beside B have no memory.
            stored.setdefault("rule_memory", self.rule.memory)
        other = self._memory is not None and len(stored["rule_memory"]) != len(self.rule.memory)
        if set(variables) != set(stored) or other:
            raise UserError(
                f"layer {self.name!r} (rule {self.rule.name!r}) has the variables "
                f"{sorted(variables)}, the file has {sorted(store.keys())}: it was saved from a "
                "layer with another rule; build the model with that rule."
            )
        for name, variable in variables.items():
            variable.assign(stored[name])

    def get_config(self) -> dict:
        """Constructor arguments, as plain data."""
        config = super().get_config()
        if self.alignment_activation is not None:
            serialized = keras.activations.serialize(self.alignment_activation)
            config["alignment_activation"] = serialized
        return {
            **config,
            "rule": rules.serialize(self.rule),
            "feedback_initializer": keras.initializers.serialize(self.feedback_initializer),
            "seed": self.seed,
        }
