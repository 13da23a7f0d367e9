"""The schedules of a run: how fast forward and feedback kernels learn, step by step."""

import dataclasses
from collections.abc import Mapping

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tfcredit.errors import UserError
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
from tfcredit.training.rule_flags import RulesByLayer, remade

DROPS = (1 / 3, 2 / 3, 8 / 9)
"""The parts of training after which `--schedule=steps` takes a tenth of the rate."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """Functions of the optimizer's step.

    Attributes:
        learning_rate: Of the forward weights.
        task: Factor on the task loss and L2; `None` for 1.
        alignment: Factor on R; `None` for the rule's own.
        coefficients: Primitive name -> schedule, in place of the rule's numbers.
    """

    learning_rate: LearningRateSchedule
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
        window = (recipe.coefficient_start, recipe.coefficient_stop)
        scheduled = window != (0.0, 1.0) or recipe.coefficient_change != "none"
        in_phases = recipe.delay_epochs > 0 or recipe.alternate_steps > 0
        if (scheduled or in_phases) and not isinstance(rule, AlignmentRule):
            raise UserError(
                f"--rule={recipe.rule} has no coefficients, so that schedules of coefficients and "
                "phases of alignment (--coefficient_*, --delay_epochs, --alternate_steps) say "
                "nothing; leave these flags out."
            )
        coefficients = {}
        if scheduled:
            coefficients = _coefficients(recipe, rule, steps_per_epoch, total_steps)
        if not in_phases:
            rate = _learning_rate(recipe, steps_per_epoch, total_steps)
            return cls(rate, coefficients=coefficients)
        phases = {
            "steps_per_epoch": steps_per_epoch,
            "delay_epochs": recipe.delay_epochs,
            "alternate_steps": recipe.alternate_steps,
        }
        task = TaskRate(**phases)
        # Warm-up and decay take the steps that the task has, however few.
        rate = _learning_rate(recipe, steps_per_epoch, int(task.task_steps(total_steps)))
        return cls(TaskSchedule(rate, **phases), task, AlignmentRate(**phases), coefficients)

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


def _coefficients(
    recipe: Recipe, rule: AlignmentRule, steps_per_epoch: int, total_steps: int
) -> dict[str, CoefficientSchedule]:
    change = None if recipe.coefficient_change == "none" else recipe.coefficient_change
    return {
        name: CoefficientSchedule(
            value,
            steps_per_epoch,
            epochs=total_steps / steps_per_epoch,
            start=recipe.coefficient_start,
            stop=recipe.coefficient_stop,
            change=change,
            rate=recipe.coefficient_rate,
            cycle=recipe.coefficient_cycle,
        )
        for name, value in rule.coefficients.items()
        if name != "error"
    }


def _learning_rate(recipe: Recipe, steps_per_epoch: int, steps: int) -> LearningRateSchedule:
    """The schedule of the forward weights over so many steps."""
    peak = scale_learning_rate(recipe.learning_rate, recipe.batch_size)
    if recipe.schedule == "cosine":
        warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps // 2)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else peak, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
        )
    drops = DROPS if recipe.schedule == "steps" else ()
    epochs = max(1, steps) / steps_per_epoch
    return WarmupStepDecay(
        peak,
        steps_per_epoch,
        warmup_epochs=recipe.warmup_epochs,
        boundaries=tuple(epochs * drop for drop in drops),
        factors=tuple(10.0 ** -(i + 1) for i in range(len(drops))),
    )
