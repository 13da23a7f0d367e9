"""The inputs of the regularisation function R: the layer's activity, altered, or noise."""

import dataclasses
from collections.abc import Mapping

import keras

from tfcredit import checks
from tfcredit.errors import UserError

NOISES = ("normal", "uniform")
PRECISIONS = ("float32", "bfloat16", "float16")


@keras.saving.register_keras_serializable("tfcredit")
@dataclasses.dataclass(frozen=True)
class AlignmentInputs:
    """Options on the inputs of R, one object for every rule (source: the authors' code).

    "Projections" are y = op(x; W) (forward) and op(x; B) (backward); "reconstructions" are
    opT(y; B) (forward) and opT(op(x; B); W) (backward). "Centre" subtracts the mean over all
    features and positions of one sample; "normalize" centres, then scales to unit L2 norm per
    sample; "batch centre" subtracts the mean over the batch that R sees. Outputs are altered in the
    order centre, normalize, batch centre, the projection and its reconstruction alike; a
    reconstruction is computed from the projection before that.

    Attributes:
        noise: `None` for the layer's activity, or `"normal"` / `"uniform"`: zero-mean noise of
            the shape of the input, each layer's own, a function of (seed, step).
        stddev: Its standard deviation.
        center_input: Centre the input.
        normalize_input: Normalize the input.
        batch_center_backward_input: Batch-centre the input of the backward projection only.
        use_bias_forward: Add the layer's bias to the forward projection.
        use_bias_backward: Add the layer's bias to the backward projection.
        activation: Activation for the two flags below; `None` means the layer's own, or the one
            that it states as `alignment_activation`: in residual networks relu, where one follows
            behind the layer's batch norm.
        activation_forward: Apply it to the forward projection.
        activation_backward: Apply it to the backward projection.
        center_forward_output: Centre the forward projection and reconstruction.
        normalize_forward_output: Normalize them.
        batch_center_forward_output: Batch-centre them.
        center_backward_output: Centre the backward projection and reconstruction.
        normalize_backward_output: Normalize them.
        batch_center_backward_output: Batch-centre them.
        reconstruction_amp: `amp` pairs the input with the reconstruction instead of the two
            projections (the same by adjointness, unless an option alters one of them).
        reconstruction_reversal: `null` (and `amp`, if on reconstructions) uses the backward
            reconstruction.
        update_forward: Let R's gradient reach the forward kernel too. R then also holds the
            forward kernel's own terms: 1/2 |W|^2 in `decay`, 1/(2n) |op(x; W)|^2 in `sparse`.
        fraction: Share of the batch that R sees, in (0, 1]: m = max(1, round(fraction * n)) of n
            samples that follow each other in the batch, from a random place on that is a function
            of (seed, step), each layer's and each replica's own. R is the mean over m samples, and
            every sample is as likely to be among them: the mean of R and of its gradient over the
            places is R of the whole batch. The rule's products cost m / n. Ours.
        precision: Of R's products: `"float32"`, `"bfloat16"` or `"float16"`; `None` for the
            layer's compute dtype, float32 in place of float16. H of float16 activity is summed in
            float32. Sums over the kernel, and what B gets, stay in B's dtype. Ours.

    Raises:
        UserError: An unknown noise, precision or activation, a standard deviation that is not
            positive, or a fraction outside (0, 1].
    """

    noise: str | None = None
    stddev: float = 1.0
    center_input: bool = False
    normalize_input: bool = False
    batch_center_backward_input: bool = False
    use_bias_forward: bool = False
    use_bias_backward: bool = False
    activation: str | None = None
    activation_forward: bool = False
    activation_backward: bool = False
    center_forward_output: bool = False
    normalize_forward_output: bool = False
    batch_center_forward_output: bool = False
    center_backward_output: bool = False
    normalize_backward_output: bool = False
    batch_center_backward_output: bool = False
    reconstruction_amp: bool = False
    reconstruction_reversal: bool = False
    update_forward: bool = False
    fraction: float = 1.0
    precision: str | None = None

    def __post_init__(self):
        if self.noise is not None and self.noise not in NOISES:
            raise UserError(
                f"noise={self.noise!r} is unknown: give one of {', '.join(NOISES)}, or None for "
                "the layer's activity."
            )
        checks.number("stddev", self.stddev, above=0)
        checks.number("fraction", self.fraction, above=0, at_most=1)
        if self.precision is not None:
            checks.choice("precision", self.precision, PRECISIONS)
        checked_activation(self.activation)

    @property
    def alters_forward_output(self) -> bool:
        """True if `amp` sees another forward projection than `null`."""
        return (
            self.center_forward_output
            or self.normalize_forward_output
            or self.batch_center_forward_output
        )

    @property
    def alters_backward(self) -> bool:
        """True if an option stands between B and R, so that R has no closed form."""
        return (
            self.use_bias_backward
            or self.activation_backward
            or self.center_backward_output
            or self.normalize_backward_output
            or self.batch_center_backward_output
            or self.reconstruction_amp
            or self.reconstruction_reversal
            or self.update_forward
        )

    def get_config(self) -> dict:
        """The options that differ from the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    @classmethod
    def get(cls, identifier) -> "AlignmentInputs":
        """An instance from `None`, an instance, a mapping of options or a serialised object."""
        if isinstance(identifier, cls):
            return identifier
        if not isinstance(identifier, Mapping | None):
            raise UserError(
                f"inputs={identifier!r} is none: give an AlignmentInputs, a mapping of its options "
                "or None for the layer's activity."
            )
        options = dict(identifier or {})
        if "class_name" in options:
            return keras.saving.deserialize_keras_object(options)
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise UserError(
                    f"{name!r} is no option of the alignment inputs; known: {', '.join(known)}."
                )
        return cls(**options)


def checked_activation(name: str | None) -> str | None:
    """The name of an activation that Keras knows, or `None` for the layer's own.

    Args:
        name: The name.

    Returns:
        `name`.

    Raises:
        UserError: Keras does not know it.
    """
    try:
        keras.activations.get(name)
    except ValueError:
        raise UserError(
            f"activation={name!r} is unknown to Keras: give a name such as 'relu', or None for "
            "the layer's own."
        ) from None
    return name
