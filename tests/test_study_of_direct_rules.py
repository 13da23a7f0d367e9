"""The study of direct rules: products of W, angles, a table."""

import numpy as np
import pytest

from studies import direct_rules as study
from studies.table import as_text
from tfcredit import models, rules


def test_products_are_what_backprop_sends_through_linear_layers():
    rule = "direct_kolen_pollack"
    model = models.get("conv", 10, (8, 8, 1), rule, seed=0, activation="linear")
    products = study.products(model)
    assert len(products) == len(study.angles(model)) == 3
    np.testing.assert_allclose(products[-1], model.get_layer("dense").kernel.numpy().T, rtol=1e-6)
    one = np.zeros((1, 8, 8, 32), "float32")
    for pixel, channel in ((9, 3), (35, 30)):
        one.reshape(64, 32)[pixel, channel] = 1.0
        x = one
        for name in ("conv1", "conv2", "flatten", "dense"):
            layer = model.get_layer(name)
            x = layer(x) - layer(0 * x)
        expected = products[0].numpy().reshape(10, 64, 32)[:, pixel, channel]
        np.testing.assert_allclose(x[0], expected, rtol=1e-4, atol=1e-6)
        one[...] = 0.0


def test_angles_are_zero_where_b_is_the_product():
    model = models.get("fc", 10, (4, 4, 1), "drtp", seed=0, widths=8)
    assert min(study.angles(model)) > 30
    for kernel, product in zip(
        model.layers[-1].feedback_kernels, study.products(model), strict=True
    ):
        kernel.assign(product)
    assert max(study.angles(model)) < 0.1


@pytest.mark.slow
def test_rows_and_a_table():
    rows = []
    for rule in ("backprop", "direct_kolen_pollack(decay=0.02)"):
        case = {"network": "fc", "rule": rule, "seed": 0, "steps": 4}
        rows += map(as_text, study.measure(case))
    told = study.table(rows)
    assert (
        "| `fc` | `direct_kolen_pollack(decay=0.02)` |" in told
        and len(rows[1]["angles"].split()) == 3
    )
    assert all(rules.get(rule) for rule in study.RULES)
