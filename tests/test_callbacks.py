"""The callbacks under plain `model.fit`."""

import csv
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfcredit import analysis, layers, optimizers
from tfcredit.callbacks import AlignmentMonitor, EpochTable, MeasureMonitor, SkippedSteps
from tfcredit.callbacks.steps import EVENTS
from tfcredit.errors import UserError

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
        if not tag.endswith("heat_map")
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


KERNELS = {"angle", "norm_ratio", "sign_agreement"}
ERRORS = {"projection_angle", "local_error_angle", "error_angle", "gradient_angle"}
ERRORS |= {"error_norm_ratio", "gradient_norm_ratio"}
ERRORS |= {"error_reference_norm", "gradient_reference_norm"}


def test_measures_every_few_steps(tmp_path):
    model = network("info_alignment")
    monitor = MeasureMonitor(X[:8], Y[:8], tmp_path, every=3)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor])
    written = scalars(tmp_path)
    names = {"conv", "dense", "mean"}
    assert set(written) == {f"{k}/{n}" for k in KERNELS | ERRORS for n in names}
    steps = [step for step, _ in written["error_angle/conv"]]
    assert steps == [0, 3, 6, 8]
    assert sorted({record["step"] for record in monitor.records}) == steps
    last = {r["layer"]: r for r in monitor.records if r["step"] == 8 and "error_angle" in r}
    assert written["error_angle/conv"][-1][1] == pytest.approx(last["conv"]["error_angle"])
    assert last["dense"]["error_angle"] == 0.0 and last["conv"]["error_angle"] > 1.0
    now = analysis.ErrorAngles(X[:8], Y[:8])(model)
    assert now[0]["error_angle"] == pytest.approx(last["conv"]["error_angle"], rel=1e-4)


def test_means_leave_out_what_is_below_its_floor(tmp_path):
    def measure(model):
        known = {"rule": "backprop", "error_angle": 10.0, "error_reference_norm": 1.0}
        unknown = {"rule": "backprop", "error_angle": 90.0, "error_reference_norm": 0.0}
        return [
            {"layer": "conv", **known, "error_below_floor": 0},
            {"layer": "dense", **unknown, "error_below_floor": 1},
        ]

    monitor = MeasureMonitor(X[:8], Y[:8], tmp_path, every="epoch", measures=[measure])
    network("backprop").fit(X, Y, verbose=0, callbacks=[monitor])
    written = {tag: values[-1][1] for tag, values in scalars(tmp_path).items()}
    assert written["error_angle/mean"] == 10.0 and written["error_angle/dense"] == 90.0
    assert written["error_reference_norm/mean"] == 0.5
    assert [r["error_below_floor"] for r in monitor.records[-2:]] == [0, 1]


def test_the_table_goes_on_where_the_run_does(tmp_path):
    """As after a kill at step 5, of a run that goes on from its checkpoint at step 4."""

    def fit(steps):
        monitor = MeasureMonitor(X[:8], Y[:8], every=3, table=tmp_path / "table.csv")
        model.fit(X, Y, batch_size=32, epochs=steps, verbose=0, callbacks=[monitor])
        records = analysis.read_csv(tmp_path / "table.csv")
        assert records == monitor.records
        return records

    model = network("info_alignment")
    before = fit(5)
    assert [record["step"] for record in before] == [0] * 4 + [3] * 4 + [5] * 4
    model.optimizer.iterations.assign(4)
    after = fit(4)
    assert [record["step"] for record in after] == [0] * 4 + [3] * 4 + [6] * 4 + [8] * 4
    assert after[:8] == before[:8]
    now = {record["layer"]: record["angle"] for record in analysis.alignment(model)}
    assert {r["layer"]: r["angle"] for r in after[-4:] if "angle" in r} == now


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("step,layer\nmany,conv\n")
    monitor = MeasureMonitor(X[:8], Y[:8], table=table)
    with pytest.raises(UserError, match="can't be read as a table of records"):
        network("info_alignment").fit(X, Y, verbose=0, callbacks=[monitor])


def test_heat_maps_are_images(tmp_path):
    pytest.importorskip("matplotlib", reason="an extra, `plots`")
    model = network("feedback_alignment")
    monitor = MeasureMonitor(X, Y, tmp_path, measures=[analysis.alignment])
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[monitor])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    drawn = events.Tensors("angle/heat_map")
    assert [event.step for event in drawn] == [8]
    width, height, png = tf.make_ndarray(drawn[-1].tensor_proto)
    assert tf.io.decode_png(png).shape == (int(height), int(width), 3)


def test_measures_of_an_epoch_and_without_feedback_kernels(tmp_path):
    model = network("backprop")
    monitor = MeasureMonitor(X, Y, every="epoch")
    model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=[monitor])
    assert [record["step"] for record in monitor.records] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert all(record["error_angle"] == 0.0 for record in monitor.records)


def test_any_measures_and_several_steps_in_one_execution(tmp_path):
    model = network("brsf")
    model.compile("sgd", model.loss, steps_per_execution=2)
    spectra, observables = analysis.spectra, analysis.Observables(X[:4])
    ranks = analysis.ErrorSpectra(X[:4], Y[:4])
    measures = [spectra, observables, lambda model: analysis.effective_ranks(ranks(model))]
    monitor = MeasureMonitor(X, Y, tmp_path, every=2, measures=measures)
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0, callbacks=[monitor])
    assert sorted({record["step"] for record in monitor.records}) == [0, 2, 4]
    written = scalars(tmp_path)
    assert "actraw_mean/conv" in written and "rank_error/dense" in written
    assert not any(tag.startswith("singular_value") for tag in written)
    assert {record["matrix"] for record in monitor.records if "index" in record} == {
        "W",
        "B",
        "WtB",
    }


@pytest.mark.parametrize("rule", ["calibrated_mirror", "kolen_pollack"])
def test_measuring_leaves_training_as_it_is(tmp_path, rule):
    kernels = []
    for callback in (MeasureMonitor(X[:8], Y[:8], every=1), EpochTable(tmp_path / "table.csv")):
        keras.utils.set_random_seed(1)
        model = network(rule)
        model.fit(X, Y, batch_size=16, verbose=0, callbacks=[callback], shuffle=False)
        kernels.append([np.array(w) for w in model.weights])
    for measured, plain in zip(*kernels, strict=True):
        np.testing.assert_allclose(measured, plain, rtol=1e-6, atol=1e-7)


def test_nan_is_written_and_drawn(tmp_path):
    model = network("feedback_alignment")
    monitor = MeasureMonitor(X[:8], Y[:8], tmp_path, every="epoch")
    model.layers[0].feedback_kernel.assign(np.full((3, 3, 2, 4), np.nan))
    model.fit(X, Y, verbose=0, callbacks=[monitor])
    written = scalars(tmp_path)
    assert math.isnan(written["angle/conv"][0][1])
    assert math.isfinite(written["angle/mean"][0][1])  # of the other layer


def test_what_cannot_be_recorded_is_refused(tmp_path):
    for every in (0, -1, 2.5, "batch"):
        with pytest.raises(UserError, match="is no interval"):
            MeasureMonitor(X, Y, every=every)
    model = network("backprop")
    monitor = MeasureMonitor(X, Y, measures=[analysis.alignment])
    with pytest.raises(UserError, match="has a feedback kernel to compare"):
        model.fit(X, Y, verbose=0, callbacks=[monitor])


@pytest.mark.parametrize(
    "finite, counts", [([], [2, 4, 8]), ([5], [2, 4, 2]), ([1, 3, 5, 7], []), ([0, 8], [2, 4])]
)
def test_skipped_steps_are_told_where_they_follow_each_other(finite, counts, capsys):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, rule="feedback_alignment")])
    optimizer = keras.optimizers.LossScaleOptimizer(optimizers.get("sgd", 0.1))
    model.compile(optimizer, "mse", run_eagerly=True)
    x = np.full([9, 4], np.inf, "float32")
    x[finite] = 1.0
    model.fit(
        x, np.zeros([9, 2]), 1, 1, verbose=0, shuffle=False, callbacks=[SkippedSteps(patience=2)]
    )
    told = capsys.readouterr().out.splitlines()
    expected = [f"The last {count} steps were skipped" for count in counts]
    assert [line.split(",")[0] for line in told] == expected


def test_skipped_steps_without_a_loss_scale(capsys):
    model = network("feedback_alignment")
    model.fit(X[:4], Y[:4], 1, verbose=0, callbacks=[SkippedSteps(patience=1)])
    assert not capsys.readouterr().out
    with pytest.raises(UserError, match="patience"):
        SkippedSteps(0)


def test_a_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    EpochTable("~/table.csv", "~/a").on_epoch_end(0, {"loss": 1.0})
    MeasureMonitor(X, Y, "~/b", table="~/measures.csv")
    AlignmentMonitor("~/c")
    assert {"table.csv", "a", "b", "c"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "~").exists()


def test_event_files_go_to_addresses_and_tables_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = "ram://events"  # TensorFlow's file system in memory
    EpochTable("table.csv", address).on_epoch_end(0, {"loss": 1.0})
    (file,) = tf.io.gfile.listdir(address)
    assert file.endswith(EVENTS)
    with pytest.raises(UserError, match="is an address, but a path was expected"):
        EpochTable(f"{address}/table.csv")
    with pytest.raises(UserError, match="is an address, but a path was expected"):
        MeasureMonitor(X, Y, table=f"{address}/measures.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("text", ["x\n1\n", "step\none\n", "step\n2\n1\n", "step\n1"])
def test_tables_of_others_are_told_and_left(text, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(text)
    monitor = MeasureMonitor(X, Y, table=table)
    monitor.set_model(network("feedback_alignment"))
    with pytest.raises(UserError, match="table.csv"):
        monitor.on_train_begin()
    with pytest.raises(UserError, match="table.csv"):
        EpochTable(table).on_epoch_end(0, {"loss": 1.0})
    assert table.read_text() == text


def test_a_monitor_of_no_measures_measures_nothing():
    monitor = MeasureMonitor(None, None, measures=[])
    network("feedback_alignment").fit(X, Y, verbose=0, callbacks=[monitor])
    assert monitor.records == []
