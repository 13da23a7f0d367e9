"""Keras' SGD and Adam with TensorFlow's fused updates: one pass over a weight and its slots.

Keras (3.15) writes an update as a chain of 7 (momentum) to 13 (Adam) elementwise ops, each of which
moves a tensor of the kernel's size through memory. The fused ops are the same formulas.
"""

from typing import Any

import keras
import tensorflow as tf

from tfcredit.optimizers.synchronous import SumClipping


def resource(variable: Any) -> tf.Tensor:
    """The handle of a Keras or TensorFlow variable; inside a replica, of that replica's copy."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


@keras.saving.register_keras_serializable("tfcredit")
class SGD(SumClipping, keras.optimizers.SGD):
    """`keras.optimizers.SGD`: its arguments, its state and formulas, in one op for each weight.

    Of several replicas the sum of the gradients is clipped.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """See `keras.optimizers.SGD.update_step`.

        Args:
            gradient: The gradient; `tf.IndexedSlices` take Keras' own way.
            variable: The weight.
            learning_rate: The learning rate of this step.
        """
        if isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        update = {
            "var": resource(variable),
            "lr": tf.cast(learning_rate, variable.dtype),
            "grad": tf.cast(gradient, variable.dtype),
        }
        if self.momentum == 0:
            update["alpha"], update["delta"] = update.pop("lr"), update.pop("grad")
            tf.raw_ops.ResourceApplyGradientDescent(**update)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            **update,
            accum=resource(self.momentums[self._get_variable_index(variable)]),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


@keras.saving.register_keras_serializable("tfcredit")
class Adam(SumClipping, keras.optimizers.Adam):
    """`keras.optimizers.Adam`: its arguments, its state and formulas, in one op for each weight.

    Of several replicas the sum of the gradients is clipped.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """See `keras.optimizers.Adam.update_step`.

        Args:
            gradient: The gradient; with `tf.IndexedSlices` or `amsgrad` it takes Keras' own way.
            variable: The weight.
            learning_rate: The learning rate of this step.
        """
        if isinstance(gradient, tf.IndexedSlices) or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=resource(variable),
            m=resource(self._momentums[index]),
            v=resource(self._velocities[index]),
            # Not shared: under a loss scale it is the values of all replicas outside of an update.
            lr=tf.cast(learning_rate, dtype),
            grad=tf.cast(gradient, dtype),
            **self._scalars[dtype],
        )

    def _distributed_tf_update_step(self, distribution, grads_and_vars, learning_rate):
        # What all weights of a step share is computed, and traced, once.
        dtypes = {variable.dtype for _, variable in grads_and_vars}
        self._scalars = {dtype: self._scalars_of(dtype) for dtype in dtypes}
        super()._distributed_tf_update_step(distribution, grads_and_vars, learning_rate)
        self._scalars = {}

    def _scalars_of(self, dtype: str) -> dict[str, tf.Tensor]:
        """Arguments of the fused op."""
        # Keras rounds numbers that it casts to float32, and these powers are of such.
        step = tf.cast(self.iterations + 1, dtype)
        return {
            "beta1_power": tf.cast(self.beta_1, dtype) ** step,
            "beta2_power": tf.cast(self.beta_2, dtype) ** step,
            "beta1": tf.constant(self.beta_1, dtype),
            "beta2": tf.constant(self.beta_2, dtype),
            "epsilon": tf.constant(self.epsilon, dtype),
        }
