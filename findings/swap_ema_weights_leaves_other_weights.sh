#!/usr/bin/env bash
# Validation on moving averages by `keras.callbacks.SwapEMAWeights`.
#
# One would guess: the callback puts the averages in the place of the weights while a validation
# runs, then puts the weights back, so that the training with it is the training without it.
# What happens: on TensorFlow it swaps by adding and subtracting (a += b, b = a - b, a -= b), which
# rounds. After each validation the weights are others in their last bits, and so is all that
# follows. Where an average is much larger than its weight, more than the last bits are lost.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-11-29.
# Source: seen while averages were evaluated in an own loop; no report of it was looked for.
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
x, y = rng.normal(size=(64, 3)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")


def weights_after(epochs, *callbacks):
    """The weights of each epoch's last step, before they are validated."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
    seen = []

    def note(batch, logs):
        if batch == 3:
            seen.append(np.concatenate([w.numpy().ravel() for w in model.weights]))

    noted = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    options = {"batch_size": 16, "shuffle": False, "validation_data": (x, y), "verbose": 0}
    model.fit(x, y, epochs=epochs, callbacks=[*callbacks, noted], **options)
    return seen


plain, again = weights_after(3), weights_after(3)
swapped = weights_after(3, keras.callbacks.SwapEMAWeights())
for epoch, (one, two, three) in enumerate(zip(plain, again, swapped, strict=True), start=1):
    repeated, changed = np.abs(one - two).max(), np.abs(one - three).max()
    print(f"epoch {epoch}: a second training differs by {repeated:.1e}, with swaps by {changed:.1e}")
assert all(np.array_equal(one, two) for one, two in zip(plain, again, strict=True))
assert np.array_equal(plain[0], swapped[0]), "nothing was swapped before"
assert not np.array_equal(plain[1], swapped[1]), "it has changed"

weight, average = tf.Variable(1e-3), tf.Variable(1e5)  # the same three steps by hand
weight.assign_add(average)
average.assign(weight - average)
weight.assign(weight - average)
print(f"a weight of 1e-3 beside an average of 1e5 comes back as {average.numpy():.6g}")
PYTHON
