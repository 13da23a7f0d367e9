"""A layer's config, as Python and as JSON, makes an equal layer."""

import json

import keras
import pytest

from tests.conformance.descriptors import PAIRS, RULES, WITHOUT_B, feedback_layers, layer, network


@pytest.mark.parametrize("name, rule", PAIRS)
@pytest.mark.every(4)
def test_config_round_trip(name, rule):
    made, x = layer(name, rule)
    config = made.get_config()
    plain = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
    for again in (type(made).from_config(config), keras.saving.deserialize_keras_object(plain)):
        assert type(again) is type(made) and again.get_config() == config
        assert again.rule == made.rule and again.seed == made.seed
        if not again.built:  # the serialised layer builds itself
            again.build((None, *x.shape[1:]))
        shapes = [(weight.name, weight.shape, weight.trainable) for weight in made.weights]
        assert [(w.name, w.shape, w.trainable) for w in again.weights] == shapes
        if rule == "soft_alignment":  # at an angle to a kernel that the config does not have
            again.kernel.assign(made.kernel)
            again.renew_feedback_kernel()
        if made.feedback_kernel is not None:  # drawn from the seed of the config
            assert (again.feedback_kernel.numpy() == made.feedback_kernel.numpy()).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.every(6)
def test_model_through_json_and_clone(rule):
    model = network(rule)
    for again in (keras.models.model_from_json(model.to_json()), keras.models.clone_model(model)):
        pairs = zip(feedback_layers(again), feedback_layers(model), strict=True)
        assert all(one.rule == other.rule for one, other in pairs)
        again.set_weights(model.get_weights())


@pytest.mark.parametrize("name, rule", PAIRS)
@pytest.mark.every(4)
def test_feedback_kernel_is_one_variable_of_the_kernels_shape(name, rule):
    made, _ = layer(name, rule)
    own = [weight for weight in made.weights if weight.name == "feedback_kernel"]
    if rule in WITHOUT_B:
        assert made.feedback_kernel is None and not own
        return
    assert own == [made.feedback_kernel]
    assert made.feedback_kernel.shape == made.kernel.shape
    assert made.feedback_kernel.trainable == made.rule.learns
    assert (made.feedback_kernel.numpy() != made.kernel.numpy()).all()
