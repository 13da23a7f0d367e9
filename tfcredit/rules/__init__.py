"""Rules for feedback kernels. `get` turns a name, config, sum of primitives or rule into a rule."""

import warnings

from tfcredit.rules.akrout import AkroutMirror
from tfcredit.rules.alignment import AlignmentRule
from tfcredit.rules.base import Rule
from tfcredit.rules.calibrated import CalibratedActivation, CalibratedMirror
from tfcredit.rules.controls import Frozen, FrozenBackprop
from tfcredit.rules.fixed import (
    FeedbackAlignment,
    NormalizedFeedbackAlignment,
    SoftAlignment,
)
from tfcredit.rules.function import from_function
from tfcredit.rules.inputs import AlignmentInputs
from tfcredit.rules.low_dimensional import LowDimensionalFeedback
from tfcredit.rules.network import (
    DRTP,
    DirectFeedbackAlignment,
    DirectKolenPollack,
    DirectRule,
    NodePerturbation,
)
from tfcredit.rules.paper import (
    ActivationAlignment,
    Backprop,
    InformationAlignment,
    KolenPollack,
    SymmetricAlignment,
    WeightMirror,
)
from tfcredit.rules.phase_free import PhaseFreeMirror
from tfcredit.rules.product import LowRankFeedback, ProductFeedbackAlignment
from tfcredit.rules.reconstruction import AutoencoderAlignment, LocalDifferenceReconstruction
from tfcredit.rules.registry import get, names, register, serialize
from tfcredit.rules.sign import BRSF, FRSF, USF, SignSymmetry
from tfcredit.rules.state import LayerState
from tfcredit.rules.tracking import TrackingActivation, TrackingMirror

__all__ = [
    "BRSF",
    "DRTP",
    "FRSF",
    "USF",
    "ActivationAlignment",
    "AkroutMirror",
    "AlignmentInputs",
    "AlignmentRule",
    "AutoencoderAlignment",
    "Backprop",
    "CalibratedActivation",
    "CalibratedMirror",
    "DirectFeedbackAlignment",
    "DirectKolenPollack",
    "DirectRule",
    "FeedbackAlignment",
    "Frozen",
    "FrozenBackprop",
    "InformationAlignment",
    "KolenPollack",
    "LocalDifferenceReconstruction",
    "LowDimensionalFeedback",
    "LowRankFeedback",
    "NormalizedFeedbackAlignment",
    "PhaseFreeMirror",
    "ProductFeedbackAlignment",
    "NodePerturbation",
    "Rule",
    "SignSymmetry",
    "SoftAlignment",
    "TrackingActivation",
    "TrackingMirror",
    "SymmetricAlignment",
    "LayerState",
    "WeightMirror",
    "from_function",
    "get",
    "names",
    "register",
    "serialize",
]


def __getattr__(name: str):
    if name == "Synapse":  # for one release
        warnings.warn(
            "tfcredit.rules.Synapse is called LayerState.", DeprecationWarning, stacklevel=2
        )
        return LayerState
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
