"""The gradients of a step: taken in two calls, R's and L2's behind the errors'."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import layers, rules
from tfcredit.schedules import TaskRate
from tfcredit.training.trainer import Trainer

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
LABELS = np.arange(8) % 3


class Hebb(rules.Rule):
    """Learns from the error that reaches its layer."""

    def gradient(self, state, dy, dw):
        return tf.matmul(state.x, tf.tanh(dy), transpose_a=True)


def trainer(optimizer, rate=None):
    keras.utils.set_random_seed(3)
    options = {"activation": "tanh", "kernel_regularizer": keras.regularizers.L2(0.01)}
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, rule=Hebb(), seed=1, **options),
            layers.Dense(5, rule="info_alignment", seed=2, **options),
            layers.Dense(4, rule="kolen_pollack", seed=3, **options),
            layers.Dense(3, rule="backprop", kernel_regularizer=keras.regularizers.L1(0.01)),
        ]
    )
    model.compile(optimizer)
    return Trainer(model, rate)


@pytest.mark.parametrize("rate", [None, TaskRate(0.3)])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_takes_the_gradient_of_the_whole_objective(scaled, rate):
    sgd = keras.optimizers.SGD(1.0)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=64.0) if scaled else sgd
    made = trainer(optimizer, rate)
    variables = made.network.trainable_variables
    with tf.GradientTape() as tape:
        loss = made.objective(tf.constant(X), tf.constant(LABELS))["loss"]
    expected = [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
    before = [variable.numpy() for variable in variables]
    batches = tf.data.Dataset.from_tensors((X, LABELS)).repeat()
    assert made.run(iter(batches), 1)[0] == 1
    for variable, old, gradient in zip(variables, before, expected, strict=True):
        assert np.abs(gradient).max() > 0, variable.path
        np.testing.assert_allclose(
            old - variable.numpy(), gradient, rtol=1e-4, atol=1e-6, err_msg=variable.path
        )


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_traced_without_autograph(translated, steps):
    made = trainer(keras.optimizers.SGD(0.1))
    batches = tf.data.Dataset.from_tensors((X, LABELS)).repeat()
    assert made.run(iter(batches), steps)[0] == steps
    made.evaluate(tf.data.Dataset.from_tensors((X, LABELS, np.ones(8, "float32"))))
    assert translated == []


def test_an_evaluation_changes_no_variable():
    """Recurrent layers draw masks of dropout, which they throw away."""
    recurrent = keras.layers.LSTM(4, dropout=0.5)
    model = keras.Sequential([keras.Input((3, 2)), recurrent, layers.Dense(3, rule="brsf")])
    model.compile("sgd")
    made = Trainer(model)
    variables = [*model.variables, recurrent.cell.seed_generator.state]
    before = [variable.numpy() for variable in variables]
    x = X.reshape(8, 3, 2)
    made.evaluate(tf.data.Dataset.from_tensors((x, LABELS, np.ones(8, "float32"))))
    for variable, old in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_the_step_that_is_not_finite_is_counted_within_many():
    made = trainer(keras.optimizers.SGD(0.1))
    images = np.stack([X, X, np.full_like(X, np.nan), X])
    batches = tf.data.Dataset.from_tensor_slices((images, np.stack([LABELS] * 4)))
    assert made.run(iter(batches), 4)[0] == 2


def test_gradients_that_need_no_error_wait_for_those_that_do():
    made = trainer(keras.optimizers.SGD(1.0))
    first, second = made.network.layers[:2]
    places = {v.path: i for i, v in enumerate(made.network.trainable_variables)}

    @tf.function
    def differentiate():
        return made._differentiate(tf.constant(X), tf.constant(LABELS), True)[1]

    gradients = differentiate.get_concrete_function().outputs
    # What the topmost layer's L2 and the second layer's R give stands behind the first layer's dW.
    last = gradients[places[first.kernel.path]].op
    errors = {op.name for op in _behind(last) if "MatMul" in op.type}
    for variable in (made.network.layers[-1].kernel, second.feedback_kernel):
        assert errors <= {op.name for op in _behind(gradients[places[variable.path]].op)}


def test_a_product_of_r_waits_where_its_factors_are_smaller():
    """Else R keeps from the forward pass on what is as large as the kernel."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, rule="backprop"),
            layers.Dense(16, rule="info_alignment", seed=2),
            layers.Dense(3, rule="backprop"),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0))
    made = Trainer(model)

    @tf.function
    def differentiate():
        return made._differentiate(tf.constant(X[:2]), tf.constant(LABELS[:2]), True)[1]

    *kernels, of_b = _by_kernel(differentiate.get_concrete_function().outputs, model)
    errors = {op.name for kernel in kernels for op in _behind(kernel.op) if "MatMul" in op.type}
    alone = [op for op in _behind(of_b.op) if op.type == "MatMul" and op.name not in errors]
    (product,) = (op for op in alone if op.outputs[0].shape == (16, 16))
    assert errors <= {op.name for op in _behind(product)}


def _by_kernel(gradients, model):
    """The gradients of all kernels, and behind them that of the one B."""
    named = dict(zip((v.path for v in model.trainable_variables), gradients, strict=True))
    ends = sorted(path for path in named if path.endswith("/kernel"))
    return [named[path] for path in ends] + [named[model.layers[1].feedback_kernel.path]]


def _behind(op):
    """All ops that run before this one."""
    found, todo = set(), [op]
    while todo:
        each = todo.pop()
        if each not in found:
            found.add(each)
            todo += [tensor.op for tensor in each.inputs] + list(each.control_inputs)
    return found


def test_label_smoothing_is_that_of_keras():
    made = trainer(keras.optimizers.SGD(1.0))
    smooth = Trainer(made.network, label_smoothing=0.2)
    terms = smooth.objective(tf.constant(X), tf.constant(LABELS))
    spread = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    expected = spread(keras.ops.one_hot(LABELS, 3), terms["logits"])
    assert float(terms["task"]) == pytest.approx(float(expected), rel=1e-5)
    plain = made.objective(tf.constant(X), tf.constant(LABELS))["task"]
    assert abs(float(plain) - float(expected)) > 1e-4
    # Results are of the labels as they are.
    batch = [(tf.constant(X), tf.constant(LABELS), tf.ones([8]))]
    assert smooth.evaluate(batch)["loss"] == pytest.approx(made.evaluate(batch)["loss"])


OVERFLOWS = """
import sys
import keras, numpy as np, tensorflow as tf
from tfcredit import layers
from tfcredit.training.trainer import Trainer

results = {}
for place in (0, 1):
    for accumulation in (1, 2):
        images = np.ones((8, 4), "float32")
        images[4 * place : 4 * place + 4] = 1e35  # times the loss scale it is beyond float32
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), layers.Dense(3, seed=1)])
            model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
            made = Trainer(model, strategy=strategy, accumulation_steps=accumulation)
        before = model.layers[0].kernel.numpy()
        batches = tf.data.Dataset.from_tensors((images, np.arange(8) % 3)).repeat()
        made.run(iter(strategy.experimental_distribute_dataset(batches)), 1)
        after = model.layers[0].kernel.numpy()
        results[f"{place} {accumulation}"] = [
            np.array_equal(before, after), made.loss_scale == 2.0**14, made.skipped(1) == 1]
np.savez(sys.argv[1], **results)
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_an_overflow_on_any_replica_skips_the_step_on_all(two_cpus, tmp_path):
    two_cpus(OVERFLOWS, str(tmp_path / "results.npz"))
    results = np.load(tmp_path / "results.npz")
    assert len(results.files) == 4
    for case in results.files:
        unchanged, halved, counted = results[case]
        assert unchanged and halved and counted, case
