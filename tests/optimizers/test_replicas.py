"""Clipping of the sum over replicas, averages for Keras' callback, and refusals."""

import keras
import numpy as np
import pytest

from tests.optimizers import toy
from tfcredit.optimizers import NoisyOptimizer, PartitionedOptimizer

SCRIPT = """
import keras, numpy as np, sys
from tests.optimizers import toy
from tfcredit.optimizers import NoisyOptimizer, PartitionedOptimizer, get

results = {}
for option, bound in (("clipnorm", 0.05), ("global_clipnorm", 0.05), ("clipvalue", 0.01)):
    def shells():
        parts = [keras.optimizers.SGD(0.1, **{option: bound}) for _ in range(2)]
        return NoisyOptimizer(PartitionedOptimizer(*parts), variance=0.0, seed=1)
    def inner():
        return PartitionedOptimizer(by_name("sgd"), by_name("rmsprop", epsilon=1.0))
    def by_name(name="sgd", **options):  # A small epsilon would enlarge what rounding makes of 0.
        return get(name, 0.1, **{option: bound}, **options)
    nadam = lambda: by_name("nadam", epsilon=1.0)
    more = {"clipnorm": by_name, "global_clipnorm": inner, "clipvalue": nadam}
    makers = {"shells": shells, "other": more[option]}
    for name, make in makers.items():
        alone = toy.weights(toy.fit(toy.model(make())))
        with strategy.scope():
            mirrored = toy.model(make())
        toy.fit(mirrored)
        for (path, value), other in zip(alone.items(), toy.weights(mirrored).values(), strict=True):
            key = f"{option}/{name}/{path}"
            results[f"{key}/one"], results[f"{key}/two"] = value, other
for option in ({"gradient_accumulation_steps": 2}, {"use_ema": True, "ema_overwrite_frequency": 2}):
    with strategy.scope():
        parts = PartitionedOptimizer(keras.optimizers.SGD(0.1, **option), "sgd")
        models = {"parts": toy.model(parts), "name": toy.model(get("adagrad", 0.1, **option))}
    for name, model in models.items():
        try:
            toy.fit(model)
        except Exception as error:
            results[f"refused/{name}/" + list(option)[-1]] = np.array(str(error))
np.savez(sys.argv[1], **results)
"""


@pytest.mark.multi_device
def test_two_replicas(two_cpus, tmp_path):
    two_cpus(SCRIPT, str(tmp_path / "results.npz"))
    results = np.load(tmp_path / "results.npz")
    cases = [key[:-4] for key in results if key.endswith("/one")]
    assert len(cases) == 3 * 2 * 6
    for key in cases:
        atol = 2e-6 if "/shells/" in key else 1e-5  # RMSprop and Nadam also divide
        np.testing.assert_allclose(results[key + "/two"], results[key + "/one"], atol=atol)
    for option in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        for name in ("parts", "name"):
            assert f"{option}=2 of the optimizer" in str(results[f"refused/{name}/{option}"])


@pytest.mark.parametrize("noisy", [False, True])
def test_keras_swaps_the_averages_of_all_parts(noisy):
    parts = [keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5) for _ in range(2)]
    optimizer = PartitionedOptimizer(*parts)
    assert optimizer.optimizers == parts
    optimizer = NoisyOptimizer(optimizer, seed=1) if noisy else optimizer
    model = toy.model(optimizer)
    swap = keras.callbacks.SwapEMAWeights()
    toy.fit(model, epochs=2, callbacks=[swap], validation_data=toy.data())
    trained = [w.numpy() for w in model.trainable_weights]
    averages = [v.numpy() for each in parts for v in each._model_variables_moving_average]
    assert sorted(a.sum() for a in averages) == pytest.approx(sorted(t.sum() for t in trained))
