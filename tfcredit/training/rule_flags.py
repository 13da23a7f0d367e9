"""The rule that the flags of a recipe describe."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tfcredit import patterns, rules
from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.rules import DRTP, AlignmentInputs, AlignmentRule, Rule
from tfcredit.rules.registry import spelled
from tfcredit.training.flags import settings
from tfcredit.training.recipe import Recipe


@dataclasses.dataclass(frozen=True, repr=False)
class RulesByLayer:
    """Rules of a network whose layers learn by different ones.

    Args:
        choices: Pattern of `tfcredit.patterns` -> rule.
    """

    choices: Mapping[str, Rule]

    @property
    def name(self) -> str:
        """As `--rule` takes it."""
        return "; ".join(f"{pattern}: {spelled(self.choices[pattern])}" for pattern in self.choices)

    def __repr__(self) -> str:
        return "; ".join(f"{pattern}: {self.choices[pattern]!r}" for pattern in self.choices)


def optimized(rule: Rule | RulesByLayer) -> list[Rule]:
    """The rules, one or none for a single one, whose feedback kernels have their own optimizer."""
    if isinstance(rule, RulesByLayer):
        return [one for each in rule.choices.values() for one in optimized(each)]
    return [rule] if rule.learns and not rule.follows_forward else []


def rule_of(recipe: Recipe) -> Rule | RulesByLayer:
    """Make the rule that the flags describe, without schedules.

    Args:
        recipe: The flags.

    Returns:
        The rule with the coefficients and inputs of the flags; or the rules by layer.

    Raises:
        UserError: There is no such rule, or flags ask of it what it does not have.
    """
    choices = patterns.from_text(recipe.rule)
    if choices is None:
        rule = rules.get(recipe.rule)
    else:
        rule = RulesByLayer({pattern: rules.get(name) for pattern, name in choices.items()})
    _check_learns(recipe, rule)
    coefficients, inputs = settings(recipe, "coefficients"), settings(recipe, "inputs")
    stated = _parse_inputs(recipe.inputs)
    flags = [*coefficients, *(["inputs"] if stated else []), *(f"alignment_{i}" for i in inputs)]
    if recipe.alignment_every > 1:
        flags.append("alignment_every")
    if not flags:
        return rule
    _check_fits(recipe, rule, flags, [f"alignment_{name}" for name in inputs])
    return remade(rule, coefficients, stated | inputs)


def remade(
    rule: AlignmentRule,
    coefficients: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    **others: Any,
) -> AlignmentRule:
    """Make a rule that is another in some of its arguments only.

    Args:
        rule: The rule, which stays as it is.
        coefficients: Primitive name -> number or schedule, in place of the rule's own.
        inputs: Options of `AlignmentInputs` in place of the rule's own.
        **others: Further arguments of the rule, such as `rate`.

    Returns:
        The new rule, of the same class.

    Raises:
        UserError: The rule has no such coefficient, or a value is out of range.
    """
    config = rule.get_config()
    if "coefficients" in config:
        config["coefficients"] = {**config["coefficients"], **coefficients}
    else:
        config |= {"self_" if name == "self" else name: v for name, v in coefficients.items()}
    if inputs:
        config["inputs"] = {**config.get("inputs", {}), **inputs}
    return type(rule).from_config(config | others)


def _check_learns(recipe: Recipe, rule: Rule | RulesByLayer) -> None:
    """Refuse flags under which a rule can't learn what it is to learn."""
    several = rule.choices.values() if isinstance(rule, RulesByLayer) else [rule]
    followed = [each for each in several if each.follows_forward and each.renews]
    if followed and recipe.optimizer.lower() == "schedulefreeadamw":
        raise UserError(
            f"--optimizer={recipe.optimizer} and --rule={recipe.rule} contradict each other: this "
            "optimizer keeps copies of the weights, so that it undoes what the rule assigns to "
            "feedback kernels; take another one, such as adamw."
        )
    if recipe.label_smoothing and any(isinstance(each, DRTP) for each in several):
        raise UserError(
            f"--label_smoothing={recipe.label_smoothing} and --rule={recipe.rule} contradict each "
            "other: 'drtp' sends one-hot targets, which smoothed labels hide; leave the flag out."
        )


def _check_fits(
    recipe: Recipe, rule: Rule | RulesByLayer, flags: list[str], cheaper: list[str]
) -> None:
    """Refuse flags that say nothing to this rule."""

    def contradict(flag: str, reason: str) -> UserError:
        value = f"={getattr(recipe, flag)}" if flag == "alignment_every" else ""
        return UserError(
            f"--{flag}{value} and --rule={recipe.rule} contradict each other: {reason}; leave the "
            "flag out."
        )

    if isinstance(rule, RulesByLayer):
        raise contradict(flags[0], "arguments of rules by layer stand in brackets behind each name")
    if not isinstance(rule, AlignmentRule):
        raise contradict(flags[0], "this rule has no coefficients and no alignment inputs")
    if cheaper and not rule.reads_activity:
        reason = "R of this rule reads no activity and takes no product"
        raise contradict(cheaper[0], reason)
    taught_by_error = rule.follows_forward or "error" in rule.coefficients
    if recipe.alignment_every > 1 and taught_by_error:
        reason = "the error teaches this rule's feedback kernels in every step"
        raise contradict("alignment_every", reason)


def _parse_inputs(text: str) -> dict[str, Any]:
    """`noise=normal,center_input=true` as options of `AlignmentInputs`."""
    fields = {field.name: field for field in dataclasses.fields(AlignmentInputs)}
    options = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in fields:
            raise UserError(
                f"--inputs={text}: {name!r} is no option{did_you_mean(name, fields)} Known: "
                f"{', '.join(fields)}."
            )
        default = fields[name].default
        if isinstance(default, bool):
            if value.lower() not in ("", "true", "false"):
                raise UserError(f"--inputs={text}: {name} must be true or false.")
            options[name] = value.lower() != "false"
        elif isinstance(default, float):
            try:
                options[name] = float(value)
            except ValueError:
                options[name] = math.nan  # which AlignmentInputs refuses, naming the option
        else:
            options[name] = value
    AlignmentInputs.get(options)
    return options
