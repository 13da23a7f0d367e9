"""Every rule with every option, against R and its gradients in the authors' own code."""

import keras
import pytest
import tensorflow as tf

from tests.golden_data import arrays, assert_golden, description, our_rule
from tfcredit.connections import ConvConnection, DenseConnection
from tfcredit.rules import AlignmentInputs, LayerState


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", sorted(description("rules")))
def test_rule_equals_the_authors(case, dtype):
    to_scale = dtype == "float32"
    entry = description("rules")[case]
    golden = {
        name: arrays("rules")[f"{case}/{name}"].astype(dtype)
        for name in ("x", "W", "B", "bias", "loss", "dB", "dW")
    }
    dense = entry["layer_type"] == "fc"
    options = dict(entry["options"])
    use_sparse = options.pop("use_sparse", False)
    update_forward = case.endswith("update_forward=1")
    inputs = {
        "activation" if name == "activation_fn_override" else name: value
        for name, value in options.items()
    }
    if update_forward:
        inputs["update_forward"] = True
    rule = our_rule(entry["rule"], entry["coefficients"], inputs, use_sparse)
    connection = DenseConnection() if dense else ConvConnection(padding="same")
    x, w = tf.constant(golden["x"]), tf.constant(golden["W"])
    b = tf.constant(golden["B"].T if dense else golden["B"])
    with tf.GradientTape() as tape:
        tape.watch([w, b])
        state = LayerState(
            connection=connection,
            x=x,
            y=tf.stop_gradient(connection.op(x, w)),
            kernel=w,
            feedback_kernel=b,
            bias=tf.constant(golden["bias"]),
            activation=keras.activations.linear,
            seed=0,
            step=None,
            y_is_product=True,
        )
        loss = rule.loss(state)
    if loss is None:
        assert golden["loss"] == 0 and not golden["dB"].any() and not golden["dW"].any()
        return
    dw, db = tape.gradient(loss, [w, b])
    expected = golden["dB"].T if dense else golden["dB"]
    assert_golden(db, expected, to_scale)
    if update_forward:
        assert_golden(dw, golden["dW"], to_scale)
    else:
        assert dw is None and not golden["dW"].any()
        # The authors report R with the forward kernel's terms, which then act on nothing.
        rule.inputs = AlignmentInputs(**inputs, update_forward=True)
        loss = rule.loss(state)
    assert_golden(loss, golden["loss"], to_scale)
