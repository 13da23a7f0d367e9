"""A recipe with all that it leaves open resolved, from which a run is built."""

import dataclasses
from collections.abc import Callable

import keras

from tfcredit import data, models, optimizers, seeding
from tfcredit.analysis import feedback_layers
from tfcredit.data import ImageData
from tfcredit.errors import UserError
from tfcredit.models.registry import check_name
from tfcredit.rules import AlignmentRule, Rule
from tfcredit.training.contradictions import WITHOUT_FOLDER
from tfcredit.training.freezing import freeze
from tfcredit.training.own_network import OwnNetwork, is_function, is_own, options_of
from tfcredit.training.rates import Rates
from tfcredit.training.recipe import PRECISIONS, Recipe
from tfcredit.training.rule_flags import RulesByLayer, optimized, rule_of

SMALL = {
    "model": "resnet8",
    "batch_size": 128,
    "epochs": 5.0,
    "learning_rate": 0.1,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}
"""Defaults of flags that are not given, for small images."""
IMAGENET = {
    "model": "resnet18",
    "batch_size": 256,
    "epochs": 90.0,
    "learning_rate": 0.1,
    "schedule": "steps",
    "warmup_epochs": 5.0,
    "log_every_steps": 100,
}
"""Defaults for images of more than 64 pixels."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a run is made of.

    Attributes:
        recipe: The complete recipe.
        images: The images.
        rule: The rule that the flags describe, without schedules; or the rules by layer.
        steps_per_epoch: Optimizer steps of an epoch.
        total_steps: Optimizer steps of the run.
        rates: The schedules.
        own: The network, if --model names one of the user's own.
    """

    recipe: Recipe
    images: ImageData
    rule: Rule | RulesByLayer
    steps_per_epoch: int
    total_steps: int
    rates: Rates
    own: OwnNetwork | None = None

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        images: ImageData | None = None,
        network: keras.Model | Callable | None = None,
    ) -> "Plan":
        """Resolve a recipe.

        Args:
            recipe: The flags as given.
            images: The images. Default: those of --dataset.
            network: A network that was given in Python, or a function that makes one. Default:
                that of --model.

        Returns:
            The plan.

        Raises:
            UserError: The data are not there, or flags do not fit them or the rule; or there is no
                such network of the user's own, or it does not fit them.
        """
        own = None
        if network is not None or is_own(recipe.model):
            own, images = with_own_network(recipe, images, network=network)
            recipe = dataclasses.replace(recipe, model_digest=own.digest)
        elif (recipe.model or "").startswith("<"):
            raise UserError(
                f"--model={recipe.model} was given in Python: give it to tfcredit.train again; "
                "model.keras of a run that has ended holds it, too."
            )
        else:
            if recipe.model is not None:
                check_name(recipe.model)
            images = load_images(recipe) if images is None else images
        rule = rule_of(recipe)
        recipe = _complete(recipe, images, rule)
        steps_per_epoch = images.steps_per_epoch(recipe.batch_size)
        total_steps = recipe.steps or max(1, round(recipe.epochs * steps_per_epoch))
        rates = Rates.of(recipe, rule, steps_per_epoch, total_steps)
        return cls(recipe, images, rule, steps_per_epoch, total_steps, rates, own)

    def network(self) -> keras.Model:
        """Make the network, and set Keras' dtype policy to its precision.

        Returns:
            The network, not compiled.

        Raises:
            UserError: The network is unknown, or flags do not fit it.
        """
        recipe = self.recipe
        keras.mixed_precision.set_dtype_policy(PRECISIONS[recipe.precision])
        rule = self.rates.scheduled(self.rule)
        rule = rule.choices if isinstance(rule, RulesByLayer) else rule
        seed = seeding.derive(recipe.seed, "network")
        if self.own is not None:
            network = self.own.network(rule, seed)
        else:
            network = models.get(
                recipe.model,
                classes=self.images.classes,
                input_shape=self.images.input_shape,
                rule=rule,
                seed=seed,
                **options_of(recipe),
            )
        _check_inputs(network)
        freeze(network, recipe)
        return network

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Make the optimizer of all weights.

        Returns:
            The optimizer of the forward weights, together with that of the feedback kernels where
            they have one, and with the noise of the flags.

        Raises:
            UserError: An optimizer is unknown.
        """
        recipe = self.recipe
        average = {}
        if recipe.ema_momentum is not None:
            average = {"use_ema": True, "ema_momentum": recipe.ema_momentum}
        bounds = ("clipnorm", "global_clipnorm", "clipvalue")
        options = {name: getattr(recipe, name) for name in bounds}
        if recipe.weight_decay is not None:
            options |= {"weight_decay": recipe.weight_decay, "decay_vectors": False}
        forward = optimizers.get(
            recipe.optimizer,
            self.rates.learning_rate,
            momentum=recipe.momentum,
            **options,
            **average,
        )
        if not optimized(self.rule):
            return self._noisy(forward)
        feedback = optimizers.get(
            recipe.feedback_optimizer, self.rates.feedback_learning_rate, **average
        )
        rests = {"feedback_rests": recipe.alignment_every > 1}
        if recipe.feedback_noise is None:
            return self._noisy(optimizers.PartitionedOptimizer(forward, feedback, **rests))
        return optimizers.PartitionedOptimizer(
            self._noisy(forward), self._noisy(feedback, "feedback_"), **rests
        )

    def _noisy(
        self, optimizer: keras.optimizers.Optimizer, part: str = ""
    ) -> keras.optimizers.Optimizer:
        """The optimizer with the noise of the flags whose names begin with `part`."""
        recipe = self.recipe
        if getattr(recipe, f"{part}noise") == "none":
            return optimizer
        return optimizers.NoisyOptimizer(
            optimizer,
            distribution=getattr(recipe, f"{part}noise"),
            variance=getattr(recipe, f"{part}noise_variance"),
            variables="all" if part else recipe.noise_variables,
            seed=seeding.derive(recipe.seed, f"{part}noise"),
        )


def with_own_network(
    recipe: Recipe,
    images: ImageData | None = None,
    evaluated_only: bool = False,
    network: keras.Model | Callable | None = None,
) -> tuple[OwnNetwork, ImageData]:
    """Load a network of the user's own and images that it takes.

    Args:
        recipe: The flags as given.
        images: The images. Default: those of --dataset, of the size that the network takes.
        evaluated_only: See `load_images`.
        network: See `Plan.of`.

    Returns:
        The network, which fits the images; and the images.

    Raises:
        UserError: One of both is not there, or they do not fit each other.
    """
    given = images is not None or recipe.image_size is not None
    is_made = network is not None and not isinstance(network, keras.Model)
    shape = None if images is None else images.input_shape
    own = None
    if not (is_made or is_function(recipe.model)):
        own = OwnNetwork.of(recipe, None, shape, network)
    if own is not None and not given:
        recipe = dataclasses.replace(recipe, image_size=size_for(recipe, own.input_shape))
    if images is None:
        images = load_images(recipe, evaluated_only)
    if own is None:
        own = OwnNetwork.of(recipe, images.classes, images.input_shape, network)
        size = None if given else size_for(recipe, own.input_shape)
        if size not in (None, images.input_shape[0]):  # a function that has its own size
            images = load_images(dataclasses.replace(recipe, image_size=size), evaluated_only)
    own.check(recipe, images.classes, images.input_shape)
    return own, images


def size_for(recipe: Recipe, shape: tuple[int | None, ...]) -> int | None:
    """The size of images that a network takes.

    Args:
        recipe: The flags as given.
        shape: Height, width and channels of the network's images; `None` for any size.

    Returns:
        Height and width; `None` if the network or the data set leaves no choice.
    """
    dataset = recipe.dataset
    if dataset == "auto":
        dataset, _ = data.choose(recipe.data_dir)
    square = len(shape) == 3 and shape[0] is not None and shape[0] == shape[1]
    return shape[0] if square and dataset in ("folder", "imagenet", "synthetic") else None


def load_images(recipe: Recipe, evaluated_only: bool = False) -> ImageData:
    """Load the images that a recipe asks for.

    Args:
        recipe: The flags as given.
        evaluated_only: True if nothing is trained: all images of a folder without parts are test
            images then, and none are held out.

    Returns:
        The images.

    Raises:
        UserError: The data are not there, or flags do not fit them.
    """
    name, reason = recipe.dataset, None
    if name == "auto":
        name, reason = data.choose(recipe.data_dir)
    options = data_options(recipe, name)
    if evaluated_only and name == "folder":
        options["evaluated_only"] = True
    folder = None if name in WITHOUT_FOLDER else recipe.data_dir  # "auto" has looked there
    images = data.get(name, folder, **options)
    if reason is not None:
        images = dataclasses.replace(images, chosen_because=reason)
    return images if evaluated_only else held_out(recipe, images)


def held_out(recipe: Recipe, images: ImageData) -> ImageData:
    """Hold out the images that a recipe asks for.

    Args:
        recipe: The flags as given.
        images: The images.

    Returns:
        The images, some of which a run can be judged by.

    Raises:
        UserError: There are none to judge it by, or not so many to hold out.
    """
    if recipe.validation_examples is not None:
        # The same ones under every --seed, so that runs of other seeds can be compared.
        images = images.hold_out(recipe.validation_examples)
        held = f" {images.validation_examples} training images are held out for validation"
        tested = "" if images.test_examples else "; results are of these, as no others are there"
        images = dataclasses.replace(
            images, chosen_because=f"{images.chosen_because}{held}{tested}."
        )
    if not images.test_examples and not images.validation_examples:
        in_arrays = images.name == "arrays" or recipe.data_dir is None
        place = "what was given" if in_arrays else recipe.data_dir
        raise UserError(
            f"{place} holds training images only, and others are needed to evaluate: give "
            "--validation_examples=N to hold some out, or add test images (a folder has them in "
            "val/, a .npz file as x_test and y_test, tfcredit.train as test)."
        )
    return images


def data_options(recipe: Recipe, dataset: str) -> dict:
    """The options of a data set.

    Args:
        recipe: The flags as given.
        dataset: Its name.

    Returns:
        The flags that were given, and what the network asks for.
    """
    names = ("augment", "preprocessing", "image_size")
    options = {name: getattr(recipe, name) for name in names if getattr(recipe, name) is not None}
    if dataset == "embedded":
        return {"augment": False, **options}
    if dataset in ("arrays", "synthetic"):
        return options
    if (recipe.model or "").endswith("v2") and not is_own(recipe.model):
        options.setdefault("preprocessing", "inception")  # as the reference networks
    return {**options, "max_corrupt_records": recipe.max_corrupt_records}


def _check_inputs(network: keras.Model) -> None:
    """Refuse `--inputs=use_bias_forward=true` and its like where no layer has such a thing."""
    layers = [each for each in feedback_layers(network) if isinstance(each.rule, AlignmentRule)]
    linear = keras.activations.linear
    of_bias = [
        layer.bias is not None
        for layer in layers
        if layer.rule.inputs.use_bias_forward or layer.rule.inputs.use_bias_backward
    ]
    of_activation = [
        (layer.alignment_activation or layer.activation) not in (None, linear)
        for layer in layers
        if layer.rule.inputs.activation is None
        and (layer.rule.inputs.activation_forward or layer.rule.inputs.activation_backward)
    ]
    if of_activation and not any(of_activation):
        raise UserError(
            "--inputs asks for the layers' activation, but no layer of this network has one of its "
            "own: add one to --inputs, such as activation=relu, or leave activation_forward and "
            "activation_backward out."
        )
    if of_bias and not any(of_bias):
        raise UserError(
            "--inputs asks for the layers' bias, but no layer with a feedback kernel has one of "
            "its own: leave use_bias_forward and use_bias_backward out."
        )


def _complete(recipe: Recipe, images: ImageData, rule: Rule | RulesByLayer) -> Recipe:
    """Fill in what the data set and the rule decide."""
    defaults = dict(IMAGENET if images.input_shape[0] > 64 else SMALL)
    defaults["steps_per_execution"] = 100 if recipe.strategy == "tpu" else 1
    defaults["augment"] = images.name not in ("arrays", "embedded", "tf.data")
    if recipe.steps is not None:
        del defaults["epochs"]
    feedback = ("feedback_optimizer", "feedback_learning_rate")
    learning = optimized(rule)
    if len({one.feedback_optimizer for one in learning}) == 1:
        defaults |= dict(zip(feedback, learning[0].feedback_optimizer, strict=True))
    for flag in feedback:
        if learning and getattr(recipe, flag) is None and flag not in defaults:
            raise UserError(
                f"--rule={recipe.rule} has rules of different feedback optimizers: give "
                "--feedback_optimizer and --feedback_learning_rate, which all of them get."
            )
    own = ("feedback_schedule", "feedback_warmup_epochs", "feedback_noise")
    for flag in (*feedback, *own):
        stated = getattr(recipe, flag)
        if stated not in (None, getattr(Recipe, flag)) and not learning:
            raise UserError(
                f"--{flag}={stated} and --rule={recipe.rule} contradict each other: no optimizer "
                "of its own updates this rule's feedback kernels; leave the flag out."
            )
    changes = {k: v for k, v in defaults.items() if getattr(recipe, k) is None}
    if images.name in WITHOUT_FOLDER:
        changes["data_dir"] = None
    return dataclasses.replace(recipe, dataset=images.name, **changes)
