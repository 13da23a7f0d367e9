"""The networks by name, and the checks of what a user asks of them."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras

from tfcredit.checks import did_you_mean
from tfcredit.errors import UserError
from tfcredit.models import small
from tfcredit.models.blocks import basic_block, bottleneck_block
from tfcredit.models.making import LayerMaker
from tfcredit.models.resnet import Architecture, resnet
from tfcredit.models.wiring import wire
from tfcredit.seeding import default_seed, derive

_BLOCKS = {
    18: (basic_block, (2, 2, 2, 2)),
    34: (basic_block, (3, 4, 6, 3)),
    50: (bottleneck_block, (3, 4, 6, 3)),
    101: (bottleneck_block, (3, 4, 23, 3)),
    152: (bottleneck_block, (3, 8, 36, 3)),
    200: (bottleneck_block, (3, 24, 36, 3)),
}


@dataclass(frozen=True)
class _Entry:
    """A network that `get` knows: its builder, its default weight decay, its smallest image."""

    build: Callable[..., Any]
    l2: float
    smallest: int = 1
    images_only: bool = True


def _large_resnet(architecture: Architecture) -> _Entry:
    build = partial(resnet, architecture=architecture)
    return _Entry(build, l2=1e-4, smallest=architecture.total_stride)


def _small_resnet(depth: int) -> _Entry:
    architecture = Architecture(basic_block, ((depth - 2) // 6,) * 3, small_images=True)

    def build(*args: Any, width: int = 16, sync_batch_norm: bool = False) -> Any:
        if not isinstance(width, int) or width < 1:
            raise UserError(f"width={width!r} has to be a positive whole number, such as 16.")
        return resnet(*args, replace(architecture, width=width), sync_batch_norm=sync_batch_norm)

    return _Entry(build, l2=1e-4, smallest=architecture.total_stride)


_NETWORKS = {
    "conv": _Entry(small.conv, l2=0.0, smallest=small.CONV_TOTAL_STRIDE),
    "fc": _Entry(small.fc, l2=1e-6, images_only=False),
    **{f"resnet{depth}": _small_resnet(depth) for depth in (8, 20, 32, 56)},
    **{f"resnet{depth}": _large_resnet(Architecture(*how)) for depth, how in _BLOCKS.items()},
    **{
        f"resnet{depth}v2": _large_resnet(Architecture(*how, preactivation=True))
        for depth, how in _BLOCKS.items()
    },
}


def names() -> list[str]:
    """The names that `get` takes, sorted."""
    return sorted(_NETWORKS)


def get(
    name: str,
    classes: int = 1000,
    input_shape: Sequence[int] = (224, 224, 3),
    rule: Any = "backprop",
    seed: int | None = None,
    l2: float | None = None,
    **options: Any,
) -> keras.Model:
    """Builds a network by its name; the same builder serves every rule, backprop included.

    Args:
        name: One of `names()`.
        classes: Number of logits.
        input_shape: Shape of one image, `(height, width, channels)`.
        rule: Anything that `tfcredit.rules.get` takes; or a mapping from regular expressions to
            rules, of which the first that matches a layer's whole name counts: with
            `{"dense": "backprop", ".*": "weight_mirror"}` all but the last layer learn by mirror.
            A layer that no expression matches is trained by backprop.
        seed: Fixes every kernel, forward and feedback, and the layers' noise. By default drawn
            from the generator that `keras.utils.set_random_seed` controls.
        l2: Weight decay of the forward kernels, as `l2 * |W|^2 / 2`. By default the paper's: 1e-4
            for residual networks, whose dense bias decays, too; 1e-6 for `fc`, 0 for `conv`.
        **options: For residual networks `sync_batch_norm=False`, for those of CIFAR style (8, 20,
            32, 56) `width=16`, too; for `fc` `widths=256`, `depth=3`, `activation="relu"`; for
            `conv` `activation="relu"`.

    Returns:
        A functional model from images `[batch, *input_shape]` to logits `[batch, classes]`.

    Raises:
        UserError: If the network, the rule or an option is unknown, a value is out of range, or
            the image is too small for the network.

    Example:
        >>> model = get("resnet8", classes=10, input_shape=(28, 28, 1), seed=1)
        >>> model.output_shape
        (None, 10)
    """
    check_name(name)
    entry = _NETWORKS[name]
    _check_options(name, entry, options)
    shape = _checked_shape(name, entry, input_shape)
    if not _is_whole(classes) or classes < 2:
        raise UserError(f"classes={classes!r} has to be a whole number of at least 2.")
    l2 = entry.l2 if l2 is None else l2
    if not isinstance(l2, int | float) or not l2 >= 0:
        raise UserError(f"l2={l2!r} has to be a number of at least 0, such as 1e-4.")
    seed = default_seed() if seed is None else seed
    make = LayerMaker(rule, seed)
    inputs = keras.Input(shape, name="image")
    outputs = entry.build(inputs, int(classes), make, l2, **options)
    make.check_patterns()
    network = keras.Model(inputs, outputs, name=name)
    return wire(network, seed=derive(seed, "direct_feedback"))


def check_name(name: str) -> None:
    """Checks that there is a network of a name.

    Args:
        name: The name, as `get` takes it.

    Raises:
        UserError: There is none.
    """
    if not isinstance(name, str) or name not in _NETWORKS:
        hint = ""
        if str(name).endswith((".keras", ".py")) or ":" in str(name):
            hint = (
                " A network of your own gets a rule by tfcredit.convert.to_feedback(model, rule)."
            )
        raise UserError(f"Unknown model {name!r}{_choice(name, names())}{hint}")


def _check_options(name: str, entry: _Entry, options: dict[str, Any]) -> None:
    parameters = inspect.signature(entry.build).parameters.values()
    known = sorted(
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "architecture"
    )
    for option in options:
        if option not in known:
            raise UserError(f"Model {name!r} has no option {option!r}{_choice(option, known)}")


def _checked_shape(name: str, entry: _Entry, input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple, if the network can take such an image."""
    shape = tuple(input_shape) if isinstance(input_shape, Iterable) else ()
    rank_fits = len(shape) == 3 if entry.images_only else len(shape) >= 1
    if not rank_fits or not all(_is_whole(size) and size > 0 for size in shape):
        raise UserError(
            f"input_shape={input_shape!r} does not suit {name!r}; give the shape of one image "
            "without the batch as (height, width, channels), such as (224, 224, 3)."
        )
    if entry.images_only and min(shape[:2]) < entry.smallest:
        raise UserError(
            f"input_shape={input_shape!r} is too small for {name!r}, which needs images of at "
            f"least {entry.smallest}x{entry.smallest}; enlarge them, or take a network for small "
            "images such as 'resnet20' or 'fc'."
        )
    if entry.images_only and keras.config.image_data_format() != "channels_last":
        raise UserError(
            "The Keras setting image_data_format='channels_first' does not suit the networks, "
            "which take (height, width, channels); call "
            "keras.config.set_image_data_format('channels_last')."
        )
    return tuple(int(size) for size in shape)


def _is_whole(value: Any) -> bool:
    """True for an integer, NumPy's included, but not for a bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _choice(given: Any, known: Sequence[str]) -> str:
    """The end of a message about an unknown name."""
    return f"{did_you_mean(given, known)} Choose one of {', '.join(known)}."
