"""Two replicas with half a batch each give the weights of one device with the whole batch."""

import numpy as np
import pytest

SCRIPT = """
import os, sys
sys.path.insert(0, os.path.join("tests", "optimizers"))
import keras, numpy as np
from tests.optimizers import toy
from tfcredit.optimizers import NoisyOptimizer, PartitionedOptimizer

def parts():
    return keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), keras.optimizers.Adam(0.02)

CASES = {
    "noisy": lambda: NoisyOptimizer(PartitionedOptimizer(*parts()), variance=0.1, seed=3),
    "loss_scaled": lambda: keras.optimizers.LossScaleOptimizer(
        NoisyOptimizer(PartitionedOptimizer(*parts()), variance=0.1, seed=3), initial_scale=64.0),
}
results = {}
for name, make in CASES.items():
    alone = toy.fit(toy.model(make(), auto_scale_loss=False))
    with strategy.scope():
        mirrored = toy.model(make(), auto_scale_loss=False)
    toy.fit(mirrored)
    for path, value in toy.weights(alone).items():
        results[f"{name}/{path}/one"] = value
    for variable in mirrored.weights:
        for replica, copy in enumerate(strategy.experimental_local_results(variable.value)):
            results[f"{name}/{variable.path}/{replica}"] = copy.numpy()
    results[f"{name}/steps"] = mirrored.optimizer.iterations.value.numpy()
np.savez(sys.argv[1], **results)
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_two_replicas_equal_one_device(two_cpus, tmp_path):
    two_cpus(SCRIPT, str(tmp_path / "results.npz"))
    results = np.load(tmp_path / "results.npz")
    cases = [key for key in results if key.endswith("/one")]
    assert len(cases) == 2 * 6
    for key in cases:
        first, second = (results[key.replace("/one", f"/{replica}")] for replica in (0, 1))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, results[key], atol=2e-6)
    assert all(results[key] == 4 for key in results if key.endswith("/steps"))
