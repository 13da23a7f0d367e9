import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcredit import schedules
from tfcredit.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "schedules.json").read_text())
VALUES = np.load(GOLDEN / "schedules.npz")
STEPS, RATE_STEPS = VALUES["steps"], VALUES["rate_steps"]

EXAMPLES = [
    schedules.WarmupStepDecay(0.1, 10),
    schedules.WarmupStepDecay(0.1, 10, 2.5, (6.0,), (0.3,)),
    schedules.TaskSchedule(schedules.WarmupStepDecay(0.1, 10), 10, delay_epochs=1.3),
    schedules.TaskSchedule(schedules.WarmupStepDecay(0.1, 10, 2), 10, 1.0, alternate_steps=3),
    schedules.TaskRate(0.5, 10, 2.0, 3),
    schedules.AlignmentRate(2.0, 10, 2.0, 3),
    schedules.CoefficientSchedule(0.4, 10, 9),
    schedules.CoefficientSchedule(0.4, 10, 9, 0.1, 0.8, "linear", -0.1, 2.0),
    schedules.CoefficientSchedule(0.4, 10, 9, 0.1, 0.8, "exponential", 0.2),
]
IDS = [f"{type(schedule).__name__}{index}" for index, schedule in enumerate(EXAMPLES)]


def learning_rate(case):
    """The authors' options in our words."""
    rate, epoch = case["learning_rate"], case["num_batches_per_epoch"]
    if case.get("rescale_lr"):
        rate = schedules.scale_learning_rate(
            rate, case["train_batch_size"], case["base_batch_size"]
        )
    if case["constant_lr"]:
        return schedules.WarmupStepDecay(rate, epoch, 0, (), ())
    # They stretch the schedule as if each task step took `alternate_step_freq + 1` steps.
    stretched = epoch * (case.get("alternate_step_freq", 0) + 1)
    # An offset delays the drops of an alignment, which has no warm-up.
    offset = case.get("delay_epochs_offset", 0)
    warmup = 0 if offset else case["warmup_epochs"]
    boundaries = [boundary + offset for boundary in (30, 60, 80)]
    schedule = schedules.WarmupStepDecay(rate, stretched, warmup, boundaries)
    delay = case.get("delay_epochs", 0)
    return schedules.TaskSchedule(schedule, epoch, delay) if delay else schedule


def rates(case):
    epoch = case["num_batches_per_epoch"]
    common = {
        "steps_per_epoch": epoch,
        "delay_epochs": case.get("delay_epochs", 0),
        "alternate_steps": case.get("alternate_step_freq", 0),
    }
    drops = () if case.get("constant_rate", True) else (30, 60, 80)
    dropped = schedules.WarmupStepDecay(1.0, epoch, 0, drops, (0.1, 0.01, 0.001)[: len(drops)])
    kinds = (schedules.TaskRate, "loss_rate"), (schedules.AlignmentRate, "alignment_rate")
    made = [kind(case.get(name, 1.0), **common) for kind, name in kinds]
    return [rate(RATE_STEPS) * dropped(RATE_STEPS) for rate in made]


def coefficient(case):
    return schedules.CoefficientSchedule(
        case["value"],
        case["num_batches_per_epoch"],
        case["train_epochs"],
        start=case.get("start", 0.0),
        stop=case.get("stop", 1.0),
        change=case.get("schedule_type"),
        rate=case.get("schedule_rate", 0.0),
        cycle=case.get("cycle", 0),
    )


@pytest.mark.parametrize("name", sorted(set(VALUES) - {"steps", "rate_steps"}))
def test_golden(name):
    case = dict(CASES[name])
    if name.startswith("rate"):
        values = np.stack(rates(case), axis=1)
    else:
        values = (learning_rate if name.startswith("lr") else coefficient)(case)(STEPS)
    np.testing.assert_allclose(values, VALUES[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=IDS)
def test_one_step_eager_graph_and_compiled(schedule):
    steps = np.arange(0, 95)
    all_at_once = schedule(steps).numpy()
    graph = tf.function(schedule.__call__)
    compiled = tf.function(schedule.__call__, jit_compile=True)
    for step in steps[::7]:
        value = schedule(int(step))
        assert value.dtype == tf.float32 and value.shape == ()
        np.testing.assert_allclose(value, all_at_once[step], rtol=1e-6)
        for dtype in (tf.int64, tf.int32):
            np.testing.assert_allclose(graph(tf.constant(step, dtype)), value, rtol=1e-6)
            np.testing.assert_allclose(compiled(tf.constant(step, dtype)), value, rtol=1e-6)
    np.testing.assert_allclose(schedule(keras.Variable(7, dtype="int64")), all_at_once[7])


@pytest.mark.parametrize("schedule", EXAMPLES, ids=IDS)
def test_config_round_trip(schedule):
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(json.loads(json.dumps(config)))
    assert again == schedule and hash(again) == hash(schedule)
    optimizer = keras.optimizers.SGD(schedule)
    again = keras.optimizers.SGD.from_config(optimizer.get_config())
    assert again._learning_rate == schedule


def test_phases_share_every_step():
    task = schedules.TaskRate(1.0, 10, delay_epochs=2, alternate_steps=3)(np.arange(80)).numpy()
    alignment = schedules.AlignmentRate(1.0, 10, delay_epochs=2, alternate_steps=3)(np.arange(80))
    np.testing.assert_array_equal(task + alignment, 1.0)
    assert task[:20].sum() == 0 and task[20:].sum() == 45


@pytest.mark.parametrize("delay", [0, 1.3, 2])
@pytest.mark.parametrize("alternate", [0, 1, 3])
def test_the_task_schedule_moves_in_steps_of_the_task_only(delay, alternate):
    phases = {"steps_per_epoch": 10, "delay_epochs": delay, "alternate_steps": alternate}
    acts = schedules.TaskRate(1.0, **phases)(np.arange(80)).numpy()
    taken = np.concatenate([[0], np.cumsum(acts)[:-1]])
    inner = schedules.WarmupStepDecay(0.1, 10, 2, (3, 5), (0.1, 0.01))
    values = schedules.TaskSchedule(inner, **phases)(np.arange(80))
    np.testing.assert_array_equal(values, inner(taken.astype(int)))
    counted = schedules.TaskRate(1.0, **phases).task_steps(np.arange(80))
    np.testing.assert_array_equal(counted, taken)


def test_earlier_configs_load():
    config = {"learning_rate": 0.1, "steps_per_epoch": 10, "warmup_epochs": 5.0}
    config |= {"boundaries": [30.0], "factors": [0.1]}
    config |= {"delay_epochs": 0.0, "alternate_steps": 0, "drop_offset_epochs": 0.0}
    inner = schedules.WarmupStepDecay(0.1, 10, 5.0, (30,), (0.1,))
    load = schedules.WarmupStepDecay.from_config
    assert load(config) == inner
    assert load(config | {"delay_epochs": 3.0}) == schedules.TaskSchedule(inner, 10, 3.0)
    with pytest.raises(UserError, match="no alternate_steps=2 any more"):
        load(config | {"alternate_steps": 2})
    config = {"rate": 1.0, "steps_per_epoch": 10, "delay_epochs": 1.0, "alternate_steps": 2}
    for kind in (schedules.TaskRate, schedules.AlignmentRate):
        made = kind.from_config(config | {"boundaries": [], "factors": []})
        assert made == kind(**config)
        with pytest.raises(UserError, match="no boundaries and factors any more"):
            kind.from_config(config | {"boundaries": [3.0], "factors": [0.1]})


def test_boundaries_are_exact_steps():
    rate = schedules.WarmupStepDecay(1.0, 100, 0, (0.07, 0.29), (0.1, 0.01))
    np.testing.assert_allclose(rate(np.array([6, 7, 28, 29])), [1.0, 0.1, 0.1, 0.01])
    window = schedules.CoefficientSchedule(1.0, 10, 100, start=0.07, stop=0.29)
    np.testing.assert_array_equal(window(np.array([69, 70, 290, 291])), [0, 1, 1, 0])


BAD = [
    (schedules.WarmupStepDecay, {"warmup_epochs": -1.0}, "warmup_epochs=-1.0"),
    (schedules.WarmupStepDecay, {"learning_rate": math.nan}, "learning_rate=nan"),
    (schedules.WarmupStepDecay, {"learning_rate": "fast"}, "learning_rate='fast'"),
    (schedules.WarmupStepDecay, {"steps_per_epoch": 0}, "steps_per_epoch=0"),
    (schedules.WarmupStepDecay, {"boundaries": (3.0, 6.0)}, "2 boundaries"),
    (schedules.WarmupStepDecay, {"boundaries": (30, 20, 40)}, "each later than the last"),
    (schedules.WarmupStepDecay, {"boundaries": 30}, "give a sequence"),
    (schedules.WarmupStepDecay, {"factors": (0.1, math.inf, 0.0)}, "factors=inf"),
    (schedules.TaskRate, {"alternate_steps": 1.5}, "alternate_steps=1.5"),
    (schedules.TaskSchedule, {"schedule": None, "delay_epochs": -1}, "delay_epochs=-1"),
    (schedules.TaskRate, {"delay_epochs": -3}, "delay_epochs=-3"),
    (schedules.AlignmentRate, {"alternate_steps": -1}, "alternate_steps=-1"),
    (schedules.AlignmentRate, {"rate": math.inf}, "rate=inf"),
    (schedules.CoefficientSchedule, {"change": "cubic"}, "change='cubic'"),
    (schedules.CoefficientSchedule, {"start": 0.5, "stop": 0.2}, "no window"),
    (schedules.CoefficientSchedule, {"stop": 1.5}, "no window"),
    (schedules.CoefficientSchedule, {"cycle": -1.0, "change": "linear"}, "cycle=-1.0"),
    (schedules.CoefficientSchedule, {"rate": 0.1}, "only on a changing coefficient"),
    (schedules.CoefficientSchedule, {"epochs": None}, "epochs=None"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BAD)
def test_bad_values(kind, change, message):
    good = {
        schedules.WarmupStepDecay: {"learning_rate": 0.1, "steps_per_epoch": 10},
        schedules.CoefficientSchedule: {"value": 1.0, "steps_per_epoch": 10, "epochs": 5},
    }
    with pytest.raises(UserError, match=message):
        kind(**{**good.get(kind, {}), **change})


def test_scale_learning_rate():
    assert schedules.scale_learning_rate(0.1, 1024) == pytest.approx(0.4)
    assert schedules.scale_learning_rate(0.1, 32, 64) == pytest.approx(0.05)
    with pytest.raises(UserError, match="batch_size=0"):
        schedules.scale_learning_rate(0.1, 0)
