"""The budgets: what each rule may cost at most, in ratios to plain Keras trained by backprop."""

HEADLINE = {"network": "resnet18@224", "batch": 16, "precision": "float32", "mode": "graph"}
"""The case that step budgets are for."""
PARTS = {
    f"{rule}(inputs={{'fraction': 0.0625}})": 1.05
    for rule in ("weight_mirror", "activation_alignment", "info_alignment")
}
"""The recommended recipe of each rule that learns by R: a sixteenth of the batch."""
STEP_BUDGETS = {
    "backprop": 1.01,
    "feedback_alignment": 1.02,
    "frsf": 1.02,
    "symmetric_alignment": 1.05,
    "kolen_pollack": 1.05,
    "tracking_mirror": 1.03,
    "calibrated_activation": 1.06,
    "calibrated_mirror(angle=10)": 1.15,
    "weight_mirror": 1.25,
    "activation_alignment": 1.40,
    "info_alignment": 1.50,
    "info_alignment(inputs={'fraction': 0.125})": None,
    **PARTS,
}
"""Rule -> the largest median ratio of step times, at `HEADLINE`; `None` where it is only told."""
OTHER_STEP_BUDGETS = [
    # Noise costs per step, not per image.
    (HEADLINE | {"batch": 64}, {"calibrated_mirror": 1.15}),
    (
        HEADLINE | {"network": "resnet50v2@224", "batch": 8},
        {
            "kolen_pollack": None,  # what following W costs `tracking_mirror`, too
            "tracking_mirror": 1.04,
            "activation_alignment": 1.33,
            "info_alignment": 1.42,
            **PARTS,
        },
    ),
    (
        HEADLINE | {"network": "vit@28", "batch": 64},
        {"tracking_mirror": None, "activation_alignment": 1.12, "info_alignment": 1.25},
    ),
    (
        HEADLINE | {"network": "fc@28", "batch": 128},
        {
            "feedback_alignment": 1.04,
            "symmetric_alignment": 1.12,
            "kolen_pollack": 1.15,
            "tracking_mirror": 1.25,
            "calibrated_activation": 1.30,
            "weight_mirror": 1.25,
            "info_alignment": 1.40,
        },
    ),
]
"""Settings of other networks and batches, each with budgets as above."""
RULES = [*STEP_BUDGETS, "calibrated_mirror"]
"""The rules that have budgets."""
MEMORY_BUDGET = 1.03
"""Peak memory of the process over the baseline's, feedback kernels and optimizer slots apart."""
TRACING_BUDGET = 1.25
"""Time of the first step, less that of a later one, over the baseline's."""
DENSE_BUDGET = 1.10
"""Step time of the dense network with ten steps per execution, over the baseline's times the FLOP
bound: what the rule adds beside its products."""
FLATNESS_BUDGET = 1.10
"""Largest over smallest ratio where a network, its batch or its replicas grow."""
REVISION_BUDGET = 1.01
"""Step time over that of an earlier revision of the project."""
