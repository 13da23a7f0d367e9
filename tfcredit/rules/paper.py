"""The rules of the paper (Kunin et al. 2020, table 1) and Kolen-Pollack, one statement each.

Default coefficients are in the convention of `tfcredit.primitives` (half-squares).
"""

from tfcredit.rules.alignment import NamedAlignmentRule
from tfcredit.rules.base import Rule
from tfcredit.rules.registry import register


@register("backprop")
class Backprop(Rule):
    """Errors travel through the forward kernel: weight transport. No feedback kernel exists."""

    has_feedback_kernel = False


@register("weight_mirror")
class WeightMirror(NamedAlignmentRule):
    """R = amp + decay: a Hebbian average of y x^T with forgetting (Akrout et al. 2019).

    Args:
        amp: Default 1e-3.
        decay: Default 2e-3.
        inputs: See `AlignmentRule`.
        rate: See `AlignmentRule`.

    Local, but B's fixed point depends on the second moments of the activity. With the default
    coefficients on the layer's own activity the outcome hangs on the seed (docs/results.md has
    the spread); the paper reports the sensitivity. `CalibratedMirror` is the cure.
    """

    defaults = {"amp": 1e-3, "decay": 2e-3}


@register("info_alignment")
class InformationAlignment(NamedAlignmentRule):
    """R = amp + decay + null: a mirror made stable by a local term on opT(y; B).

    Args:
        amp: Default 2e-3.
        null: Default 2e-3.
        decay: Default 2e-3.
        inputs: See `AlignmentRule`.
        rate: See `AlignmentRule`.

    Local (Kunin et al. 2020, section 3). The authors' default coefficients, converted.
    """

    defaults = {"amp": 2e-3, "null": 2e-3, "decay": 2e-3}
    feedback_optimizer = ("adam", 5e-3)


@register("symmetric_alignment")
class SymmetricAlignment(NamedAlignmentRule):
    """R = decay + self: B decays towards W, 1/2 |B - W|^2 up to a constant. Non-local.

    Args:
        decay: Default 0.1.
        self_: Default 0.1.
        inputs: See `AlignmentRule`; of no effect, R reads no activity.
        rate: See `AlignmentRule`.

    The authors' 2e-3 for both (ours, converted) is made for 450,000 ImageNet steps; 0.1 lets B
    follow W within tens of steps under SGD or Adam.
    """

    defaults = {"decay": 0.1, "self": 0.1}
    feedback_optimizer = ("sgd", 1.0)


@register("activation_alignment")
class ActivationAlignment(NamedAlignmentRule):
    """R = amp + sparse: op(x; B) learns to equal op(x; W). Non-local.

    Args:
        amp: Default 2e-3.
        sparse: Default 2e-3.
        inputs: See `AlignmentRule`.
        rate: See `AlignmentRule`.

    Equal coefficients make R = coefficient/(2n) |op(x; W) - op(x; B)|^2 up to a constant. The
    authors' defaults, converted. B is W where R has its minimum, so steps that are a share of |B|
    (LARS) fit every layer; the authors' code has Adam.
    """

    defaults = {"amp": 2e-3, "sparse": 2e-3}
    feedback_optimizer = ("lars", 3e-3)


@register("kolen_pollack")
class KolenPollack(NamedAlignmentRule):
    """B gets the forward kernel's own gradient H(x, dy) through the same optimizer, and a decay.

    Args:
        error: Default 1; anything else departs from the rule.
        decay: Default 2e-3 (the authors' 1e-3, converted).
        inputs: See `AlignmentRule`; `update_forward=True` decays W alike.
        rate: See `AlignmentRule`.

    W - B shrinks exactly as fast as the decay that both kernels share (Kolen & Pollack 1994;
    Akrout et al. 2019). With a decay on B alone B becomes parallel to W's recent updates.
    """

    defaults = {"error": 1.0, "decay": 2e-3}
    follows_forward = True
