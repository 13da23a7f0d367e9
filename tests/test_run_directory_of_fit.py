"""`callbacks.RunDirectory`: what a plain `fit` leaves is reported as a run is."""

import json

import keras
import numpy as np
import pytest

from tfcredit import layers
from tfcredit.callbacks import RunDirectory
from tfcredit.errors import UserError
from tfcredit.report import find_runs
from tfcredit.report.groups import grouped, results

X = np.random.RandomState(0).normal(size=(64, 8)).astype("float32")
Y = np.arange(64) % 3


def fitted(folder, seed=0, rule="feedback_alignment", epochs=2, model=None, rate=0.01, **options):
    if model is None:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((8,)), layers.Dense(3, rule=rule, name="top")])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    callback = RunDirectory(folder, dataset="own images", seed=seed, batch_size=32, **options)
    data = {"validation_data": (X[:30], Y[:30]), "batch_size": 32, "verbose": 0}
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


def test_another_run_and_foreign_files_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="holds a run already: give RunDirectory another path"):
        fitted(folder[0] / "a")
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="holds no run of tfcredit.*nothing was touched"):
        fitted(tmp_path)
    with pytest.raises(UserError, match="/proc/none can't be written"):
        fitted("/proc/none")


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
