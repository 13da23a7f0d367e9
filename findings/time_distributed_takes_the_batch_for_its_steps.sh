#!/usr/bin/env bash
# Keras' TimeDistributed around a layer, over sequences whose number of steps is not known.
#
# One would guess: the layer inside is applied to every step. A dataset of batches of varying length
# gives what the same batches give one by one.
# What happens: where the number of steps is unknown as a graph is traced, the wrapper counts the
# batch in its place: a batch of 2 sequences gives 2 steps, however many it has. Where a pooling or
# a recurrent layer follows, nothing tells: a video network sees the first frames, as many as the
# batch has videos, and learns from these. Batches with more sequences than steps raise an error;
# by XLA their last step is repeated. Called eagerly, or on data whose shape has the number of
# steps, the same layer is right.
#
# Versions: Keras 3.15.1, TensorFlow 2.21.0 (tensorflow-cpu), Python 3.11. Date: 2026-12-01.
# Source: known and unknown steps compared for all layers inside. `call` of
# keras/src/layers/rnn/time_distributed.py reads `input_shape[0]` of the shape before it transposes.
# No report of it was found.
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
layer = keras.layers.TimeDistributed(keras.layers.Dense(4))
layer.build((None, 5, 3))


def graph(shape, **options):
    return tf.function(layer, input_signature=[tf.TensorSpec(shape)], autograph=False, **options)


x = rng.normal(size=(2, 5, 3)).astype("float32")
eager = layer(x).numpy()
known, unknown = graph((None, 5, 3))(x).numpy(), graph((None, None, 3))(x).numpy()
print("a batch of 2 sequences of 5 steps: eager", eager.shape, "known steps", known.shape,
      "unknown steps", unknown.shape)
np.testing.assert_allclose(known, eager, rtol=1e-5)
assert unknown.shape == (2, 2, 4), "it has changed"
np.testing.assert_allclose(unknown, eager[:, :2], rtol=1e-5)

many = rng.normal(size=(5, 2, 3)).astype("float32")
compiled = graph((None, None, 3), jit_compile=True)(many).numpy()
print("a batch of 5 sequences of 2 steps by XLA:", compiled.shape)
assert compiled.shape == (5, 5, 4), "it has changed"
np.testing.assert_allclose(compiled, layer(many).numpy()[:, [0, 1, 1, 1, 1]], rtol=1e-5)

# A network that pools over time, by fit and evaluate
inputs = keras.Input((None, 3))
pooled = keras.layers.GlobalAveragePooling1D()(layer(inputs))
model = keras.Model(inputs, pooled)
model.compile(keras.optimizers.SGD(0.0), "mse")
x = rng.normal(size=(8, 5, 3)).astype("float32")
y = np.stack([layer(one[None]).numpy()[0].mean(0) for one in x])  # what the network should give
pairs = tf.data.Dataset.from_generator(
    lambda: zip(x, y, strict=True),
    output_signature=(tf.TensorSpec((None, 3)), tf.TensorSpec((4,))),
)
losses = {}
for name, batches in {
    "steps known": tf.data.Dataset.from_tensor_slices((x, y)).batch(2),
    "padded_batch": pairs.padded_batch(2, ([None, 3], [4])),
}.items():
    batches = batches.apply(tf.data.experimental.assert_cardinality(4))
    losses[name] = model.fit(batches, shuffle=False, verbose=0).history["loss"][0]
    print(f"loss against the right outputs, {name}: {losses[name]:.2g}")
assert losses["steps known"] < 1e-10
assert losses["padded_batch"] > 1e-3, "it has changed"
PYTHON
echo "As described."
