"""The rules that studies compare, with their default values."""

from studies import BASELINE
from studies.two_routes.scales import Flags

NON_LOCAL = ("symmetric_alignment", "activation_alignment")
# Local as far as both synapses see the same x and dy (docs/rules.md, "What local means").
SHARED = ("kolen_pollack",)
LOCAL = ("weight_mirror", "info_alignment")
CALIBRATED = ("calibrated_mirror", "calibrated_activation")
ALL = (
    "backprop",
    BASELINE,
    *NON_LOCAL,
    *SHARED,
    *LOCAL,
    *CALIBRATED,
    "tracking_mirror",
    "feedback_alignment",
)
# What the authors' code gives B where the package's default is another optimizer: flag by flag.
_AUTHORS = {
    "activation_alignment": ("--feedback_optimizer=adam", "--feedback_learning_rate=0.001"),
}


def default(rule: str) -> Flags:
    """The flags of a rule with the package's defaults."""
    return (f"--rule={rule}",)


def of_paper(rule: str) -> Flags:
    """The flags of a rule with the optimizer of B that the authors' code gives it."""
    return (f"--rule={rule}", *_AUTHORS.get(rule, ()))


def optimizer_of_paper(rule: str) -> Flags:
    """The flag for that optimizer alone, if the package's default is another one."""
    return _AUTHORS.get(rule, ())[:1]
