"""Accuracy under white-box attacks; needs the Adversarial Robustness Toolbox, extra `robustness`.

The attacker has the forward network and its true input gradient, whatever way errors travelled in
training: the gradients of feedback kernels would make a network look robust that is not.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcredit.data.arrays import as_images, as_labels
from tfcredit.errors import UserError
from tfcredit.layers.routing import backprop_errors
from tfcredit.seeding import derive

ATTACKS = ("fgsm", "pgd")


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy `[n]` of one-hot labels `[n, classes]`; flat where logits are far apart."""
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def margin(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Largest wrong logit less the right one `[n]`, of one-hot labels `[n, classes]`."""
    wrong = tf.where(labels > 0, logits.dtype.min, logits)
    return tf.reduce_max(wrong, -1) - tf.reduce_sum(labels * logits, -1)


LOSSES = {"cross_entropy": cross_entropy, "margin": margin}


def robust_accuracy(
    model: keras.Model,
    images: Any,
    labels: Any,
    epsilons: Sequence[float],
    attacks: Sequence[str] = ATTACKS,
    mean: Any = 0.0,
    std: Any = 1.0,
    loss: str = "cross_entropy",
    steps: int = 10,
    step_size: float | None = None,
    seed: int = 0,
    batch_size: int = 250,
) -> list[dict]:
    """Accuracy when every pixel may be changed by up to epsilon, by an attacker who knows W.

    The fast gradient sign method, `"fgsm"` (Goodfellow, Shlens and Szegedy 2015, arXiv:1412.6572),
    and projected gradient descent from a random start, `"pgd"` (Madry et al. 2018,
    arXiv:1706.06083), untargeted, as the Adversarial Robustness Toolbox has them. The model is
    called as in evaluation; nothing in it changes.

    Args:
        model: A built Keras model that gives logits `[n, classes]`.
        images: `[n, height, width, channels]`, uint8 in 0 to 255, or floating point in 0 to 1: not
            normalised. Attacked images stay in this range.
        labels: Integers `[n]` or `[n, 1]`.
        epsilons: Largest changes of a pixel in units of its range: in (0, 1], such as 8 / 255.
        attacks: Any of `"fgsm"` and `"pgd"`.
        mean: Value that is subtracted of the pixels in 0 to 1, a number or one per channel, before
            the model is called.
        std: Value that the difference is divided by, likewise.
        loss: Loss that the attacker increases: `"cross_entropy"`, or `"margin"`, the largest wrong
            logit less the right one, which has a gradient where float32 leaves cross-entropy none.
        steps: Steps of PGD.
        step_size: Change of a pixel per step of PGD, epsilon at most. Default: 2.5 epsilon /
            `steps`, enough to reach any point of the ball.
        seed: Seed of PGD's random start.
        batch_size: Number of images that are attacked together.

    Returns:
        Records with `attack`, `epsilon` and `accuracy`: first that without an attack (`"none"`,
        0.0), then one per attack and epsilon. Under an attack an image counts if the model is right
        on it both before and after.

    Raises:
        UserError: Images that are no images, or out of range; labels that do not fit; outputs that
            are no logits; an unknown attack or loss; a number out of range; without the extra.

    Example:
        >>> from tfcredit import models
        >>> model = models.get("fc", 10, (28, 28, 1), rule="feedback_alignment", seed=0)
        >>> images, labels = np.zeros((4, 28, 28, 1), "uint8"), np.arange(4)
        >>> records = robust_accuracy(model, images, labels, [8 / 255], ["fgsm"])
        >>> [record["attack"] for record in records]
        ['none', 'fgsm']
    """
    _check_arguments(epsilons, attacks, loss, steps, step_size, batch_size)
    images = _pixels(images)
    logits = _logits(model, images, mean, std)
    labels = as_labels(labels, len(images), logits(images[:1]).shape[-1], "labels")
    evasion, classifier = _toolbox(logits, images.shape[1:], loss)

    def right(seen):
        return classifier.predict(seen, batch_size).argmax(-1) == labels

    before = right(images)
    records = [{"attack": "none", "epsilon": 0.0, "accuracy": float(before.mean())}]
    for name in attacks:
        for epsilon in map(float, epsilons):
            if name == "fgsm":
                attack = evasion.FastGradientMethod(classifier, eps=epsilon, batch_size=batch_size)
            else:
                step = 2.5 * epsilon / steps if step_size is None else step_size
                attack = evasion.ProjectedGradientDescent(
                    classifier,
                    eps=epsilon,
                    eps_step=min(step, epsilon),
                    max_iter=steps,
                    num_random_init=1,
                    batch_size=batch_size,
                    verbose=False,
                )
            with backprop_errors(), _numpy_seed(derive(seed, name)):
                attacked = attack.generate(images, labels)
            accuracy = float((before & right(attacked)).mean())
            records.append({"attack": name, "epsilon": epsilon, "accuracy": accuracy})
    return records


def _check_arguments(epsilons, attacks, loss, steps, step_size, batch_size):
    for epsilon in epsilons:
        if not 0 < epsilon <= 1:
            raise UserError(
                f"epsilon {epsilon!r} is not in (0, 1], the units of pixels in 0 to 1: give one "
                "such as 8 / 255."
            )
    for name in attacks:
        if name not in ATTACKS:
            raise UserError(f"unknown attack {name!r}, known are {', '.join(ATTACKS)}: choose one.")
    if loss not in LOSSES:
        raise UserError(f"unknown loss {loss!r}, known are {', '.join(LOSSES)}: choose one.")
    if steps < 1 or (step_size is not None and not step_size > 0):
        raise UserError(
            f"PGD with {steps!r} steps of size {step_size!r} goes nowhere: give 1 step at least, "
            "of a size above 0."
        )
    if batch_size < 1:
        raise UserError(f"batch size {batch_size!r} holds no image: give 1 at least.")


def _pixels(images: Any) -> np.ndarray:
    """The images, float32 in 0 to 1."""
    images = as_images(images, "images")
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / 255
    if not len(images) or images.min() < 0 or images.max() > 1:
        span = f"pixels in {images.min()} to {images.max()}" if len(images) else "nothing in it"
        raise UserError(
            f"images has {span}, but images with pixels in 0 to 1 were expected: give them as they "
            "are before normalisation, and what normalises them as mean= and std=."
        )
    return images


def _logits(model: keras.Model, images: np.ndarray, mean: Any, std: Any) -> Callable:
    """The model as a compiled function of pixels in 0 to 1."""
    mean, std = (tf.constant(value, tf.float32) for value in (mean, std))

    @tf.function(  # one trace for all attacks and for batches of any size
        input_signature=[tf.TensorSpec([None, *images.shape[1:]])], autograph=False
    )
    def logits(pixels):
        return tf.cast(model((pixels - mean) / std, training=False), tf.float32)

    outputs = logits(images[:1]).numpy()
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise UserError(
            f"the model {model.name!r} gives outputs of shape {outputs.shape} for one image, but "
            "logits (1, classes) of two classes at least were expected."
        )
    if (outputs >= 0).all() and np.isclose(outputs.sum(), 1.0):
        raise UserError(
            f"the model {model.name!r} gives probabilities, but logits were expected, because "
            "rounding leaves probabilities without gradients: give the model without its softmax."
        )
    return logits


def _toolbox(logits: Callable, shape: tuple[int, ...], loss: str) -> tuple:
    """The toolbox' attacks, and the model as it takes it."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)
            from art.attacks import evasion  # imports slowly, and is needed here only
            from art.estimators.classification import TensorFlowV2Classifier
    except ImportError as problem:
        raise UserError(
            "robust_accuracy needs the Adversarial Robustness Toolbox: "
            "pip install 'tfcredit[robustness]'."
        ) from problem
    return evasion, TensorFlowV2Classifier(
        lambda pixels, training: logits(pixels),
        nb_classes=logits(np.zeros((1, *shape), np.float32)).shape[-1],
        input_shape=shape,
        loss_object=LOSSES[loss],
        clip_values=(0.0, 1.0),
    )


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, from which the toolbox draws, for the block alone."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
