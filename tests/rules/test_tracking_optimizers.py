"""Every optimizer keeps B beside W under tracking rules."""

import keras
import numpy as np
import pytest

from tfcredit import layers, models, optimizers
from tfcredit.analysis import angle
from tfcredit.errors import UserError
from tfcredit.training.recipe import Recipe
from tfcredit.training.rule_flags import rule_of

RATES = {"adadelta": 1.0, "adagrad": 0.05, "adafactor": 0.02, "ftrl": 0.5, "lamb": 0.02}
RATES |= {"lion": 2e-3, "muon": 0.02, "sgd": 0.05, "momentum": 0.05}
# It pulls B back to the copy that it took before the alignment.
REFUSED = {"schedulefreeadamw"}
OPTIONS = {
    "weight_decay": {"weight_decay": 1.0},
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "averages": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 5},
    "accumulation": {"gradient_accumulation_steps": 3},
}
CASES = {name: (name, {}) for name in optimizers.names() if name not in REFUSED}
CASES |= {name: ("adam", options) for name, options in OPTIONS.items()}


def network(rule, l2=1e-3):
    keras.utils.set_random_seed(1)
    options = {"rule": rule, "kernel_regularizer": keras.regularizers.L2(l2)}
    dense = [layers.Dense(24, "tanh", seed=1, **options), layers.Dense(4, seed=2, **options)]
    return models.wire(keras.Sequential([keras.Input((16,)), *dense]))


def trained(model, optimizer, steps=40, **options):
    """The angles after the first step, and after the last one."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 16)).astype("float32")
    x[:, 8:] = 0  # Weights that the task does not move: only their regularizer does.
    y = (x[:, 0] > 0) + 2 * (x[:, 1] > 0)
    angles = []
    for count in (1, steps - 1):
        for _ in range(count):
            model.train_on_batch(x, y)
        angles.append([angle(each.kernel, each.feedback_kernel) for each in model.layers])
    return np.array(angles)


@pytest.mark.every(24)
@pytest.mark.parametrize("case", CASES)
def test_the_angle_stays_where_it_was_asked_for(case):
    name, options = CASES[case]
    model = network("tracking_mirror(angle=5)")
    before = [each.kernel.numpy() for each in model.layers]
    optimizer = optimizers.get(name, RATES.get(name, 5e-3), **options)
    first, last = trained(model, optimizer)
    assert (first < 6).all() and (last < 1.1 * first).all(), (first, last)
    for layer, then in zip(model.layers, before, strict=True):
        assert np.abs(layer.kernel.numpy() - then).max() > 0.01


@pytest.mark.slow
def test_a_loss_scale_and_xla_keep_the_angle():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Muon(0.02))
    first, last = trained(network("tracking_mirror(angle=5)"), optimizer, jit_compile=True)
    assert (last < 1.1 * first).all(), (first, last)


@pytest.mark.parametrize("decay", [keras.regularizers.L2(0.1), keras.regularizers.L1(0.1)])
def test_b_decays_as_w_does(decay):
    """Of a layer whose input is 0 W and B get nothing but their decay, and it costs nothing."""
    layer = layers.Dense(4, rule="tracking_mirror(angle=5)", seed=1, kernel_regularizer=decay)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x, y = np.zeros((8, 6), "float32"), np.zeros((8, 4), "float32")
    expected, measured = float(decay(layer.kernel)), model.train_on_batch(x, y)
    assert measured == pytest.approx(expected, rel=1e-5)
    w, b = layer.kernel.numpy(), layer.feedback_kernel.numpy()
    model.train_on_batch(x, y)
    for kernel, then in ((layer.kernel, w), (layer.feedback_kernel, b)):
        step = 0.2 * then if type(decay) is keras.regularizers.L2 else 0.1 * np.sign(then)
        np.testing.assert_allclose(kernel, then - 0.01 * step, rtol=0, atol=1e-6)
    layer.kernel.trainable = False
    model.compile(keras.optimizers.SGD(0.01), "mse")
    b = layer.feedback_kernel.numpy()
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(layer.feedback_kernel, b)


@pytest.mark.parametrize("rule", ["tracking_mirror", "a: backprop; b: tracking_activation"])
def test_an_optimizer_that_undoes_the_alignment_is_refused(rule):
    with pytest.raises(UserError, match="ScheduleFreeAdamW and --rule=.*such as adamw"):
        rule_of(Recipe(rule=rule, optimizer="ScheduleFreeAdamW"))
    rule_of(Recipe(rule="kolen_pollack", optimizer="schedulefreeadamw"))
