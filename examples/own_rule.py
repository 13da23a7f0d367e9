"""A rule of one's own beside backprop and feedback alignment: its file runs the comparison.

    python examples/own_rule.py FOLDER

`tfcredit train --import=examples/own_rule.py --rule=noisy_copy` trains one network by it.
"""

import sys

import tfcredit
from tfcredit import checks, rules


@rules.register("noisy_copy")
class NoisyCopy(rules.Rule):
    """B goes towards W by noise that runs through both kernels, without an optimizer."""

    noise = "shared"

    def __init__(self, gain: float = 0.1):
        self.gain = checks.number("gain", gain, above=0, at_most=1)

    def update(self, state):
        """The feedback kernel after a step."""
        w, b = state.kernel, state.feedback_kernel
        shape = w.shape.as_list()
        fields = state.connection.on_fields(shape)
        x = state.noise([64, fields.axes(shape).fan_in], w.dtype)
        return b + self.gain * fields.hebbian(x, fields.op(x, w) - fields.op(x, b), shape) / 64

    def get_config(self):
        """The constructor's arguments."""
        return {"gain": self.gain}


if __name__ == "__main__":
    names = ["backprop", "feedback_alignment", "noisy_copy(gain=0.05)"]
    shared = {"model": "fc", "epochs": 4, "batch_size": 500, "learning_rate": 0.02}
    tfcredit.compare(names, seeds=2, jobs=2, compare_dir=sys.argv[1], import_=__file__, **shared)
