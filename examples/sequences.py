"""The adding problem by an LSTM whose errors travel through feedback kernels.

    python examples/sequences.py [STEPS]

Two numbers of a sequence are marked; their sum is asked for at its end.
"""

import sys

import keras
import numpy as np

import tfcredit


def batches(steps, length=20, size=64, seed=0):
    """Inputs `[size, length, 2]`, numbers and marks, and the sums `[size, 1]`."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        numbers, marks = random.uniform(size=(size, length)), np.zeros((size, length))
        first, second = random.integers([0, length // 2], [length // 2, length], (size, 2)).T
        marks[range(size), first] = marks[range(size), second] = 1.0
        yield np.stack([numbers, marks], -1), (numbers * marks).sum(1, keepdims=True)


keras.utils.set_random_seed(0)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
plain = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(32), keras.layers.Dense(1)])
model = tfcredit.convert.to_feedback(
    plain, "calibrated_mirror", recurrent_rule="tracking_mirror", seed=0
)
model.compile(keras.optimizers.Adam(3e-3), "mse", steps_per_execution=min(steps, 100))
model.fit(batches(steps), epochs=1, steps_per_epoch=steps)
for record in tfcredit.analysis.alignment(model):
    print(f"{record['layer']}: {record['angle']:.1f} degrees between W and B")
