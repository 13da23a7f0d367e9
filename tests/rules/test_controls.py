"""Controls: kernels that never learn, and kernels that are copied now and then."""

import keras
import numpy as np
import pytest

from tests.conformance.descriptors import LAYERS, compile_network, feedback_layers, network, train
from tfcredit import analysis, convert, layers, models, rules
from tfcredit.errors import UserError

L = keras.layers


@pytest.mark.parametrize("name", LAYERS)
def test_a_frozen_layer_has_nothing_to_train(name):
    make, shape = LAYERS[name]
    made = make(rule="frozen", seed=1)
    made.build((None, *shape))
    assert made.trainable and not made.trainable_variables
    made.trainable = True  # as a user thaws what was frozen for fine-tuning
    assert not made.trainable_variables and made.kernel is not None
    assert made.feedback_kernel is None


def values(model):
    return {v.path: v.numpy() for v in model.weights}


def moved(before, after):
    return {path.split("/")[-2] for path in before if (before[path] != after[path]).any()}


def plain_net():
    made = [L.Conv2D(4, 3), L.BatchNormalization(), L.SeparableConv2D(4, 3), L.Flatten()]
    top = [L.Dense(3, name="top"), L.Activation("linear", name="end")]
    return keras.Sequential([keras.Input((6, 6, 2)), *made, *top], name="plain")


def test_the_layer_at_the_output_learns_all_the_same():
    model = convert.to_feedback(plain_net(), "frozen", seed=1)
    told = {record["layer"]: record["rule"] for record in convert.report(model)}
    assert told.pop("top") == "backprop" and set(told.values()) == {"frozen"}
    compile_network(model, keras.optimizers.AdamW(0.1, weight_decay=0.1))
    before = values(model)
    train(model, 2)
    assert moved(before, values(model)) == {"batch_normalization", "top"}
    back = convert.to_backprop(model)
    assert len(back.trainable_variables) == len(plain_net().trainable_variables)


def test_the_path_to_the_output_may_branch_or_be_nested():
    inputs = keras.Input((4,))
    h = layers.Dense(4, rule="frozen", name="low")(inputs)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2, rule="frozen", name="in")])
    outputs = [L.Softmax()(layers.Dense(3, rule="frozen", name="side")(h)), inner(h)]
    model = models.wire(keras.Model(inputs, outputs))
    made = {each.name: each for each in feedback_layers(model)} | {"in": inner.layers[-1]}
    assert {name: each.rule.name for name, each in made.items()} == {
        "low": "frozen",
        "side": "backprop",
        "in": "backprop",
    }
    assert len(model.trainable_variables) == 4
    model.trainable = False
    model.trainable = True
    assert len(model.trainable_variables) == 4


def test_errors_pass_a_frozen_layer_as_in_backprop():
    """What is below it gets the gradient that it would get with W trained."""
    found = []
    for rule in ("backprop", "frozen"):
        model = models.get(
            "fc", 3, (6,), {"dense1": rule, ".*": "backprop"}, seed=2, widths=5, depth=2
        )
        compile_network(model, keras.optimizers.SGD(0.1))
        x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
        model.train_on_batch(x, np.arange(8) % 3)
        found.append({name: model.get_layer(name).kernel.numpy() for name in ("dense0", "dense1")})
    np.testing.assert_allclose(found[1]["dense0"], found[0]["dense0"], rtol=1e-6)
    assert (found[1]["dense1"] != found[0]["dense1"]).any()


def test_it_is_saved_and_loaded(tmp_path):
    model = compile_network(network("frozen"))
    train(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    rules_of = [[each.rule.name for each in feedback_layers(m)] for m in (model, loaded)]
    assert rules_of[0] == rules_of[1] == ["frozen"] * 3 + ["backprop"]
    assert train(model, 2, first=1) == train(loaded, 2, first=1)
    assert len(loaded.trainable_variables) == 2


def transported(rule, steps):
    """Which weights of the dense layer B holds of now, after each step."""
    model = compile_network(network(rule), keras.optimizers.SGD(0.05))
    layer = feedback_layers(model)[2]
    found, kernels = [], []
    for step in range(steps):
        kernels.append(layer.kernel.numpy())
        train(model, 1, first=step)
        found.append(layer.feedback_kernel.numpy())
    return found, kernels


def test_all_of_w_is_copied_every_so_many_steps():
    found, kernels = transported("frozen_backprop(every=3)", 7)
    for step, b in enumerate(found):
        np.testing.assert_array_equal(b, kernels[step - step % 3])
    assert (kernels[3] != kernels[0]).all()


@pytest.mark.parametrize("fraction, turns", [(0.5, 2), (0.3, 4)])
def test_a_part_of_w_is_copied_by_turns(fraction, turns):
    found, kernels = transported(f"frozen_backprop(every=2, fraction={fraction})", 2 * turns + 2)
    np.testing.assert_array_equal(found[0], kernels[0])  # the first copies all
    seen = np.zeros(kernels[0].shape)
    for step in range(1, len(found)):
        new = found[step] != found[step - 1]
        if step % 2:
            assert not new.any()
            continue
        np.testing.assert_array_equal(found[step][new], kernels[step][new])
        assert abs(new.mean() - fraction) < 0.15
        seen += new
    assert seen.min() >= 1  # each weight had its turn
    assert seen.mean() == pytest.approx(fraction * turns, rel=0.1)


def test_every_step_is_backprop():
    losses = []
    for rule in ("frozen_backprop(every=1)", "backprop"):
        model = compile_network(network(rule), keras.optimizers.SGD(0.05))
        losses.append(train(model, 4))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_transports_per_weight():
    assert rules.FrozenBackprop(every=1).transports_per_weight(10) == 10
    rule = rules.FrozenBackprop(every=4, fraction=0.25)
    assert [rule.transports_per_weight(n) for n in (0, 1, 4, 5, 9)] == [0, 1, 1, 1.25, 1.5]


def test_angles_fall_to_zero_when_it_copies():
    model = compile_network(network("frozen_backprop(every=2)"), keras.optimizers.SGD(0.0))
    train(model, 1)
    assert all(record["angle"] < 1e-3 for record in analysis.alignment(model))


MISTAKES = {
    "every=0": "every=0 must be an integer >= 1",
    "every=2.5": "every=2.5 must be an integer",
    "every=True": "every=True must be an integer",
    "fraction=0": "fraction=0 must be a positive finite number",
    "fraction=1.5": "fraction=1.5 must be a positive finite number at most 1",
    "fraction=float": "can't be read",
    "each=3": "does not take these arguments",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_told(arguments):
    with pytest.raises(UserError, match=MISTAKES[arguments]):
        rules.get(f"frozen_backprop({arguments})")
