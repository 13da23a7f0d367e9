"""The authors' variables in our names, and the made-up weights of the golden numbers."""

import functools
import json
from pathlib import Path

import keras
import numpy as np

from tfcredit.convert.reference import is_transposed, our_path

GOLDEN = Path(__file__).parents[1] / "golden"
NETWORKS = json.loads((GOLDEN / "resnet_variables.json").read_text())


def weights_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's kernels, biases and batch-norm variables; no step counters or seeds."""
    wanted = "kernel feedback_kernel bias gamma beta moving_mean moving_variance".split()
    return {w.path: w for w in model.variables if w.path.rsplit("/")[-1] in wanted}


@functools.cache
def made_up_weights(network: str) -> dict[str, np.ndarray]:
    """The values that the golden runs used, by our path; see golden/README.md."""
    variables = NETWORKS[network]["variables"]
    shapes = dict(variables)
    rng = np.random.RandomState(1)
    weights = {}
    for name, shape in variables:
        digits = rng.randint(-2, 3, size=shape).astype(np.float32)
        scope, variable = name.rsplit("/", 1)
        if variable.endswith("kernel"):
            fan_in = np.prod(shapes[f"{scope}/forward_kernel"][:-1])
            value = digits * np.float32(round(float(np.sqrt(0.75 / fan_in)), 4))
        elif variable == "gamma":
            value = 1 + digits / 8
        elif variable == "moving_variance":
            value = 0.5 + 0.25 * np.abs(digits)
        else:
            value = digits / 16
        weights[our_path(name)] = value.T if is_transposed(name) else value
    return weights


def load_made_up_weights(model: keras.Model, network: str) -> None:
    variables = weights_by_path(model)
    values = made_up_weights(network)
    assert variables.keys() <= values.keys()
    for path, variable in variables.items():
        variable.assign(values[path])
