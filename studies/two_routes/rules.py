"""The rules that studies compare, with their default values."""

from studies.two_routes.scales import Flags

NON_LOCAL = ("symmetric_alignment", "activation_alignment", "kolen_pollack")
LOCAL = ("weight_mirror", "info_alignment")
CALIBRATED = ("calibrated_mirror", "calibrated_activation")
ALL = ("backprop", *NON_LOCAL, *LOCAL, *CALIBRATED, "feedback_alignment")


def default(rule: str) -> Flags:
    """The flags of a rule by its name."""
    return (f"--rule={rule}",)
