"""RAdam, which the authors' code has and Keras lacks; of SWATS, the other one, there is no twin."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfcredit.errors import UserError
from tfcredit.optimizers.synchronous import SumClipping


@keras.saving.register_keras_serializable("tfcredit")
class RAdam(SumClipping, keras.optimizers.Adam):
    """Rectified Adam: Adam whose first steps are as small as its variance estimate is uncertain.

    The adaptive step is scaled by r_t, which grows from 0 to 1 with the number of gradients that
    the estimate has seen; while that is too small for an estimate (the first four steps by default)
    steps are those of momentum.

    Source: Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond"
    (arXiv:1908.03265), algorithm 2. The place of `epsilon` is that of Keras' Adam.

    Args:
        learning_rate: A number or a Keras schedule. Default 0.001.
        beta_1: Decay of the mean of gradients. Default 0.9.
        beta_2: Decay of the mean of their squares. Default 0.999.
        epsilon: Added to the root of the squares. Default 1e-7.
        name: The optimizer's name.
        **kwargs: As `keras.optimizers.Adam` takes them, but `amsgrad`.

    Raises:
        UserError: `amsgrad` is set.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "radam",
        **kwargs: Any,
    ):
        if kwargs.get("amsgrad"):
            raise UserError("amsgrad=True is not defined for RAdam: leave it out, or take Adam.")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **kwargs)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """See `keras.optimizers.Optimizer`.

        Args:
            gradient: The variable's gradient.
            variable: The variable.
            learning_rate: The rate of this step.
        """
        # Rows of `IndexedSlices` that are of one place are added up before they are squared.
        gradient = ops.cast(tf.convert_to_tensor(gradient), variable.dtype)
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        # In float64: 1 - beta_2^t of the first steps has 4 digits in float32, and rho_t none.
        step = ops.cast(self.iterations + 1, "float64")
        power = ops.power(ops.convert_to_tensor(self.beta_2, "float64"), step)
        largest = 2 / (1 - self.beta_2) - 1
        rho = largest - 2 * step * power / (1 - power)
        known = rho > 4
        # r_t sqrt(1 - beta_2^t); the maximum keeps the root real in the branch that is not taken.
        over = ops.maximum((rho - 4) * (rho - 2), 0.0) * largest * (1 - power)
        scale = ops.sqrt(over / ((largest - 4) * (largest - 2) * rho))
        rate = ops.cast(learning_rate, "float64") / (1 - self.beta_1**step)
        adaptive = ops.cast(rate * scale, variable.dtype) / (ops.sqrt(v) + self.epsilon)
        self.assign_sub(variable, m * ops.where(known, adaptive, ops.cast(rate, variable.dtype)))

    def get_config(self) -> dict:
        """The arguments of the constructor."""
        config = super().get_config()
        del config["amsgrad"]
        return config
