"""Rules for feedback kernels. `get` turns a name, config, sum of primitives or rule into a rule."""

from tfcredit.rules.akrout import AkroutMirror
from tfcredit.rules.alignment import AlignmentRule
from tfcredit.rules.base import LayerState, Rule
from tfcredit.rules.calibrated import CalibratedActivation, CalibratedMirror
from tfcredit.rules.fixed import NormalizedFeedbackAlignment, SoftAlignment
from tfcredit.rules.function import from_function
from tfcredit.rules.inputs import AlignmentInputs
from tfcredit.rules.network import DirectFeedbackAlignment, NodePerturbation
from tfcredit.rules.paper import (
    ActivationAlignment,
    AutoencoderAlignment,
    Backprop,
    FeedbackAlignment,
    InformationAlignment,
    KolenPollack,
    SymmetricAlignment,
    WeightMirror,
)
from tfcredit.rules.phase_free import PhaseFreeMirror
from tfcredit.rules.product import LowRankFeedback, ProductFeedbackAlignment
from tfcredit.rules.reconstruction import LocalDifferenceReconstruction
from tfcredit.rules.registry import get, names, register, serialize
from tfcredit.rules.sign import BRSF, FRSF, USF, SignSymmetry

__all__ = [
    "BRSF",
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
    "FeedbackAlignment",
    "InformationAlignment",
    "KolenPollack",
    "LocalDifferenceReconstruction",
    "LowRankFeedback",
    "NormalizedFeedbackAlignment",
    "PhaseFreeMirror",
    "ProductFeedbackAlignment",
    "NodePerturbation",
    "Rule",
    "SignSymmetry",
    "SoftAlignment",
    "SymmetricAlignment",
    "LayerState",
    "WeightMirror",
    "from_function",
    "get",
    "names",
    "register",
    "serialize",
]
