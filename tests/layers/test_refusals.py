"""What feedback layers refuse, and with which words."""

import keras
import pytest
import tensorflow as tf

from tfcredit import layers
from tfcredit.errors import UserError


def test_unknown_rule_names_the_closest():
    with pytest.raises(UserError, match="did you mean 'weight_mirror'"):
        layers.Dense(3, rule="wieght_mirror")


@pytest.mark.parametrize("rule", [None, 3, keras.layers.ReLU])
def test_other_things_are_no_rule(rule):
    with pytest.raises(UserError, match="is no rule"):
        layers.Conv2D(3, 3, rule=rule)


def built(rule):
    made = layers.Dense(8, rule=rule)
    made.build((None, 8))
    return made


def test_lora_is_refused():
    with pytest.raises(UserError, match="LoRA"):
        built("info_alignment").enable_lora(2)
    with pytest.raises(UserError, match="LoRA"):
        layers.Dense(8, rule="info_alignment", lora_rank=2)
    with pytest.raises(UserError, match="LoRA"):
        layers.Conv2D(8, 3, rule="info_alignment", lora_rank=2)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
def test_quantisation_is_refused():
    with pytest.raises(UserError, match="quantisation"):
        built("info_alignment").quantize("int8")
    with pytest.raises(UserError, match="quantisation"):
        layers.Dense(8, rule="info_alignment", dtype="int8_from_float32")
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, rule="feedback_alignment")])
    with pytest.raises(UserError, match="quantisation"):
        model.quantize("int8")


def test_backprop_takes_what_keras_takes():
    made = built("backprop")
    made.enable_lora(2)
    assert made.lora_enabled
    layers.Dense(8, rule="backprop", dtype="int8_from_float32").build((None, 8))


def of_unknown_sizes(rule):
    """A network without sizes of images, and one step of its training."""
    model = keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(3, 3, rule=rule)])
    assert model(tf.ones((1, 5, 6, 2))).shape == (1, 3, 4, 3)
    model.compile("sgd", "mse")
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([(tf.ones((1, 5, 6, 2)), tf.ones((1, 3, 4, 3)))]),
        output_signature=(
            tf.TensorSpec((None, None, None, 2)),
            tf.TensorSpec((None, None, None, 3)),
        ),
    )
    return model, lambda: model.fit(dataset.repeat(), steps_per_epoch=1, shuffle=False, verbose=0)


def test_the_phase_free_mirror_needs_known_sizes_only_to_train():
    _, step = of_unknown_sizes("phase_free_mirror")
    with pytest.raises(UserError, match="full input shape"):
        step()


@pytest.mark.parametrize("rule", ["calibrated_mirror", "calibrated_activation"])
def test_calibrated_rules_train_at_unknown_sizes(rule):
    model, step = of_unknown_sizes(rule)
    before = model.layers[-1].feedback_kernel.numpy()
    step()
    assert (model.layers[-1].feedback_kernel.numpy() != before).mean() > 0.9


@pytest.mark.parametrize("seed", ["a", None])
def test_seed_is_an_integer(seed):
    if seed is None:
        assert isinstance(layers.Dense(3, seed=None).seed, int)
        return
    with pytest.raises(ValueError):
        layers.Dense(3, seed=seed)
