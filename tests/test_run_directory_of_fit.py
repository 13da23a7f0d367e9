"""`callbacks.RunDirectory`: what a plain `fit` leaves is reported as a run is."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tfcredit import layers
from tfcredit.callbacks import RunDirectory, run_directory
from tfcredit.errors import UserError
from tfcredit.report import find_runs
from tfcredit.report.groups import grouped, results
from tfcredit.report.page import page

X = np.random.RandomState(0).normal(size=(64, 8)).astype("float32")
Y = np.arange(64) % 3


def fitted(folder, seed=0, rule="feedback_alignment", epochs=2, rate=0.01, fit=None):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3, rule=rule, name="top")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    callback = RunDirectory(folder, dataset="own images", seed=seed, batch_size=32)
    data = {"validation_data": (X[:30], Y[:30]), "batch_size": 32, "verbose": 0, **(fit or {})}
    history = model.fit(X, Y, epochs=epochs, callbacks=[callback], **data)
    return model, history.history


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two fits of a rule that differ in their seed, and what the first one gave."""
    folder = tmp_path_factory.mktemp("fits")
    fitted(folder / "b", seed=1)
    return folder, *fitted(folder / "a", seed=0)


def test_it_is_read_as_a_run(folder):
    folder, model, history = folder
    run, _ = find_runs([folder])
    assert (run.state, run.notes) == ("finished", [])
    recipe = run.recipe
    assert (recipe.rule, recipe.model) == ("feedback_alignment", "sequential")
    assert (recipe.dataset, recipe.seed, recipe.batch_size) == ("own images", 0, 32)
    assert (recipe.optimizer, recipe.epochs) == ("sgd", 2.0)
    assert [row["step"] for row in run.rows] == [2, 4]
    columns = {"loss": "loss", "accuracy": "top1", "val_loss": "test_loss"}
    columns["val_accuracy"] = "test_top1"
    for name, column in columns.items():
        assert [row[column] for row in run.rows] == pytest.approx(history[name])
    assert run.summary["top1"] == pytest.approx(history["val_accuracy"][-1])
    assert all(row["images_per_second"] > 0 for row in run.rows)
    assert [record["step"] for record in run.mean_angles] == [0, 2, 4]
    assert run.summary["mean_angle"] == pytest.approx(run.mean_angles[-1]["mean_angle"], abs=1e-3)
    assert set(run.summary["angles"]) == {"top"} and run.summary["versions"]["keras"]


def test_seeds_are_taken_together(folder):
    (group,) = grouped(find_runs([folder[0]]))
    assert [run.recipe.seed for run in group.runs] == [0, 1]
    (record,) = results([group])
    assert (record["rule"], record["runs"]) == ("feedback_alignment", 2)


def test_a_fit_that_goes_on_lengthens_what_is_there(tmp_path):
    model, _ = fitted(tmp_path / "run", epochs=1)
    keras.Model.fit(
        model,
        X,
        Y,
        batch_size=32,
        epochs=3,
        initial_epoch=1,
        verbose=0,
        callbacks=[RunDirectory(tmp_path / "run")],
    )
    (run,) = find_runs([tmp_path / "run"])
    assert [(row["epoch"], row["step"]) for row in run.rows] == [(1, 2), (2, 4), (3, 6)]
    assert run.summary["step"] == 6 and run.recipe.dataset == "own images"


def fitted_on(model, folder, epochs, *callbacks, **options):
    """What a further `fit` of a model leaves, with the callback before others."""
    options = {"batch_size": 32, "verbose": 0, **options}
    callbacks = [RunDirectory(folder, batch_size=32), *callbacks]
    model.fit(X, Y, epochs=epochs, callbacks=callbacks, **options)
    (run,) = find_runs([folder])
    return run


def test_results_are_those_of_the_last_epoch_that_was_validated(tmp_path):
    model, history = fitted(tmp_path / "run", epochs=3, fit={"validation_freq": 2})
    (run,) = find_runs([tmp_path / "run"])
    assert [row.get("test_top1") for row in run.rows] == [
        None,
        pytest.approx(history["val_accuracy"][0]),
        None,
    ]
    assert run.summary["top1"] == pytest.approx(history["val_accuracy"][0])
    assert (run.summary["step"], run.summary["evaluated_step"]) == (6, 4)
    assert run.notes == ["the results are those of step 4, the last that was evaluated."]
    (record,) = results(grouped([run]))
    assert record["top1"] == run.summary["top1"]
    # A fit without validation goes on.
    run = fitted_on(model, tmp_path / "run", 5, initial_epoch=3)
    assert (run.summary["step"], run.summary["evaluated_step"]) == (10, 4)


def test_a_fit_without_validation_has_no_results(tmp_path):
    _, history = fitted(tmp_path / "run", fit={"validation_data": None})
    (run,) = find_runs([tmp_path / "run"])
    assert run.state == "finished" and run.summary["evaluated_step"] is run.summary["top1"] is None
    assert [row["top1"] for row in run.rows] == pytest.approx(history["accuracy"])
    text = page([run])
    assert ">-</td>" in text and "None" not in text


def test_a_run_that_is_not_finished_shows_what_was_evaluated_last(tmp_path):
    _, history = fitted(tmp_path / "run", epochs=3, fit={"validation_freq": 2})
    (tmp_path / "run" / "summary.json").unlink()
    (run,) = find_runs([tmp_path / "run"])
    assert run.summary["top1"] == pytest.approx(history["val_accuracy"][0])
    assert (run.state, run.summary["step"]) == ("not finished", 6)
    table = tmp_path / "run" / "metrics.csv"
    table.write_text(table.read_text().replace("test_", "validation_"))
    (held_out,) = find_runs([tmp_path / "run"])
    assert held_out.summary["top1"] == run.summary["top1"]


def test_a_fit_that_counts_from_one_again_lengthens_too(tmp_path):
    model, _ = fitted(tmp_path / "run", epochs=2)
    file = tmp_path / "run" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seconds": 1000.0}))
    for total in (4, 6):
        run = fitted_on(model, tmp_path / "run", 2)
        assert [(row["epoch"], row["step"]) for row in run.rows] == [
            (1 + n, 2 + 2 * n) for n in range(total)
        ]
        assert run.recipe.epochs == total and run.summary["seconds"] >= 1000
        assert [each["step"] for each in run.mean_angles] == [2 * n for n in range(total + 1)]
    # Nothing is left to train: what is there stays.
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    fitted_on(model, tmp_path / "run", 2, initial_epoch=2)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


def test_callbacks_behind_it_may_restore_a_fit_that_was_cut_off(tmp_path):
    class CutOff(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise InterruptedError

    def started(*callbacks):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((8,)), layers.Dense(3, rule="feedback_alignment", name="top")]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return fitted_on(model, tmp_path / "run", 4, backup, *callbacks)

    with pytest.raises(InterruptedError):
        started(CutOff())
    assert [(row["epoch"], row["step"]) for row in started().rows] == [
        (1, 2),
        (2, 4),
        (3, 6),
        (4, 8),
    ]


def test_speed_is_of_training_alone(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    class Slow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            clock.now += 1

        def on_test_batch_end(self, batch, logs=None):
            clock.now += 100

    model, _ = fitted(tmp_path / "other", epochs=1)
    monkeypatch.setattr(run_directory, "time", SimpleNamespace(monotonic=lambda: clock.now))
    data = {"validation_data": (X, Y), "steps_per_epoch": 2}
    run = fitted_on(model, tmp_path / "run", 2, Slow(), **data)
    assert [row["images_per_second"] for row in run.rows] == [32, 32]


def test_another_run_and_foreign_files_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="holds a run already: give RunDirectory another path"):
        fitted(folder[0] / "a")
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="holds no run of tfcredit.*nothing was touched"):
        fitted(tmp_path)
    with pytest.raises(UserError, match="/proc/none can't be written"):
        fitted("/proc/none")


def folder_instead(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "metrics.csv": ["", "epoch,step\n1,2\n2,", "x\n1\n", "epoch\n1\n2\n", "\0", folder_instead],
    "flags.txt": [b"\xff", folder_instead],
    "summary.json": ["[1]", "[" * 100_000, '{"seconds": "x"}', folder_instead],
    "tensorboard": [lambda path: (shutil.rmtree(path), path.touch())],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_told_and_left(folder, tmp_path, name):
    """Or, where nothing depends on them, written anew."""
    _, model, _ = folder
    for number, damage in enumerate(DAMAGES[name]):
        copy = shutil.copytree(folder[0] / "a", tmp_path / str(number))
        if callable(damage):
            damage(copy / name)
        else:
            (copy / name).write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        before = (copy / name).read_bytes() if (copy / name).is_file() else None
        begun = RunDirectory(copy)
        begun.set_model(model)
        begun.set_params({"epochs": 1})
        is_spared = damage == "" or name == "summary.json" and not callable(damage)
        with contextlib.nullcontext() if is_spared else pytest.raises(UserError, match=name):
            begun.on_train_begin()
            begun.on_epoch_begin(0)
        if not is_spared and before is not None:
            assert (copy / name).read_bytes() == before


def test_a_loss_that_is_not_finite_is_no_result(tmp_path):
    fitted(tmp_path / "run", rate=1e38, rule="backprop")
    (run,) = find_runs([tmp_path / "run"])
    assert run.state == "diverged" and run.recipe.rule == "backprop"
    assert "not finite at step 4" in (tmp_path / "run" / "diverged.txt").read_text()


@pytest.mark.parametrize("rule", ["weight_mirror(amp=0.01)", "0.1*amp + 1.0*null"])
def test_arguments_of_the_rule_are_told(rule, tmp_path):
    fitted(tmp_path / "run", rule=rule, epochs=1)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rule"] == rule
    (run,) = find_runs([tmp_path / "run"])
    assert run.recipe.rule == rule
