"""The meaning of a kernel's axes, and what follows from it: fields and fans."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class KernelAxes:
    """The meaning of a kernel's axes.

    Axes that are neither taps, inputs nor outputs are groups: each has weights of its own for a
    part of the input that goes to a part of the output.

    Attributes:
        shape: The kernel's shape, in which an axis that holds groups and outputs is two.
        inputs: The axes of `shape` along which one output sums over the input at one position.
        outputs: The axes along which weights of one input go to outputs that share their inputs.
        taps: The axes of positions that the kernel covers.
        scatters: True if an input is written to all taps, as transposed convolutions do, rather
            than read at all of them.

    Example:
        >>> KernelAxes((3, 3, 16, 8), inputs=(2,), outputs=(3,), taps=(0, 1)).fan_in
        144
    """

    shape: tuple[int, ...]
    inputs: Sequence[int]
    outputs: Sequence[int]
    taps: Sequence[int] = ()
    scatters: bool = False

    def __post_init__(self):
        for name in ("shape", "inputs", "outputs", "taps"):  # A list has no hash.
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def field(self) -> tuple[int, ...]:
        """The axes along which the weights of one output meet what one position of x holds.

        A position is what the kernel is laid upon: a receptive field of a convolution, a pixel of
        a transposed one.
        """
        return tuple(self.inputs) if self.scatters else (*self.taps, *self.inputs)

    @property
    def fan_in(self) -> int:
        """The size of a field: the number of weights that an output sums over."""
        return math.prod(self.shape[axis] for axis in self.field)

    @property
    def columns(self) -> int:
        """The outputs of a field, all groups counted: the kernel has fan_in x columns weights."""
        return math.prod(self.shape) // self.fan_in

    @property
    def fans(self) -> tuple[int, int]:
        """Fan-in and fan-out as Keras' initializers count them: groups are inputs or outputs."""
        taps = math.prod(self.shape[axis] for axis in self.taps)
        # Behind taps Keras takes the first axis for the inputs, whatever the layer does with it.
        inputs = self.shape[len(self.taps)] if self.taps else self.fan_in
        return taps * inputs, math.prod(self.shape) // inputs
