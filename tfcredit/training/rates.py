"""The schedules of a run: how fast forward and feedback kernels learn, step by step."""

import dataclasses
from collections.abc import Mapping

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.patterns import split
from tfcredit.rules import AlignmentRule, Rule
from tfcredit.schedules import (
    AlignmentRate,
    CoefficientSchedule,
    TaskRate,
    TaskSchedule,
    WarmupStepDecay,
    scale_learning_rate,
)
from tfcredit.training.recipe import Recipe
from tfcredit.training.rule_flags import RulesByLayer, optimized, remade

DROPS = (1 / 3, 2 / 3, 8 / 9)
"""The parts of training after which `--schedule=steps` takes a tenth of the rate."""
PARTS = ("start", "stop", "change", "rate", "cycle")
"""Of a coefficient's schedule: `--coefficient_NAME`, and in `--coefficient_schedules`."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """Functions of the optimizer's step.

    Attributes:
        learning_rate: Of the forward weights.
        feedback_learning_rate: Of the feedback kernels' own optimizer, a number or a schedule of
            the steps that it takes; `None` without one.
        task: Factor on the task loss and L2; `None` for 1.
        alignment: Factor on R; `None` for the rule's own.
        coefficients: Primitive name -> schedule, in place of the rule's numbers.
    """

    learning_rate: LearningRateSchedule
    feedback_learning_rate: float | LearningRateSchedule | None = None
    task: TaskRate | None = None
    alignment: AlignmentRate | None = None
    coefficients: Mapping[str, CoefficientSchedule] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        rule: Rule | RulesByLayer,
        steps_per_epoch: int,
        total_steps: int,
    ) -> "Rates":
        """Make the schedules of a recipe.

        Args:
            recipe: The complete recipe.
            rule: Its rule.
            steps_per_epoch: Optimizer steps of an epoch.
            total_steps: Optimizer steps of the run.

        Returns:
            The schedules.

        Raises:
            UserError: The rule has nothing to schedule.
        """
        own = _own_schedules(recipe)
        window = (recipe.coefficient_start, recipe.coefficient_stop)
        scheduled = window != (0.0, 1.0) or recipe.coefficient_change != "none" or bool(own)
        in_phases = recipe.delay_epochs > 0 or recipe.alternate_steps > 0
        if (scheduled or in_phases) and not isinstance(rule, AlignmentRule):
            raise UserError(
                f"--rule={recipe.rule} has no coefficients, so that schedules of coefficients and "
                "phases of alignment (--coefficient_*, --delay_epochs, --alternate_steps) say "
                "nothing; leave these flags out."
            )
        found = {}
        if scheduled:
            found["coefficients"] = _coefficients(recipe, rule, own, steps_per_epoch, total_steps)
        if optimized(rule):
            found["feedback_learning_rate"] = _feedback_rate(recipe, steps_per_epoch, total_steps)
        if not in_phases:
            return cls(_learning_rate(recipe, steps_per_epoch, total_steps), **found)
        phases = {
            "steps_per_epoch": steps_per_epoch,
            "delay_epochs": recipe.delay_epochs,
            "alternate_steps": recipe.alternate_steps,
        }
        task = TaskRate(**phases)
        # Warm-up and decay take the steps that the task has, however few.
        rate = _learning_rate(recipe, steps_per_epoch, int(task.task_steps(total_steps)))
        found |= {"task": task, "alignment": AlignmentRate(**phases)}
        return cls(TaskSchedule(rate, **phases), **found)

    def coefficients_at(self, step: int) -> dict[str, float]:
        """The scheduled coefficients, for tables.

        Args:
            step: Steps taken.

        Returns:
            `coefficient_NAME` -> value of the step after these, without the factor on R.
        """
        found = self.coefficients.items()
        return {f"coefficient_{name}": float(value(step)) for name, value in found}

    def scheduled(self, rule: Rule | RulesByLayer) -> Rule | RulesByLayer:
        """Give a rule these schedules.

        Args:
            rule: The rule, which stays as it is.

        Returns:
            The rule with the schedules in place of its numbers.
        """
        if not self.coefficients and self.alignment is None:
            return rule
        others = {} if self.alignment is None else {"rate": self.alignment}
        return remade(rule, self.coefficients, **others)


def _own_schedules(recipe: Recipe) -> dict[str, dict[str, float | str]]:
    """`amp: start=0.1, stop=0.5; null: change=linear` as primitive -> part -> value."""
    flag, found = f"--coefficient_schedules={recipe.coefficient_schedules}", {}
    for item in filter(None, split(recipe.coefficient_schedules, ";")):
        name, *parts = (part.strip() for part in item.split(":"))
        if len(parts) != 1 or not name or name in found:
            raise UserError(
                f"{flag}: {item!r} must be a coefficient, a colon and what it gets, each "
                "coefficient once, such as 'amp: start=0.1, stop=0.5; null: stop=0.9'."
            )
        found[name] = dict(_part(flag, each) for each in split(parts[0], ","))
    return found


def _part(flag: str, text: str) -> tuple[str, float | str]:
    """`start=0.1` as name and value."""
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in PARTS:
        known = f"known: {', '.join(PARTS)}"
        raise UserError(
            f"{flag}: {name!r} is no part of a schedule, {known}{did_you_mean(name, PARTS)}"
        )
    if name == "change":
        return name, value
    try:
        return name, float(value)
    except ValueError:
        raise UserError(f"{flag}: {name}={value} must be a number.") from None


def _coefficients(
    recipe: Recipe,
    rule: AlignmentRule,
    own: Mapping[str, Mapping[str, float | str]],
    steps_per_epoch: int,
    total_steps: int,
) -> dict[str, CoefficientSchedule]:
    """The schedule of each coefficient: all parts of the flags, but those of its own."""
    numbers = {name: value for name, value in rule.coefficients.items() if name != "error"}
    for name in own:
        if name not in numbers:
            raise UserError(
                f"--coefficient_schedules={recipe.coefficient_schedules}: --rule={recipe.rule} has "
                f"no coefficient {name!r}; it has {', '.join(numbers) or 'none'}."
            )
    common = {part: getattr(recipe, f"coefficient_{part}") for part in PARTS}
    found = {}
    for name, value in numbers.items():
        parts = {**common, **own.get(name, {})}
        if parts["change"] == "none":
            parts["change"] = None
        found[name] = CoefficientSchedule(
            value, steps_per_epoch, epochs=total_steps / steps_per_epoch, **parts
        )
    return found


def _learning_rate(recipe: Recipe, steps_per_epoch: int, steps: int) -> LearningRateSchedule:
    """The schedule of the forward weights over so many steps."""
    peak = recipe.learning_rate
    if recipe.base_batch_size:
        peak = scale_learning_rate(peak, recipe.batch_size, recipe.base_batch_size)
    return _schedule(recipe.schedule, peak, recipe.warmup_epochs, steps_per_epoch, steps)


def _feedback_rate(
    recipe: Recipe, steps_per_epoch: int, steps: int
) -> float | LearningRateSchedule:
    """The rate of the feedback kernels' own optimizer."""
    peak, kind = recipe.feedback_learning_rate, recipe.feedback_schedule
    warmup, every = recipe.feedback_warmup_epochs, recipe.alignment_every
    if kind == "constant" and not warmup:
        return peak
    # That optimizer counts the steps in which R teaches.
    return _schedule(kind, peak, warmup, steps_per_epoch / every, -(-steps // every))


def _schedule(
    kind: str, peak: float, warmup_epochs: float, steps_per_epoch: float, steps: int
) -> LearningRateSchedule:
    """Warm-up, then a decay of the kind that `--schedule` takes, over so many steps."""
    if kind == "cosine":
        warmup = min(round(warmup_epochs * steps_per_epoch), steps // 2)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else peak, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
        )
    drops = DROPS if kind == "steps" else ()
    epochs = max(1, steps) / steps_per_epoch
    return WarmupStepDecay(
        peak,
        steps_per_epoch,
        warmup_epochs=warmup_epochs,
        boundaries=tuple(epochs * drop for drop in drops),
        factors=tuple(10.0 ** -(i + 1) for i in range(len(drops))),
    )
