"""Access to the golden numbers and the authors' conventions (see tests/golden/README.md)."""

import functools
import json
import pathlib

import numpy as np

from tfcredit import rules

GOLDEN = pathlib.Path(__file__).parent / "golden"


@functools.cache
def arrays(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@functools.cache
def description(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def assert_golden(actual, expected, to_scale):
    """Equal to rtol 1e-5 and atol 1e-6, the latter in units of the array's scale if `to_scale`.

    Float32 rounding is relative to the terms of a sum, not to the sum: an entry of 1.8 that sums
    terms up to 776 is off by 4e-5. Our float64 results meet the plain bar on all 110 cases of
    `rules` (so these numbers of the authors are themselves that exact), and on all arrays of `ops`
    but six, where 8 entries are off by 1e-6 to 6e-6: the rounding of the authors' float32.
    """
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0))) if to_scale else 1.0
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6 * scale)


# The authors' rule -> ours, and which of our primitives each of their coefficients is. Theirs have
# no factor 1/2, so their coefficients of these three are half of ours.
HALVED = {"decay", "null", "sparse"}
AUTHORS = {
    "feedback": ("feedback_alignment", {}),
    "symmetric": ("symmetric_alignment", {"alpha": "decay", "beta": "self"}),
    "activation": ("activation_alignment", {"alpha": "sparse", "beta": "amp"}),
    "mirror": ("weight_mirror", {"alpha": "decay", "beta": "amp"}),
    "information": ("info_alignment", {"alpha": "amp", "beta": "null", "gamma": "decay"}),
    "kolen_pollack": ("kolen_pollack", {"alpha": "decay"}),
}


def our_rule(authors_name, coefficients=None, inputs=None, use_sparse=False):
    """Our rule for the authors' rule and coefficients."""
    authors_name = authors_name.lower()
    if authors_name == "backprop":
        return rules.get("backprop")
    name, meaning = AUTHORS[authors_name]
    if name == "feedback_alignment":
        return rules.get(name)
    ours = {}
    for letter, value in coefficients.items():
        primitive = meaning[letter]
        if primitive == "decay" and use_sparse:
            primitive = "sparse"
        ours[primitive] = value * (2 if primitive in HALVED else 1)
    if name == "kolen_pollack":
        return rules.KolenPollack(decay=ours["decay"], inputs=inputs)
    return rules.AlignmentRule(ours, inputs=inputs)
