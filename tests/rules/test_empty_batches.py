"""A replica without samples changes nothing: R is 0, and no number is NaN."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.descriptors import RULES, WITHOUT_B, layer

WITH_B = [rule for rule in RULES if rule not in WITHOUT_B]
OPTIONS = ["batch_center_backward_input", "center_input", "normalize_input", "update_forward"]
OPTIONS += ["normalize_forward_output", "batch_center_forward_output", "reconstruction_amp"]


def gradients(made, x, wrap):
    variables = [v.value for v in made.trainable_variables]

    @wrap
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(made(x, training=True) ** 2) + sum(made.losses)
        return total, *tape.gradient(total, [x, *variables], unconnected_gradients="zero")

    return run(x)


@pytest.mark.every(4)
@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize("rule", WITH_B)
def test_an_empty_batch(rule, known):
    made, x = layer("dense", rule)
    signature = [tf.TensorSpec([0 if known else None, *x.shape[1:]], x.dtype)]
    found = gradients(made, x[:0], tf.function(input_signature=signature))
    for value in (*found, *made.get_weights()):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("option", [*OPTIONS, "fraction"])
def test_an_empty_batch_under_every_option(option):
    value = 0.5 if option == "fraction" else True
    rule = f"info_alignment(inputs={{{option!r}: {value}}})"
    made, x = layer("dense", rule)
    for wrap in (lambda f: f, tf.function):
        for each in gradients(made, x[:0], wrap):
            assert np.isfinite(each).all()


def test_a_single_sample_teaches_a_phase_free_mirror_nothing():
    made, x = layer("dense", "phase_free_mirror")
    state = made.layer_state(x[:1], perturbed=True)
    state = dataclasses.replace(state, step=tf.constant(3))
    np.testing.assert_array_equal(made.rule.update(state), state.feedback_kernel)
