"""`LayerMaker`: gives a network's builder its layers, each with its own rule and seeds."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfcredit import rules
from tfcredit.patterns import LayerPatterns
from tfcredit.primitives import WeightedSum
from tfcredit.seeding import derive

# One of these keys makes a mapping the config of a single rule; no layer has such a name.
_CONFIG_KEYS = {"class_name", "name"}


def are_choices(rule: Any) -> bool:
    """True for a mapping of patterns for layers to rules, which is no rule itself."""
    single = not isinstance(rule, Mapping) or isinstance(rule, WeightedSum)
    return not single and not _CONFIG_KEYS & set(rule)


class LayerMaker:
    """Makes the feedback layers of one network.

    A builder knows shapes and names only. What depends on a layer's name comes from here: its
    rule, a fresh kernel initializer, and the seeds of its random draws, so that no two layers
    and no forward and feedback kernel start with the same numbers by accident.
    """

    def __init__(self, rule: Any, seed: int) -> None:
        """Resolves the rule, once for all layers.

        Args:
            rule: Anything that `tfcredit.rules.get` takes, for all layers; or a mapping of
                `LayerPatterns` to such rules. Layers that no pattern fits learn by backprop.
            seed: The network's seed.

        Raises:
            UserError: If a rule is unknown or a pattern is no regular expression.
        """
        self._seed = seed
        if not are_choices(rule):
            rule = {".*": rule}
        self._rules = LayerPatterns({pattern: rules.get(value) for pattern, value in rule.items()})
        self._default = rules.get("backprop")
        self._made: list[str] = []

    def __call__(
        self,
        layer_class: Callable[..., keras.Layer],
        *args: Any,
        name: str,
        kernel_initializer: Callable[..., keras.Initializer],
        **kwargs: Any,
    ) -> keras.Layer:
        """Makes the layer `name`.

        Args:
            layer_class: A class of `tfcredit.layers`.
            *args: The layer's own positional arguments.
            name: The layer's name.
            kernel_initializer: An initializer's class or partial, called with a seed: two kernels
                that shared one instance would start with the same numbers.
            **kwargs: The layer's own keyword arguments.

        Returns:
            The layer.
        """
        self._made.append(name)
        return layer_class(
            *args,
            name=name,
            rule=self._rules.first(name, default=self._default),
            kernel_initializer=kernel_initializer(seed=derive(self._seed, name, "kernel")),
            seed=derive(self._seed, name),
            **kwargs,
        )

    def check_patterns(self) -> None:
        """Checks, once the network is built, that no pattern of the rule was a slip.

        Raises:
            UserError: If a pattern fits no layer.
        """
        self._rules.check([name] for name in self._made)


def half_l2(strength: float) -> keras.regularizers.Regularizer | None:
    """The penalty `strength * |W|^2 / 2`, which Keras' own `L2` states without the half.

    Args:
        strength: The weight decay.

    Returns:
        The regularizer, or None for 0, which saves a pass over the weights.
    """
    return keras.regularizers.L2(strength / 2) if strength else None
