#!/usr/bin/env bash
# Keras' CategoricalFocalCrossentropy with from_logits=True.
#
# One would guess: logits are given so that the loss and its gradient are exact however wrong the
# network is, as CategoricalCrossentropy and BinaryFocalCrossentropy take them; with gamma=0 and
# alpha=1 it is the cross entropy.
# What happens: the loss applies softmax, clips probabilities at 1e-7 and takes the logarithm. Where
# the true class has less, the loss stops at 16.1 and the gradient is zero: the samples that are
# most wrong, for which the loss is made, are never learned. Logits 16 apart are enough, in float32.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: gradients of all losses that take logits, at large ones; `categorical_focal_crossentropy`
# of keras/src/losses/losses.py. tensorflow/addons issue 693 doubts the same in another library's
# loss; tensorflow issue 70326 is of NaN in the binary one. No report of this was found.
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
losses = keras.losses
logits = tf.constant([[0.0, 0.0], [-5.0, 0.0], [-15.0, 0.0], [-20.0, 0.0], [-40.0, 0.0]])
first = tf.one_hot([0] * len(logits), 2)  # the true class, which the logits say less and less


def seen(loss, targets, logits):
    """The loss of each sample, and its gradient in the logit of the true class."""
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss(targets, logits)
    return values.numpy(), tape.gradient(values, logits).numpy()[:, 0]


options = {"from_logits": True, "reduction": None}
found = {
    "CategoricalCrossentropy": seen(losses.CategoricalCrossentropy(**options), first, logits),
    "CategoricalFocalCrossentropy": seen(
        losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=0.0, **options), first, logits
    ),
    "BinaryFocalCrossentropy": seen(
        losses.BinaryFocalCrossentropy(gamma=2.0, **options), tf.ones([len(logits), 1]),
        logits[:, :1],
    ),
}
for name, (values, gradients) in found.items():
    print(f"{name}: losses {values.round(3).tolist()}")
    print(f"    gradients {gradients.round(3).tolist()}")
plain, focal, binary = found.values()
np.testing.assert_allclose(focal[0][:3], plain[0][:3], rtol=1e-3)  # gamma=0 changes nothing
np.testing.assert_allclose(plain[1][2:], -1.0, rtol=1e-3)
np.testing.assert_allclose(binary[1][2:], -1.0, rtol=1e-3)
np.testing.assert_allclose(focal[0][3:], 16.118, rtol=1e-3, err_msg="it has changed")
np.testing.assert_array_equal(focal[1][3:], 0.0, err_msg="it has changed")


def learned(loss):
    """The probability of the true class after 100 steps, from logits that are far off."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(1.0), loss=loss)
    model.layers[0].set_weights([np.zeros((1, 2)), np.array([-20.0, 0.0])])
    x, y = np.ones((1, 1)), np.array([[1.0, 0.0]])
    model.fit(x, y, epochs=100, verbose=0)
    return float(keras.ops.softmax(model(x))[0, 0])


cross = learned(losses.CategoricalCrossentropy(from_logits=True))
lost = learned(losses.CategoricalFocalCrossentropy(from_logits=True))
print(f"after 100 steps the true class has {cross:.3f} by cross entropy, {lost:.1e} by focal loss")
assert cross > 0.9 and lost < 1e-8, "it has changed"
PYTHON
echo "As described."
