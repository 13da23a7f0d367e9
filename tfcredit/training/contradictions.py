"""Flags that contradict each other, and what to do about it."""

from typing import Any

from tfcredit.errors import UserError

WITHOUT_FOLDER = ("embedded", "synthetic")
"""Data sets that are in no folder."""


def check(recipe: Any) -> None:
    """Check that no two flags contradict each other.

    Args:
        recipe: The recipe.

    Raises:
        UserError: Two do; it names both, and what to do.
    """
    for contradictory, first, second, reason in _contradictions(recipe):
        if contradictory:
            told = [f"--{name}={getattr(recipe, name)}" for name in (first, second)]
            told = [text.removesuffix("=True") for text in told]
            raise UserError(f"{' and '.join(told)} contradict each other: {reason}.")


def _contradictions(recipe: Any) -> list[tuple[bool, str, str, str]]:
    """True if two flags contradict each other, the flags, and what to do about it."""
    return [
        (
            recipe.epochs is not None and recipe.steps is not None,
            *("epochs", "steps"),
            "both give the length of the run; leave one out",
        ),
        (
            bool(recipe.data_dir) and recipe.dataset in WITHOUT_FOLDER,
            *("dataset", "data_dir"),
            "these images are in no folder; leave --data_dir out, or name the set that is in it, "
            "such as --dataset=folder",
        ),
        (
            recipe.initial_head == "drop" and recipe.initial_weights is None,
            *("initial_head", "initial_weights"),
            "there is no last layer to drop; leave it out, or name a file or run",
        ),
        (
            recipe.overwrite and recipe.resume != "never",
            *("overwrite", "resume"),
            "one deletes the run that the other continues",
        ),
        (
            recipe.deterministic and recipe.jit_compile,
            *("deterministic", "jit_compile"),
            "TensorFlow turns XLA off in deterministic mode",
        ),
        (
            recipe.mode in ("evaluate", "export") and recipe.overwrite,
            *("mode", "overwrite"),
            "there would be nothing left to read",
        ),
        (
            recipe.batch_size is not None and recipe.batch_size % recipe.accumulation_steps != 0,
            *("accumulation_steps", "batch_size"),
            "the parts of a batch must be equal",
        ),
        (
            recipe.alignment_every > 1 and recipe.alternate_steps > 0,
            *("alignment_every", "alternate_steps"),
            "both choose the steps of the alignment",
        ),
        *_of_coefficients(recipe),
        *_of_the_step(recipe),
        (
            recipe.early_stopping is not None and recipe.mode == "train",
            *("early_stopping", "mode"),
            "nothing is evaluated before the end; leave one out",
        ),
        (
            recipe.evaluate_first and recipe.mode == "train",
            *("evaluate_first", "mode"),
            "one evaluates, the other does not; leave one out",
        ),
    ]


def _of_coefficients(recipe: Any) -> list[tuple[bool, str, str, str]]:
    """As `_contradictions`, of the flags that say how coefficients change."""
    constant = recipe.coefficient_change == "none" and not recipe.coefficient_schedules
    return [
        *(
            (
                bool(getattr(recipe, flag)) and constant,
                *("coefficient_change", flag),
                "choose --coefficient_change=linear or exponential",
            )
            for flag in ("coefficient_rate", "coefficient_cycle")
        ),
        (
            recipe.coefficient_start >= recipe.coefficient_stop,
            *("coefficient_start", "coefficient_stop"),
            "the start must come before the stop",
        ),
    ]


def _of_the_step(recipe: Any) -> list[tuple[bool, str, str, str]]:
    """As `_contradictions`, of the flags that say how gradients become steps."""
    bounds = ("clipnorm", "global_clipnorm", "clipvalue")
    given = [name for name in bounds if getattr(recipe, name) is not None]
    default = type(recipe).momentum
    own = recipe.feedback_noise not in (None, "none")
    return [
        (
            recipe.optimizer.lower() != "momentum" and recipe.momentum not in (0.0, default),
            *("momentum", "optimizer"),
            "only --optimizer=momentum takes it; leave it out",
        ),
        (
            recipe.noise == "none" and recipe.noise_variance > 0,
            *("noise", "noise_variance"),
            "choose --noise=normal or uniform",
        ),
        (
            recipe.noise != "none" and recipe.noise_variance == 0,
            *("noise", "noise_variance"),
            "state the variance of the noise, above 0",
        ),
        (
            len(given) > 1,
            *(given if len(given) > 1 else bounds)[:2],
            "an optimizer clips in one way; leave one out",
        ),
        (
            not own and (recipe.feedback_noise_variance or 0) > 0,
            *("feedback_noise", "feedback_noise_variance"),
            "choose --feedback_noise=normal or uniform",
        ),
        (
            own and not recipe.feedback_noise_variance,
            *("feedback_noise", "feedback_noise_variance"),
            "state the variance of the noise, above 0",
        ),
        (
            recipe.feedback_noise is not None and recipe.noise_variables == "feedback",
            *("feedback_noise", "noise_variables"),
            "both say what noise the feedback kernels get; leave one out",
        ),
        (
            recipe.ema_momentum is not None and recipe.optimizer.lower() == "schedulefreeadamw",
            *("ema_momentum", "optimizer"),
            "this optimizer averages the weights already; leave one out",
        ),
    ]
