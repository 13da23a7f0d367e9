"""What was saved goes on elsewhere as if it had not been: same outputs, same training."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import (
    QUICK,
    RULES,
    assert_close,
    compile_network,
    data,
    network,
    state,
    train,
)
from tests.conftest import ROOT
from tfcredit import layers

CONTINUE = """
import sys
import keras, numpy as np
import tfcredit.layers
from tests.conformance.descriptors import data, state, train
folder = sys.argv[1]
for rule in sys.argv[2:]:
    model = keras.models.load_model(f"{folder}/{rule}.keras")
    outputs = model.predict(data(1)[0], verbose=0)
    train(model, 2, first=2)
    np.savez(f"{folder}/{rule}.npz", outputs, *state(model))
"""

SERVE = """
import sys
import numpy as np, tensorflow as tf
x = np.load(sys.argv[1] + "/x.npy")
for rule in sys.argv[2:]:
    loaded = tf.saved_model.load(f"{sys.argv[1]}/{rule}")
    np.save(f"{sys.argv[1]}/{rule}_served.npy", loaded.serve(x))
assert not any(name.startswith("tfcredit") for name in sys.modules)
"""


def elsewhere(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [QUICK, [rule for rule in RULES if rule not in QUICK]], ids=["first", "others"]
)
def test_saved_models_go_on_in_another_process(names, tmp_path):
    """A `.keras` file gives the same outputs and training, a SavedModel without the package too.

    Two processes for all rules: to start one takes longer than the rest.
    """
    expected, x = {}, data(1)[0]
    np.save(tmp_path / "x.npy", x)
    for rule in names:
        model = compile_network(network(rule), keras.optimizers.Adam(0.01))
        train(model, 2)
        model.save(tmp_path / f"{rule}.keras")
        model.export(tmp_path / rule, verbose=False)
        outputs = model.predict(x, verbose=0)
        train(model, 2, first=2)
        expected[rule] = [outputs, *state(model)]
    elsewhere(CONTINUE, str(tmp_path), *names)
    elsewhere(SERVE, str(tmp_path), *names)
    for rule in names:
        served = np.load(tmp_path / f"{rule}_served.npy")
        np.testing.assert_allclose(served, expected[rule][0], rtol=1e-5, atol=1e-6, err_msg=rule)
        with np.load(tmp_path / f"{rule}.npz") as found:
            continued = [found[name] for name in found.files]
        assert len(continued) == len(expected[rule])
        for mine, theirs in zip(continued, expected[rule], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=rule)


@pytest.mark.every(4)
@pytest.mark.parametrize("rule", RULES)
def test_weights_file(rule, tmp_path):
    model, other = network(rule), network(rule, seed=2)
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(variable + tf.cast(1, variable.dtype))
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_close(other.get_weights(), model.get_weights())


@pytest.mark.parametrize(
    "saved_rule, loaded_rule",
    [
        ("info_alignment", "backprop"),
        ("backprop", "info_alignment"),
        ("info_alignment", "calibrated_mirror"),
        ("calibrated_mirror", "feedback_alignment"),
    ],
)
def test_weights_of_another_rule_are_refused(saved_rule, loaded_rule, tmp_path):
    network(saved_rule).save_weights(tmp_path / "model.weights.h5")
    model = network(loaded_rule)
    before = model.get_weights()
    with pytest.raises(ValueError, match="saved from a layer with another rule"):
        model.load_weights(tmp_path / "model.weights.h5")
    assert_close(model.get_weights(), before)


def test_backprop_exchanges_weights_with_keras_layers(tmp_path):
    mine, theirs = (
        keras.Sequential([keras.Input((5,)), module.Dense(4), module.Dense(2)])
        for module in (layers, keras.layers)
    )
    for source, target in [(mine, theirs), (theirs, mine)]:
        source.set_weights([weight + 1 for weight in source.get_weights()])
        source.save_weights(tmp_path / "model.weights.h5")
        target.load_weights(tmp_path / "model.weights.h5")
        assert_close(target.get_weights(), source.get_weights())
