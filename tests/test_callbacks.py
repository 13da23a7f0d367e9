"""The callbacks under plain `model.fit`."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfcredit import analysis, layers, optimizers
from tfcredit.callbacks import AlignmentMonitor, EpochTable

X = np.random.RandomState(0).normal(size=(32, 6, 6, 2)).astype("float32")
Y = np.arange(32) % 3


def network(rule):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, rule=rule, name="conv"),
            keras.layers.Flatten(),
            layers.Dense(3, rule=rule, name="dense"),
        ]
    )
    optimizer = optimizers.PartitionedOptimizer(forward="sgd", feedback="adam")
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def scalars(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_the_monitor_writes_angles_and_r(tmp_path):
    model = network("info_alignment")
    monitor = AlignmentMonitor(tmp_path, probe=X[:8])
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[monitor])
    written = scalars(tmp_path)
    kinds = ("angle", "norm_ratio", "R", "amp", "null", "decay")
    assert set(written) == {"angle/mean"} | {f"{k}/{n}" for k in kinds for n in ("conv", "dense")}
    assert [step for step, _ in written["angle/mean"]] == [0, 2, 4]
    now = {record["layer"]: record for record in analysis.alignment(model)}
    assert written["angle/conv"][-1][1] == pytest.approx(now["conv"]["angle"], rel=1e-5)
    rule = model.get_layer("dense").rule
    parts = sum(c * written[f"{name}/dense"][-1][1] for name, c in rule.coefficients.items())
    assert written["R/dense"][-1][1] == pytest.approx(parts, rel=1e-4)


def test_the_monitor_leaves_training_as_it_is(tmp_path):
    kernels = []
    for callbacks in ([], [AlignmentMonitor(tmp_path, probe=X[:8], histograms=True)]):
        keras.utils.set_random_seed(1)
        model = network("calibrated_mirror")
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=callbacks, shuffle=False)
        kernels.append([np.array(w) for w in model.weights])
    for without, with_monitor in zip(*kernels, strict=True):
        np.testing.assert_allclose(without, with_monitor, rtol=1e-6, atol=1e-7)


def test_the_monitor_is_silent_for_backprop(tmp_path):
    model = network("backprop")
    model.fit(X, Y, verbose=0, callbacks=[AlignmentMonitor(tmp_path, probe=X[:8])])
    assert scalars(tmp_path) == {}


def test_the_epoch_table_keeps_earlier_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    model = network("symmetric_alignment")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[EpochTable(path, None, ["epoch", "loss"])])
    table = EpochTable(path, tmp_path, ["epoch", "loss"])
    model.fit(X, Y, initial_epoch=1, epochs=3, verbose=0, callbacks=[table])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0])[:2] == ["epoch", "loss"]
    assert float(rows[2]["loss"]) == pytest.approx(scalars(tmp_path)["train/loss"][-1][1])
