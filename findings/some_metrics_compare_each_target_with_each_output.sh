#!/usr/bin/env bash
# Keras' metrics Poisson, Hinge, SquaredHinge and KLDivergence, of a network with one output.
#
# One would guess: `compile(loss="poisson", metrics=["poisson"])` shows two equal numbers, whether
# targets are a vector (samples,) or a column (samples, 1), as "mse" and "mae" do.
# What happens: outputs are a column. The losses, and most metrics, make the targets one. These four
# metrics subtract or multiply the vector and the column, which broadcasts to a table of each target
# with each output of the batch, and take its mean. The loss in the same row of the progress bar is
# right, and learns; the metric hardly moves, as it tells nothing of which output belongs to which
# target. A perfect fit has a KL divergence of 6.8.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: all losses and metrics compared over targets of both shapes; the functions of
# keras/src/losses/losses.py, of which these alone do not call `squeeze_or_expand_to_same_rank`. No
# report of it was found.
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
x = rng.normal(size=(256, 3)).astype("float32")
counts = rng.poisson(np.exp(x[:, 0])).astype("float32")
signs = np.sign(x[:, 0]).astype("float32")
shares = 1 / (1 + np.exp(-x[:, 0]))
cases = {
    "poisson": ("exponential", counts, True),
    "hinge": ("tanh", signs, True),
    "squared_hinge": ("tanh", signs, True),
    "kl_divergence": ("sigmoid", shares, True),
    "mse": (None, counts, False),
    "mae": (None, counts, False),
    "msle": ("softplus", counts, False),
}
print("                      targets of shape (256,)    of shape (256, 1)")
print("                        loss     metric           loss     metric")


def evaluated(name, activation, targets):
    """Loss and metric of one name, of the same network for targets of either shape."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation=activation)])
    model.layers[0].set_weights([np.array([[1.0], [0.0], [0.0]]), np.zeros(1)])
    model.compile("sgd", loss=name, metrics=[name])
    return model.evaluate(x, targets, batch_size=64, verbose=0)


for name, (activation, targets, wrong) in cases.items():
    flat = evaluated(name, activation, targets)
    column = evaluated(name, activation, targets[:, None])
    print(f"{name:20} {flat[0]:9.4f}  {flat[1]:9.4f}      {column[0]:9.4f}  {column[1]:9.4f}")
    np.testing.assert_allclose(column[0], column[1], rtol=1e-5)
    np.testing.assert_allclose(flat[0], column[0], rtol=1e-5)
    assert (abs(flat[1] - flat[0]) > 0.01 * abs(flat[0])) == wrong, f"{name} has changed"

metric = keras.metrics.Poisson()
outputs = np.exp(x[:, :1])
metric.update_state(counts, outputs)
each_with_each = float((outputs - counts * np.log(outputs + 1e-7)).mean())
print(f"Poisson() of targets (256,) and outputs (256, 1): {float(metric.result()):.4f};",
      f"the mean over all 256 x 256 pairs: {each_with_each:.4f}")
np.testing.assert_allclose(float(metric.result()), each_with_each, rtol=1e-4)
PYTHON
echo "As described."
