"""The shell that optimizers share which leave the update rules to inner optimizers."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.optimizers.synchronous import all_at_once, clipped_after_sum, refuse_replicas


def is_feedback_kernel(variable: Any) -> bool:
    """Returns True if a variable is a layer's feedback kernel, by its name."""
    name = variable.name.split("/")[-1].split(":")[0]
    return re.fullmatch(r"feedback_(kernel(_\d+)?|factor|projection)", name) is not None


def skip_step(optimizer: keras.optimizers.Optimizer) -> None:
    """Count a step of an optimizer none of whose variables has a gradient; Keras would raise.

    Its schedule must go on, and its moving averages must see the variables: Keras starts them
    from 0 and would overwrite the variables with them at the end of training.
    """
    if isinstance(optimizer, DelegatingOptimizer):
        for inner in optimizer.inner_optimizers:
            skip_step(inner)
    if optimizer.use_ema:
        optimizer._update_model_variables_moving_average(optimizer._trainable_variables)
    optimizer._iterations.assign_add(1)


def constrain(variables: Iterable[Any]) -> None:
    """Apply their constraints to variables that moving averages have been written into.

    Keras (3.15) averages what an update gave before the constraint, so that weights that are all
    to be positive had negative averages.
    """
    for variable in variables:
        if variable.constraint is not None:
            variable.assign(variable.constraint(tf.convert_to_tensor(variable)))


class DelegatingOptimizer(keras.optimizers.Optimizer):
    """An optimizer made of others: what is the same for all such ones.

    Subclasses set `inner_optimizers` through a property over *attributes*, which is what makes
    `.keras` files and `tf.train.Checkpoint` hold the inner optimizers' variables, and define
    `_update`.
    """

    def __init__(self, name: str, loss_scale_factor: float | None) -> None:
        """Make the shell; its own learning rate is only a link to the leading optimizer's.

        Args:
            name: The optimizer's name.
            loss_scale_factor: Factor of the loss, which the gradients are divided by; None for 1.
        """
        super().__init__(
            learning_rate=lambda: self.learning_rate, loss_scale_factor=loss_scale_factor, name=name
        )
        self._undecayed: list[str] = []

    @property
    def inner_optimizers(self) -> Sequence[keras.optimizers.Optimizer]:
        """The optimizers inside, the leading one first."""
        raise NotImplementedError

    def _update(self, gradients: list[Any], variables: list[Any]) -> None:
        """Take one step with unscaled gradients, some of them possibly None."""
        raise NotImplementedError

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers that hold rules, slots and moving averages, however deep they sit.

        `keras.callbacks.SwapEMAWeights` asks for them by this name.
        """
        found = []
        for inner in self.inner_optimizers:
            found += inner.optimizers if isinstance(inner, DelegatingOptimizer) else [inner]
        return found

    def _owner(self, variable: Any) -> keras.optimizers.Optimizer:
        """The inner optimizer that a variable is left to."""
        return self.inner_optimizers[0]

    def optimizer_of(self, variable: Any) -> keras.optimizers.Optimizer:
        """The optimizer whose rule updates a variable, however deep it sits.

        Args:
            variable: One of the variables that this optimizer was built on.

        Returns:
            A Keras optimizer that is no `DelegatingOptimizer`.
        """
        owner = self._owner(variable)
        return owner.optimizer_of(variable) if isinstance(owner, DelegatingOptimizer) else owner

    def build(self, variables: Sequence[Any]) -> None:
        """Build every inner optimizer on the variables that are left to it.

        Args:
            variables: The model's trainable variables.
        """
        if self.built:
            return
        for inner in self.inner_optimizers:
            refuse_replicas(inner)
        super().build(list(variables))
        for inner in self.inner_optimizers:
            inner.build([v for v in variables if self._owner(v) is inner])

    @property
    def learning_rate(self) -> Any:
        """The leading optimizer's learning rate, a variable or a tensor; set it like any other."""
        return self.inner_optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizers[0].learning_rate = value

    @property
    def variables(self) -> list[keras.Variable]:
        """The own step counter, then the variables of the inner optimizers in their order."""
        return self._variables + [v for inner in self.inner_optimizers for v in inner.variables]

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Update the variables; the same contract as `keras.optimizers.Optimizer.apply`.

        Args:
            grads: One gradient per variable; None leaves a variable as it is.
            trainable_variables: The variables; None for those that the optimizer was built on.

        Raises:
            UserError: If there are no variables to go with the gradients, or all gradients are
                None.
        """
        grads = list(grads)
        if not grads:
            return
        variables = self._known_variables(grads, trainable_variables)
        if all(gradient is None for gradient in grads):
            raise UserError(
                f"All {len(grads)} gradients given to the optimizer {self.name!r} are None; "
                "compute them from a loss that depends on the trainable variables."
            )
        if self.loss_scale_factor is not None:
            grads = [g if g is None else g / self.loss_scale_factor for g in grads]
        with keras.name_scope(self.name, caller=self):
            self._update(all_at_once(grads), variables)
        self._iterations.assign_add(1)

    def _apply_to(
        self, inner: keras.optimizers.Optimizer, gradients: list[Any], variables: list[Any]
    ) -> None:
        """A step of an inner optimizer, which clips the sum over replicas and not their shares."""
        if not isinstance(inner, DelegatingOptimizer):
            gradients = clipped_after_sum(inner, gradients)
        inner.apply(gradients, variables)

    def _known_variables(self, grads: list[Any], variables: Sequence[Any] | None) -> list[Any]:
        """The variables that belong to the gradients; builds the optimizer where that is due."""
        if variables is None:
            if not self.built or len(grads) != len(self._trainable_variables):
                raise UserError(
                    f"{len(grads)} gradients came without variables, the optimizer {self.name!r} "
                    f"was built on {len(self._trainable_variables)}; pass the variables too."
                )
            return self._trainable_variables
        variables = list(variables)
        if not self.built:
            with keras.name_scope(self.name, caller=self):
                self.build(variables)
        self._check_variables_are_known(variables)
        return variables

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Let the inner optimizers put their moving averages, if any, in place of the variables.

        Args:
            var_list: The model's trainable variables.
        """
        for inner in self.inner_optimizers:
            owned = [v for v in var_list if self._owner(v) is inner]
            inner.finalize_variable_values(owned)
            if inner.use_ema:
                constrain(owned)

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exclude variables from the weight decay of every inner optimizer; before building.

        A `.keras` file keeps the patterns, which those of Keras' optimizers lose. It can't keep
        `var_list`.

        Args:
            var_list: Variables to exclude.
            var_names: Patterns; a variable is excluded if one is found in its name.

        Raises:
            UserError: If the optimizer has been built, when steps may be traced already.
        """
        if self.built:
            raise UserError(
                f"exclude_from_weight_decay came after the optimizer {self.name!r} was built; "
                "call it before compile or the first step."
            )
        for inner in self.inner_optimizers:
            inner.exclude_from_weight_decay(var_list=var_list, var_names=var_names)
        self._undecayed = list(var_names or [])

    def _config(self, **options: Any) -> dict[str, Any]:
        """The config of these arguments of the constructor and of what all such optimizers have."""
        config = {**options, "name": self.name, "loss_scale_factor": self.loss_scale_factor}
        return config | ({"undecayed": list(self._undecayed)} if self._undecayed else {})

    @classmethod
    def _from_arguments(cls, undecayed: Sequence[str] = (), **options: Any) -> Self:
        """The optimizer of a config whose inner optimizers have been made."""
        optimizer = cls(**options)
        if undecayed:
            optimizer.exclude_from_weight_decay(var_names=undecayed)
        return optimizer

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all variables.

        Args:
            weights: One array per variable, in the order of `variables`.

        Raises:
            UserError: If the optimizer is not built or the number of weights is wrong.
        """
        if not self.built or len(weights) != len(self.variables):
            raise UserError(
                f"{len(weights)} weights were given to the optimizer {self.name!r}, which has "
                f"{len(self.variables)} and is {'' if self.built else 'not '}built; build it on "
                "the variables that the weights come from."
            )
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        """Write the own step counter; Keras visits the inner optimizers itself."""
        store["0"] = self._iterations.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read the own step counter."""
        self._iterations.assign(store["0"])
