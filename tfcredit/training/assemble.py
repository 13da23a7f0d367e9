"""From a recipe to the parts of a run: complete recipe, rule, network, optimizer."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfcredit import data, models, optimizers, rules, seeding
from tfcredit.data import ImageData
from tfcredit.errors import UserError
from tfcredit.rules import AlignmentInputs, AlignmentRule, Rule
from tfcredit.schedules import (
    AlignmentRate,
    CoefficientSchedule,
    TaskRate,
    WarmupStepDecay,
    scale_learning_rate,
)
from tfcredit.training.recipe import PRECISIONS, Recipe
from tfcredit.training.strategies import Cluster

COEFFICIENTS = ("amp", "decay", "null", "sparse", "self")
# Of `AlignmentInputs`, with flags of their own: what makes R cheap.
CHEAPER = ("fraction", "precision")
SMALL = {
    "model": "resnet8",
    "batch_size": 128,
    "epochs": 5.0,
    "learning_rate": 0.1,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}
IMAGENET = {
    "model": "resnet18",
    "batch_size": 256,
    "epochs": 90.0,
    "learning_rate": 0.1,
    "schedule": "steps",
    "warmup_epochs": 5.0,
}


def with_data(recipe: Recipe) -> tuple[Recipe, ImageData]:
    """Load the images that a recipe asks for.

    Args:
        recipe: The flags as given.

    Returns:
        The complete recipe and its images.

    Raises:
        UserError: The data are not there, or flags do not fit them or the rule.
    """
    name, reason = recipe.dataset, None
    if name == "auto":
        found = data.get(name, recipe.data_dir)
        name, reason = found.name, found.chosen_because
    images = data.get(name, recipe.data_dir, **_data_options(recipe, name))
    if reason is not None:
        images = dataclasses.replace(images, chosen_because=reason)
    return complete(recipe, images), images


def _data_options(recipe: Recipe, dataset: str) -> dict:
    """Options of a data set: the flags that were given, and what the network asks for."""
    names = ("augment", "preprocessing", "image_size")
    options = {name: getattr(recipe, name) for name in names if getattr(recipe, name) is not None}
    if dataset == "embedded":
        return {"augment": False, **options}
    if dataset == "synthetic":
        return options
    if (recipe.model or "").endswith("v2"):
        options.setdefault("preprocessing", "inception")  # as the reference networks
    return {**options, "max_corrupt_records": recipe.max_corrupt_records}


def check_devices(recipe: Recipe, cluster: Cluster) -> None:
    """Check that a complete recipe can be computed on these devices.

    Args:
        recipe: The recipe.
        cluster: The devices.

    Raises:
        UserError: The batch can't be divided, or XLA is asked for where it can't be had.
    """
    parts = cluster.replicas * recipe.accumulation_steps
    if recipe.batch_size % parts:
        raise UserError(
            f"--batch_size={recipe.batch_size} can't be divided among {cluster.replicas} replicas "
            f"times --accumulation_steps={recipe.accumulation_steps}: use a multiple of {parts}."
        )
    on_cpu = not tf.config.list_logical_devices("GPU") and recipe.strategy != "tpu"
    if recipe.jit_compile and cluster.replicas > 1 and on_cpu:
        raise UserError(
            f"--jit_compile and {cluster.replicas} replicas on CPUs contradict each other: XLA "
            "can't exchange gradients there; leave --jit_compile out."
        )


def complete(recipe: Recipe, images: ImageData) -> Recipe:
    """Fill in what the data set and the rule decide.

    Args:
        recipe: The flags as given.
        images: The images.

    Returns:
        The complete recipe.

    Raises:
        UserError: What the flags ask of the rule does not fit it.
    """
    defaults = dict(IMAGENET if images.input_shape[0] > 64 else SMALL)
    defaults["steps_per_execution"] = 100 if recipe.strategy == "tpu" else 1
    if recipe.steps is not None:
        del defaults["epochs"]
    defaults["augment"] = images.name != "embedded"
    changes = {k: v for k, v in defaults.items() if getattr(recipe, k) is None}
    own = base_rule(recipe).feedback_optimizer
    separate = _has_separate_optimizer(base_rule(recipe))
    for flag in ("feedback_optimizer", "feedback_learning_rate"):
        if getattr(recipe, flag) is not None and not separate:
            raise UserError(
                f"--{flag}={getattr(recipe, flag)} and --rule={recipe.rule} contradict each other: "
                "no optimizer of its own updates this rule's feedback kernels; leave the flag out."
            )
    if separate:
        changes["feedback_optimizer"] = recipe.feedback_optimizer or own[0]
        if recipe.feedback_learning_rate is None:
            changes["feedback_learning_rate"] = own[1]
    return dataclasses.replace(recipe, dataset=images.name, **changes)


def total_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Optimizer steps of the run."""
    if recipe.steps is not None:
        return recipe.steps
    return max(1, round(recipe.epochs * steps_per_epoch))


def base_rule(recipe: Recipe) -> Rule:
    """The rule with the coefficients and inputs of the flags, without schedules."""
    rule = rules.get(recipe.rule)
    given = {
        name: getattr(recipe, name) for name in COEFFICIENTS if getattr(recipe, name) is not None
    }
    inputs, cheaper = _parse_inputs(recipe.inputs), _cheaper_inputs(recipe)
    every = recipe.alignment_every > 1
    if not (given or inputs or cheaper or every):
        return rule
    flags = [*given, *["inputs"][: len(inputs)], *(f"alignment_{name}" for name in cheaper)]
    flag = [*flags, "alignment_every"][0]
    if not isinstance(rule, AlignmentRule):
        raise UserError(
            f"--{flag} and --rule={recipe.rule} contradict each other: this rule has no "
            "coefficients and no alignment inputs; leave the flag out."
        )
    if cheaper and not rule.reads_activity:
        raise UserError(
            f"--alignment_{next(iter(cheaper))} and --rule={recipe.rule} contradict each other: R "
            "of this rule reads no activity and takes no product; leave the flag out."
        )
    if every and (rule.follows_forward or "error" in rule.coefficients):
        raise UserError(
            f"--alignment_every={recipe.alignment_every} and --rule={recipe.rule} contradict each "
            "other: the error teaches this rule's feedback kernels in every step; leave the flag "
            "out."
        )
    inputs |= cheaper
    config = rule.get_config()
    if inputs:
        config["inputs"] = {**config.get("inputs", {}), **inputs}
    if "coefficients" in config:
        config["coefficients"] = {**config["coefficients"], **given}
    else:
        config |= {"self_" if name == "self" else name: value for name, value in given.items()}
    return type(rule).from_config(config)


def rule_of(recipe: Recipe, steps_per_epoch: int) -> Rule:
    """The rule of a complete recipe, with its schedules of coefficients and rate."""
    rule = base_rule(recipe)
    window = (recipe.coefficient_start, recipe.coefficient_stop)
    scheduled = window != (0.0, 1.0) or recipe.coefficient_change != "none"
    phases = recipe.delay_epochs or recipe.alternate_steps
    if not (scheduled or phases):
        return rule
    if not isinstance(rule, AlignmentRule):
        raise UserError(
            f"--rule={recipe.rule} has no coefficients, so that schedules of coefficients and "
            "phases of alignment (--coefficient_*, --delay_epochs, --alternate_steps) say nothing; "
            "leave these flags out."
        )
    if scheduled:
        change = None if recipe.coefficient_change == "none" else recipe.coefficient_change
        epochs = total_steps(recipe, steps_per_epoch) / steps_per_epoch
        rule.coefficients = {
            name: value
            if name == "error"
            else CoefficientSchedule(
                value,
                steps_per_epoch,
                epochs,
                *window,
                change,
                recipe.coefficient_rate,
                recipe.coefficient_cycle,
            )
            for name, value in rule.coefficients.items()
        }
    if phases:
        rule.rate = AlignmentRate(**_phases(recipe, steps_per_epoch))
    return rule


def task_rate(recipe: Recipe, steps_per_epoch: int) -> TaskRate | None:
    """The factor on the task loss and L2 as a function of the step; `None` for 1."""
    if not (recipe.delay_epochs or recipe.alternate_steps):
        return None
    return TaskRate(**_phases(recipe, steps_per_epoch))


def network(recipe: Recipe, images: ImageData) -> keras.Model:
    """The network of a complete recipe, not compiled."""
    keras.mixed_precision.set_dtype_policy(PRECISIONS[recipe.precision])
    options = {} if recipe.width is None else {"width": recipe.width}
    if recipe.sync_batch_norm:
        options["sync_batch_norm"] = True
    return models.get(
        recipe.model,
        classes=images.classes,
        input_shape=images.input_shape,
        rule=rule_of(recipe, images.steps_per_epoch(recipe.batch_size)),
        seed=seeding.derive(recipe.seed, "network"),
        l2=recipe.l2,
        **options,
    )


def optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a complete recipe."""
    forward = optimizers.get(
        recipe.optimizer, learning_rate(recipe, steps_per_epoch), momentum=recipe.momentum
    )
    result = forward
    if _has_separate_optimizer(base_rule(recipe)):
        feedback = optimizers.get(recipe.feedback_optimizer, recipe.feedback_learning_rate)
        result = optimizers.PartitionedOptimizer(
            forward=forward, feedback=feedback, feedback_rests=recipe.alignment_every > 1
        )
    if recipe.noise != "none":
        result = optimizers.NoisyOptimizer(
            result,
            distribution=recipe.noise,
            variance=recipe.noise_variance,
            variables=recipe.noise_variables,
            seed=seeding.derive(recipe.seed, "noise"),
        )
    return result


def learning_rate(recipe: Recipe, steps_per_epoch: int):
    """The schedule of the forward weights' learning rate."""
    peak = scale_learning_rate(recipe.learning_rate, recipe.batch_size)
    steps = total_steps(recipe, steps_per_epoch)
    if recipe.schedule == "cosine":
        warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps // 2)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else peak, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
        )
    epochs = steps / steps_per_epoch
    drops = (1 / 3, 2 / 3, 8 / 9) if recipe.schedule == "steps" else ()
    return WarmupStepDecay(
        peak,
        steps_per_epoch,
        warmup_epochs=recipe.warmup_epochs,
        boundaries=tuple(epochs * drop for drop in drops),
        factors=tuple(10.0 ** -(i + 1) for i in range(len(drops))),
        delay_epochs=recipe.delay_epochs,
    )


def _has_separate_optimizer(rule: Rule) -> bool:
    return rule.learns and not rule.follows_forward


def _phases(recipe: Recipe, steps_per_epoch: int) -> dict:
    return {
        "steps_per_epoch": steps_per_epoch,
        "delay_epochs": recipe.delay_epochs,
        "alternate_steps": recipe.alternate_steps,
    }


def _cheaper_inputs(recipe: Recipe) -> dict:
    """The options of `AlignmentInputs` that have flags of their own, where they are given."""
    given = {name: getattr(recipe, f"alignment_{name}") for name in CHEAPER}
    return {name: value for name, value in given.items() if value is not None}


def _parse_inputs(text: str) -> dict:
    """`noise=normal,center_input=true` as options of `AlignmentInputs`."""
    fields = {field.name: field for field in dataclasses.fields(AlignmentInputs)}
    options = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in fields:
            raise UserError(f"--inputs={text}: {name!r} is no option; known: {', '.join(fields)}.")
        default = fields[name].default
        if isinstance(default, bool):
            if value.lower() not in ("", "true", "false"):
                raise UserError(f"--inputs={text}: {name} must be true or false.")
            options[name] = value.lower() != "false"
        elif isinstance(default, float):
            try:
                options[name] = float(value)
            except ValueError:
                options[name] = math.nan
        else:
            options[name] = value
    AlignmentInputs.get(options)
    return options
