"""A recipe resolved: its schedules in phases, its rule, its data set."""

import dataclasses
import functools

import keras
import numpy as np
import pytest

from tfcredit import data
from tfcredit.data import ImageData, registry
from tfcredit.errors import UserError
from tfcredit.rules import InformationAlignment
from tfcredit.schedules import AlignmentRate, CoefficientSchedule
from tfcredit.training.flags import of_scope, settings, shown_in
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe
from tfcredit.training.rule_flags import remade, rule_of

EPOCH = 10
IMAGES = ImageData("images", 10, (8, 8, 1), 20 * EPOCH, 20, source=None)


def plan_of(**flags):
    return Plan.of(Recipe(model="fc", batch_size=20, **flags), IMAGES)


def rates(plan, steps):
    return np.array([float(plan.rates.learning_rate(step)) for step in steps])


@pytest.mark.parametrize("schedule", ["cosine", "steps", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_a_delay_delays_every_schedule_alike(schedule, warmup):
    flags = {"schedule": schedule, "warmup_epochs": warmup}
    delayed, task = plan_of(epochs=4.0, delay_epochs=2.0, **flags), plan_of(epochs=2.0, **flags)
    begin, end = 2 * EPOCH, 4 * EPOCH
    expected = rates(task, range(2 * EPOCH))
    np.testing.assert_array_equal(rates(delayed, range(begin, end)), expected)
    assert set(rates(delayed, range(begin))) == {expected[0]}
    if schedule == "steps":
        drops = [np.isclose(expected, expected.max() * 10.0**-drop).any() for drop in (1, 2, 3)]
        assert all(drops)


@pytest.mark.parametrize("schedule", ["cosine", "steps", "constant"])
@pytest.mark.parametrize(("alternate", "delay"), [(1, 0.0), (3, 0.0), (1, 1.5), (2, 1.0)])
def test_alternation_leaves_the_task_its_whole_schedule(schedule, alternate, delay):
    flags = {"schedule": schedule, "warmup_epochs": 0.5}
    plan = plan_of(epochs=6.0, delay_epochs=delay, alternate_steps=alternate, **flags)
    steps = np.arange(plan.total_steps)
    acts = np.array(plan.rates.task(steps)) > 0
    task = plan_of(steps=int(acts.sum()), **flags)
    np.testing.assert_array_equal(rates(plan, steps[acts]), rates(task, range(acts.sum())))


def test_a_delay_as_long_as_the_run_leaves_no_task():
    for schedule in ("cosine", "steps", "constant"):
        plan = plan_of(epochs=2.0, delay_epochs=2.0, schedule=schedule, warmup_epochs=0.0)
        np.testing.assert_allclose(rates(plan, range(20)), 0.1 * 20 / 256, rtol=1e-6)


def test_without_phases_the_schedule_is_bare():
    assert isinstance(
        plan_of(schedule="cosine").rates.learning_rate, keras.optimizers.schedules.CosineDecay
    )
    assert plan_of().rates.task is None and plan_of().rates.alignment is None


def test_schedules_leave_the_rule_as_it_is():
    plan = plan_of(amp=0.5, coefficient_change="linear", coefficient_rate=0.1, delay_epochs=1.0)
    plain = InformationAlignment(amp=0.5)
    assert plan.rule == plain
    scheduled = plan.rates.scheduled(plan.rule)
    assert plan.rule == plain and type(scheduled) is InformationAlignment
    assert isinstance(scheduled.rate, AlignmentRate)
    amp = scheduled.coefficients["amp"]
    assert isinstance(amp, CoefficientSchedule) and (amp.value, amp.rate) == (0.5, 0.1)
    rule = plan.network().layers[-1].rule
    assert rule == scheduled


def test_a_rule_made_anew_keeps_the_rest():
    rule = rule_of(Recipe(rule="0.1*amp+0.2*self", inputs="noise=normal", self=0.3))
    assert rule.coefficients == {"amp": 0.1, "self": 0.3}
    again = remade(rule, {"amp": 0.4}, {"stddev": 2.0}, rate=0.5)
    assert again.coefficients == {"amp": 0.4, "self": 0.3} and again.rate == 0.5
    assert (again.inputs.noise, again.inputs.stddev) == ("normal", 2.0)


def test_the_set_of_auto_is_built_once(monkeypatch, tmp_path):
    built, build = [], registry.embedded.build

    @functools.wraps(build)
    def counted(**options):
        built.append(options)
        return build(**options)

    monkeypatch.setattr(registry.embedded, "build", counted)
    plan = Plan.of(Recipe(data_dir=str(tmp_path)))
    assert built == [{"augment": False}] and plan.recipe.dataset == "embedded"
    assert "EMBEDDED" in plan.images.chosen_because
    assert data.choose(tmp_path)[0] == "embedded"


def test_each_flag_says_what_it_belongs_to():
    once = ["run_dir", "mode", "resume", "overwrite", "workers", "worker"]
    assert of_scope(Recipe, "once") == once
    start = {"data_dir", "max_corrupt_records", "keep", "histograms", "strategy", "num_replicas"}
    start |= {"checkpoint_every_steps", "checkpoint_every_minutes", "tpu", "steps_per_execution"}
    start |= {"import_", "measures", "measure_every_steps", "log_every_steps"}
    start |= {"evaluation_batch_size", "evaluate_first", "wait_for_workers"}
    assert set(of_scope(Recipe, "start")) == start
    names = {field.name for field in dataclasses.fields(Recipe)}
    assert set(of_scope(Recipe, "run")) == names - start - set(once)
    assert shown_in(Recipe, "report") == ["rule", "model", "dataset", "seed"]
    assert len(shown_in(Recipe, "tensorboard")) == 5  # as many as TensorBoard opens at first
    recipe = Recipe(decay=1.0, self=0.0, alignment_precision="bfloat16")
    assert settings(recipe, "coefficients") == {"decay": 1.0, "self": 0.0}
    assert settings(recipe, "inputs") == {"precision": "bfloat16"}


def test_the_plan_refuses_what_the_rule_has_not():
    with pytest.raises(UserError, match="--coefficient_.*say nothing"):
        plan_of(rule="backprop", coefficient_stop=0.5)
    with pytest.raises(UserError, match="--alignment_every=2 and --rule=backprop contradict"):
        plan_of(rule="backprop", alignment_every=2)
