#!/usr/bin/env bash
# Moving averages of weights (`use_ema=True`) where the weights have a constraint.
#
# One would guess: the averages are those of the weights that training went through. An average of
# numbers none of which is negative is not negative, and one of vectors of norm 0.5 at most is no
# longer than that, so `NonNeg` and `MaxNorm` hold for averages as they hold for weights.
# What happens: an optimizer averages what its update gave, and only then the constraint is applied
# to the weights. The averages are of values that no weight has had after a step. `fit` ends with
# the averages in the weights' place, and applies no constraint to them: here every weight of a
# layer with `NonNeg` is 0 after each batch, as it is without averages, and negative after `fit`,
# and a kernel with `MaxNorm(0.5)` is longer than 0.5. Nothing warns. `SwapEMAWeights` and
# `ema_overwrite_frequency` use the same averages; the latter's are constrained once more.
# `constraint(weight)` on all weights after `fit` keeps the promise.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: networks trained with and without averages; `apply` of
# keras/src/optimizers/base_optimizer.py. No report of it was found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'keras==3.15.1' 'tensorflow-cpu==2.21.0'
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

print("keras", keras.__version__, "tensorflow", tf.__version__)
rng = np.random.default_rng(0)
data = rng.normal(size=(64, 6)).astype("float32")
targets = -data.sum(axis=1, keepdims=True)  # the best weights are all -1
momentum = 0.9


def train(constraint, **options):
    """The kernel after each batch, and the one after `fit`."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(1, kernel_constraint=constraint)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(0.1, **options), "mse")
    kernel, seen = layer.kernel, []
    after = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(np.array(kernel))
    )
    model.fit(data, targets, epochs=10, batch_size=16, callbacks=[after], verbose=0)
    return seen, np.array(kernel)


cases = {
    "NonNeg": (keras.constraints.NonNeg(), lambda kernel: float(kernel.min()) >= 0),
    "MaxNorm(0.5)": (
        keras.constraints.MaxNorm(0.5), lambda kernel: float(np.linalg.norm(kernel)) < 0.5001
    ),
}
for name, (constraint, holds) in cases.items():
    plain, at_end = train(constraint)
    seen, averaged = train(constraint, use_ema=True, ema_momentum=momentum)
    np.testing.assert_allclose(seen, plain, atol=1e-6, err_msg="training is the same")
    assert all(holds(kernel) for kernel in seen) and holds(at_end)
    true = seen[0]  # what the averages of the weights would be
    for kernel in seen[1:]:
        true = momentum * true + (1 - momentum) * kernel
    assert holds(true)
    print(f"{name}: the last weights {seen[-1].ravel().round(3)}, their average "
          f"{true.ravel().round(3)}, the weights after fit {averaged.ravel().round(3)}, of norm "
          f"{np.linalg.norm(averaged):.3f}")
    assert not holds(averaged), "it has changed"
    assert holds(np.array(constraint(tf.constant(averaged))))
assert float(train(cases["NonNeg"][0], use_ema=True, ema_momentum=momentum)[1].max()) < 0
PYTHON
echo "As described."
