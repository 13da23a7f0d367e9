"""The rules that studies compare, with their default values."""

from studies.two_routes.scales import Flags

NON_LOCAL = ("symmetric_alignment", "activation_alignment")
# Local as far as both synapses see the same x and dy (docs/rules.md, "What local means").
SHARED = ("kolen_pollack",)
LOCAL = ("weight_mirror", "info_alignment")
CALIBRATED = ("calibrated_mirror", "calibrated_activation")
ALL = (
    "backprop",
    *NON_LOCAL,
    *SHARED,
    *LOCAL,
    *CALIBRATED,
    "tracking_mirror",
    "feedback_alignment",
)


def default(rule: str) -> Flags:
    """The flags of a rule by its name."""
    return (f"--rule={rule}",)
