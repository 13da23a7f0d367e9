"""An evaluation from its flags to its results."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfcredit import data
from tfcredit.data import ImageData
from tfcredit.errors import UserError
from tfcredit.files import written
from tfcredit.training.contradictions import WITHOUT_FOLDER
from tfcredit.training.imports import import_own
from tfcredit.training.own_network import classifier, is_function, of_one_tensor
from tfcredit.training.plan import load_images, size_for, with_own_network
from tfcredit.training.recipe import Recipe
from tfcredit.training.saved import Saved

BATCH = 128
"""Images of a batch by default."""


def run(
    model: str, recipe: Recipe, given: Mapping[str, Any], output: Path | None = None
) -> dict[str, Any]:
    """Evaluates a classifier, prints and writes what was found.

    Args:
        model: A `.keras` file, a run directory, a checkpoint of a run, or a function that makes a
            network, as `FILE.py:FUNCTION` or `MODULE:FUNCTION`.
        recipe: Flags that say which images, as given.
        given: Those that were given, with their values.
        output: The file for the results, or None.

    Returns:
        The results: `model`, `dataset`, `part`, `examples`, `top1`, `top5`, `loss`, `outputs` (for
        which the loss took the network's: "logits" or "probabilities"), `step` of a run.

    Raises:
        UserError: The file is no classifier, or the images are not there or don't fit it.
    """
    if is_function(model):
        made, images = with_own_network(dataclasses.replace(recipe, model=model), None, True)
        network, step = made.plain, None
    else:
        network, images, recipe, step = _saved(Path(model), recipe, given)
    part = "test" if images.test_examples else "validation"
    results = {
        "model": model,
        "dataset": images.name,
        "data": images.chosen_because,
        "part": part,
        **({} if step is None else {"step": step}),
        **evaluate(network, images, part, recipe.batch_size or BATCH),
    }
    print(
        f"{model} on {results['examples']} {part} images of {images.name!r}: "
        f"top-1 {results['top1']:.4f}, top-5 {results['top5']:.4f}, loss {results['loss']:.4f} "
        f"of {results['outputs']}",
        flush=True,
    )
    if output is not None:
        _write(results, output)
    return results


def _saved(
    path: Path, recipe: Recipe, given: Mapping[str, Any]
) -> tuple[keras.Model, ImageData, Recipe, int | None]:
    """A saved network, images that fit it, their recipe, and the step of a checkpoint."""
    import_own(recipe.import_)
    saved = Saved.at(path)
    network = saved.network()
    classes, shape = classifier(network, str(path))
    network = of_one_tensor(network)
    # A network's name tells how its images are prepared, as --model does in a training.
    own = saved.recipe or dataclasses.replace(recipe, model=network.name)
    recipe = of_images(own, given, shape)
    # Of one tree of a run's own, the images that were held out; the others it has learned.
    images = load_images(recipe, evaluated_only=recipe.validation_examples is None)
    if saved.directory is not None:
        saved.directory.check_classes(images.class_names)
        if recipe.validation_examples is not None:  # else others than its own, or test images
            saved.directory.check_images(images)
    if images.classes != classes:
        raise UserError(
            f"{path} tells {classes} classes apart, but the images of {images.name!r} have "
            f"{images.classes}: give a network and images of the same classes."
        )
    if len(shape) == 3:
        pairs = zip(shape, images.input_shape, strict=True)
        data.check_images(images.input_shape, [size or given for size, given in pairs])
    return network, images, recipe, saved.step


def of_images(recipe: Recipe, given: Mapping[str, Any], shape: tuple) -> Recipe:
    """Finds the images to evaluate a network on.

    Args:
        recipe: The network's own flags.
        given: Flags that were given, which stand above them.
        shape: Of the images that the network takes; None for any size.

    Returns:
        The recipe of the images; of another data set than the run's, what the network needs only.
    """
    if given.get("dataset", recipe.dataset) != recipe.dataset:
        recipe = Recipe(model=recipe.model, preprocessing=recipe.preprocessing)
    changes = dict(given)
    if "data_dir" in given and not _is_same(given["data_dir"], recipe.data_dir):
        changes["validation_examples"] = None  # images that the run has not seen: all of them
    if "data_dir" in given and "dataset" not in given and recipe.dataset in WITHOUT_FOLDER:
        raise UserError(
            f"--data_dir={given['data_dir']} needs --dataset, as the network's own images, "
            f"--dataset={recipe.dataset}, are in no folder: name the set, such as --dataset=folder."
        )
    recipe = dataclasses.replace(recipe, **changes)
    if recipe.image_size is None:
        recipe = dataclasses.replace(recipe, image_size=size_for(recipe, shape))
    return recipe


def _is_same(folder: str, own: str | None) -> bool:
    """True for the folder of a run's own images, however it is written."""
    return own is not None and os.path.realpath(folder) == os.path.realpath(own)


def evaluate(
    network: keras.Model, images: ImageData, part: str = "test", batch_size: int = BATCH
) -> dict[str, Any]:
    """Evaluates a network on every test or validation image once.

    Args:
        network: A model from images to logits or to probabilities, shape (n, classes); rows that
            are not negative and sum to 1 count as probabilities.
        images: The images.
        part: "test" or "validation".
        batch_size: Images per batch.

    Returns:
        `examples`, the number of images; `top1`, `top5` and cross entropy `loss`; and `outputs`,
        "logits" or "probabilities".

    Raises:
        UserError: An image can't be decoded, or a result is not finite.
    """
    top = min(5, images.classes)
    metrics = {
        "top1": keras.metrics.SparseCategoricalAccuracy(),
        "top5": keras.metrics.SparseTopKCategoricalAccuracy(top),
        "loss": keras.metrics.Mean(),
        "examples": keras.metrics.Sum(),
    }
    predict = tf.function(network, autograph=False, reduce_retracing=True)
    batches = images.validation if part == "validation" else images.evaluation
    bar = _progress(images, part, batch_size)
    from_logits = None
    try:
        for step, (pictures, labels, weights) in enumerate(batches(batch_size)):
            outputs = tf.cast(predict(pictures, training=False), tf.float32)
            if from_logits is None:
                from_logits = not _are_probabilities(outputs)
            losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits)
            metrics["loss"].update_state(losses, weights)
            metrics["top1"].update_state(labels, outputs, weights)
            metrics["top5"].update_state(labels, outputs, weights)
            metrics["examples"].update_state(weights)
            if bar is not None:
                bar.update(step + 1)
    except tf.errors.OpError as problem:
        raise data.failure(problem) or problem from None
    results = {name: float(metric.result()) for name, metric in metrics.items()}
    told = "logits" if from_logits else "probabilities"
    return {**results, "examples": int(results["examples"]), "outputs": told}


def _are_probabilities(outputs: tf.Tensor) -> bool:
    sums = tf.reduce_sum(outputs, axis=1)
    near = tf.reduce_all(tf.abs(sums - 1.0) < 1e-2)
    return bool(near & tf.reduce_all(outputs >= 0.0))


def _progress(images: ImageData, part: str, batch_size: int) -> keras.utils.Progbar | None:
    if not sys.stdout.isatty():
        return None
    examples = images.validation_examples if part == "validation" else images.test_examples
    return keras.utils.Progbar(-(-examples // batch_size))


def _write(results: Mapping[str, Any], output: Path) -> None:
    try:
        with written(output) as unfinished:
            unfinished.write_text(json.dumps(results, indent=1) + "\n")
    except OSError as problem:
        raise UserError(
            f"--output={output} can't be written ({problem.strerror or problem}): give a file in a "
            "folder that you may write to and whose disk is not full."
        ) from None
