"""Clipping, decay, averages, early stopping, rows within epochs, schedules: what flags ask for."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.optimizers import toy
from tests.training.test_plan import IMAGES, plan_of
from tfcredit import cli, data, layers, models, optimizers, rules
from tfcredit.errors import UserError
from tfcredit.optimizers.averages import averaged, averages, start_averages
from tfcredit.report.groups import curves, grouped
from tfcredit.report.reading import find_runs
from tfcredit.schedules import CoefficientSchedule, WarmupStepDecay
from tfcredit.search import space
from tfcredit.training.loop import Loop
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe, parse, recipe_of
from tfcredit.training.run import Run
from tfcredit.training.run_directory import differences
from tfcredit.training.saved import Saved
from tfcredit.training.trainer import Trainer

BACKPROP = {"rule": "backprop", "schedule": "constant", "warmup_epochs": 0.0}

BAD = {
    "--clipnorm=0": "--clipnorm=0.0 must be greater than 0",
    "--global_clipnorm=-1": "must be greater than 0",
    "--clipvalue=nan": "must be a finite number",
    "--clipnorm=1 --clipvalue=1": "--clipnorm=1.0 and --clipvalue=1.0 contradict",
    "--clipnorm=1 --global_clipnorm=1": "an optimizer clips in one way",
    "--weight_decay=-0.1": "must be at least 0",
    "--ema_momentum=0": "must be greater than 0",
    "--ema_momentum=1": "--ema_momentum=1.0 must be below 1",
    "--ema_momentum=0.9 --optimizer=ScheduleFreeAdamW": "averages the weights already",
    "--early_stopping=0": "must be at least 1",
    "--early_stopping=2 --mode=train": "--early_stopping=2 and --mode=train contradict",
    "--evaluate_first --mode=train": "--evaluate_first and --mode=train contradict",
    "--log_every_steps=0": "must be at least 1",
    "--evaluation_batch_size=0": "must be at least 1",
    "--base_batch_size=-1": "must be at least 0",
    "--feedback_schedule=linear": "choose one of cosine, steps, constant",
    "--feedback_warmup_epochs=-1": "must be at least 0",
    "--feedback_noise_variance=0.1": "choose --feedback_noise=normal or uniform",
    "--feedback_noise=normal": "state the variance of the noise",
    "--optimizer=sgd --momentum=0.5": "only --optimizer=momentum takes it",
    "--noise=normal": "--noise=normal and --noise_variance=0.0 contradict.*state the variance",
    "--coefficient_rate=0.1": "--coefficient_change=none and --coefficient_rate=0.1 contradict",
    "--coefficient_cycle=2": "choose --coefficient_change=linear or exponential",
    "--feedback_noise=none --noise_variables=feedback": "contradict each other",
    "--dataset=embedded --data_dir=x": "--dataset=embedded and --data_dir=x contradict",
    "--dataset=synthetic --data_dir=x": "name the set that is in it, such as --dataset=folder",
    "--data_dir=one\ntwo": "has a line break",
}


@pytest.mark.parametrize("flags", BAD)
def test_odd_flags_are_refused(flags):
    with pytest.raises(UserError, match=BAD[flags]):
        parse(flags.split(" "))


def test_a_folder_without_imagenet_is_not_kept_with_the_embedded_images(tmp_path):
    plan = Plan.of(Recipe(data_dir=str(tmp_path), model="fc"))
    assert (plan.recipe.dataset, plan.recipe.data_dir) == ("embedded", None)
    kept = ["--dataset=embedded", f"--data_dir={tmp_path}", "--model=fc"]  # earlier versions
    assert recipe_of(kept).data_dir is None
    with pytest.raises(UserError, match="'synthetic' is in no folder, but data_dir is 'x'"):
        data.get("synthetic", "x")


def test_paths_are_kept_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, _ = parse(
        [
            *("--import=mine, a/b.py", "--model=net.py:make", "--initial_weights=w/best"),
            *("--data_dir=../images [1] #50%", "--dataset=folder"),
        ]
    )
    there = tmp_path.parent / tmp_path.name
    lines = recipe.flagfile().splitlines()
    assert f"--import=mine,{there / 'a' / 'b.py'}" in lines
    assert f"--model={there / 'net.py'}:make" in lines
    assert f"--initial_weights={there / 'w' / 'best'}" in lines
    assert f"--data_dir={there}/../images [1] #50%" in lines
    assert differences(recipe_of(lines), recipe) == []
    for name in ("resnet8", "nets:make", "gs://bucket/net.keras"):
        assert f"--model={name}" in Recipe(model=name).flagfile().splitlines()


def test_a_network_may_have_been_moved_but_not_exchanged():
    old = Recipe(model="/old/net.py:make", model_digest="a")
    assert differences(old, Recipe(model="new/net.py:make", model_digest="a")) == []
    assert differences(old, Recipe(model="new/net.py:make")) == [("model_digest", "a", None)]
    for other in ({"model": "net.py:other"}, {"model": "resnet8"}):
        assert differences(old, Recipe(**other, model_digest="a"))[0][0] == "model"


BAD_PLANS = {
    "--rule=backprop --feedback_schedule=cosine": "no optimizer of its own",
    "--rule=kolen_pollack --feedback_warmup_epochs=1": "no optimizer of its own",
    "--rule=backprop --feedback_noise=normal --feedback_noise_variance=1": "no optimizer of its",
    "--rule=backprop --coefficient_schedules=amp:stop=1": "--coefficient_.*say nothing",
    "--coefficient_schedules=amp": "must be a coefficient, a colon and what it gets",
    "--coefficient_schedules=amp:stop=1;amp:stop=1": "each coefficient once",
    "--coefficient_schedules=sparse:stop=0.5": "no coefficient 'sparse'; it has amp, null, decay",
    "--coefficient_schedules=amp:stpo=0.5": "'stpo' is no part of a schedule.*mean 'stop'",
    "--coefficient_schedules=amp:stop=late": "stop=late must be a number",
    "--coefficient_schedules=amp:start=0.9,stop=0.1": "are no window",
    "--coefficient_schedules=amp:rate=0.1": "act only on a changing coefficient",
    "--coefficient_schedules=amp:change=sine": "choose None, 'linear' or 'exponential'",
    "--coefficient_schedules=amp:start=nan": "start=nan",
    "--weight_decay=0.1 --optimizer=nosuch": "Unknown optimizer 'nosuch'",
    "--widths=256,x": "--widths=256,x must be whole numbers",
    "--widths=0": "positive whole numbers",
    "--activation=rleu": "Unknown activation 'rleu'",
}


@pytest.mark.parametrize("flags", BAD_PLANS)
def test_flags_that_fit_no_rule_or_network_are_refused(flags):
    recipe, _ = parse(["--model=fc", "--batch_size=20", *flags.split()])
    with pytest.raises(UserError, match=BAD_PLANS[flags]):
        plan = Plan.of(recipe, IMAGES)
        plan.network(), plan.optimizer()


OPTIONS = [
    {"clipnorm": 0.05},
    {"global_clipnorm": 0.05},
    {"clipvalue": 0.01},
    {"weight_decay": 0.3},
    {"ema_momentum": 0.8, "weight_decay": 0.3, "clipnorm": 0.05},
]


def trajectory(optimizer):
    """Weights and their moving averages after some steps with fixed gradients."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (5, 3), "bias": (3,), "gamma": (3,)}
    variables = [keras.Variable(rng.normal(size=s), name=n) for n, s in shapes.items()]
    optimizer.build(variables)
    seen = []
    for _ in range(4):
        optimizer.apply([tf.constant(rng.normal(size=v.shape), "float32") for v in variables])
        kept = [*variables, *(average for _, average in averages(optimizer))]
        seen += [np.ravel(keras.ops.convert_to_numpy(v)) for v in kept]
    return np.concatenate(seen)


@pytest.mark.parametrize("name", ["momentum", "adamw"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options))
def test_flags_of_the_step_are_those_of_keras(name, options):
    flags = {"optimizer": name, "learning_rate": 0.1, "base_batch_size": 0}
    ours = plan_of(**BACKPROP, **flags, **options).optimizer()
    kind = {"momentum": keras.optimizers.SGD, "adamw": keras.optimizers.AdamW}[name]
    momentum = {"momentum": 0.9, "nesterov": True} if name == "momentum" else {}
    theirs = kind(0.1, **momentum, **options, use_ema="ema_momentum" in options)
    if "weight_decay" in options:
        theirs.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    found, plain = trajectory(ours), trajectory(kind(0.1, **momentum))
    np.testing.assert_allclose(found, trajectory(theirs), rtol=1e-5, atol=1e-6)
    if found.shape == plain.shape and not (name == "adamw" and options.keys() & {"clipnorm"}):
        assert np.abs(found - plain).max() > 1e-4


@pytest.mark.parametrize("name", optimizers.names())
def test_what_does_not_decay_is_in_the_config(name):
    optimizer = optimizers.get(name, 0.1, weight_decay=0.5, decay_vectors=False)
    again = type(optimizer).from_config(optimizer.get_config())
    kernel, bias = keras.Variable(np.ones((2, 2))), keras.Variable(np.ones(2))
    assert again._use_weight_decay(kernel) and not again._use_weight_decay(bias)
    wide = keras.layers.GRU(2)  # whose bias has two rows
    wide.build((None, 3, 2))
    kernels = [v for v in wide.trainable_variables if again._use_weight_decay(v.value)]
    assert [v.name for v in kernels] == ["kernel", "recurrent_kernel"]
    plain = optimizers.get(name, 0.1, weight_decay=0.5)
    assert plain._use_weight_decay(bias) and "decay_vectors" not in plain.get_config()


@pytest.mark.parametrize("rule", ["info_alignment", "kolen_pollack"])
def test_feedback_kernels_decay_and_clip_with_what_they_follow(rule):
    optimizer = plan_of(rule=rule, weight_decay=0.1, clipnorm=1.0, ema_momentum=0.9).optimizer()
    own = rule == "info_alignment"
    forward = optimizer.forward if own else optimizer
    assert (forward.weight_decay, forward.clipnorm, forward.ema_momentum) == (0.1, 1.0, 0.9)
    if own:
        feedback = optimizer.feedback
        assert (feedback.weight_decay, feedback.clipnorm, feedback.ema_momentum) == (
            None,
            None,
            0.9,
        )


def test_decay_takes_the_same_part_of_w_and_of_what_follows_it():
    rule = rules.KolenPollack(decay=0.0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, rule=rule, seed=1)])
    model.compile(optimizers.get("sgd", 0.5, weight_decay=0.2, decay_vectors=False))
    trainer, layer = Trainer(model), model.layers[0]
    before = layer.kernel.numpy(), layer.kernel.numpy() - layer.feedback_kernel.numpy()
    x, labels = np.ones((6, 4), "float32"), np.arange(6) % 3
    trainer.run(iter(tf.data.Dataset.from_tensors((x, labels))), 1)
    after = layer.kernel.numpy(), layer.kernel.numpy() - layer.feedback_kernel.numpy()
    np.testing.assert_allclose(after[1], 0.9 * before[1], atol=1e-6)
    assert np.abs(after[0] - 0.9 * before[0]).max() > 1e-3  # W learns beside


@pytest.mark.parametrize("scaled", [False, True])
def test_averages_take_the_place_of_weights_for_a_while(scaled):
    parts = [keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5) for _ in range(2)]
    optimizer = optimizers.NoisyOptimizer(optimizers.PartitionedOptimizer(*parts), seed=1)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = toy.model()
    optimizer.build(model.trainable_variables)
    start_averages(optimizer)
    assert len(averages(optimizer)) == len(model.trainable_variables) == 6
    start = toy.weights(model)
    for weight in model.trainable_variables:
        weight.assign_add(keras.random.normal(weight.shape, seed=1))
    trained = toy.weights(model)
    with averaged(optimizer):
        toy.assert_same(toy.weights(model), start)
    toy.assert_same(toy.weights(model), trained)
    with averaged(keras.optimizers.SGD(0.1)):  # without averages
        pass


def test_averages_keep_constraints():
    optimizer = optimizers.PartitionedOptimizer(
        keras.optimizers.SGD(0.1, use_ema=True), keras.optimizers.SGD(0.1)
    )
    weight = keras.Variable([1.0, 2.0])
    weight.constraint = keras.constraints.NonNeg()
    optimizer.build([weight])
    averages(optimizer)[0][1].assign([-1.0, 3.0])
    with averaged(optimizer):
        np.testing.assert_array_equal(weight, [0.0, 3.0])
    np.testing.assert_array_equal(weight, [1.0, 2.0])
    optimizer.finalize_variable_values([weight])
    np.testing.assert_array_equal(weight, [0.0, 3.0])


def test_noises_apart():
    noisy = {"feedback_noise": "uniform", "feedback_noise_variance": 0.2}
    optimizer = plan_of(noise="normal", noise_variance=0.1, **noisy).optimizer()
    parts = optimizer.forward, optimizer.feedback
    assert [(p.distribution, p.variance) for p in parts] == [("normal", 0.1), ("uniform", 0.2)]
    assert parts[0].seed != parts[1].seed
    optimizer = plan_of(noise="normal", noise_variance=0.1, feedback_noise="none").optimizer()
    assert not isinstance(optimizer.feedback, optimizers.NoisyOptimizer)
    assert isinstance(optimizer.forward, optimizers.NoisyOptimizer)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("kind", ["cosine", "steps"])
def test_the_alignment_has_a_schedule_of_its_own(kind, every):
    flags = {"feedback_schedule": kind, "feedback_warmup_epochs": 1.0, "schedule": "constant"}
    plan = plan_of(epochs=4.0, feedback_learning_rate=0.5, alignment_every=every, **flags)
    rate = plan.optimizer().feedback._learning_rate
    steps = np.arange(40 // every)  # in which R teaches
    values = np.array([float(rate(step)) for step in steps])
    assert values.argmax() == 10 // every and values.max() == pytest.approx(0.5)
    assert values[0] == 0 and values[-1] < 0.01
    assert isinstance(rate, WarmupStepDecay) == (kind == "steps")
    assert plan_of(feedback_learning_rate=0.5).rates.feedback_learning_rate == 0.5
    assert plan_of(rule="backprop").rates.feedback_learning_rate is None


def test_single_coefficients_have_schedules_of_their_own():
    own = "amp: start=0.5; null: change=linear, rate=0.25, cycle=2"
    plan = plan_of(epochs=4.0, amp=1.0, null=2.0, coefficient_stop=0.9, coefficient_schedules=own)
    found = plan.rates.coefficients
    common = {"steps_per_epoch": 10, "epochs": 4.0, "stop": 0.9}
    assert found["amp"] == CoefficientSchedule(1.0, **common, start=0.5)
    null = {"change": "linear", "rate": 0.25, "cycle": 2.0}
    assert found["null"] == CoefficientSchedule(2.0, **common, **null)
    assert found["decay"] == CoefficientSchedule(plan.rule.coefficients["decay"], **common)
    assert plan.rates.coefficients_at(10)["coefficient_amp"] == 0.0
    assert plan.rates.coefficients_at(20)["coefficient_amp"] == 1.0
    assert plan.rates.coefficients_at(10)["coefficient_null"] == 2.25


@pytest.mark.parametrize("base, rate", [(256, 0.1 * 20 / 256), (20, 0.1), (0, 0.1)])
def test_the_batch_that_a_rate_is_for(base, rate):
    plan = plan_of(**{**BACKPROP, "base_batch_size": base})
    assert float(plan.rates.learning_rate(50)) == pytest.approx(rate)


def test_widths_and_activation_of_small_networks():
    network = plan_of(widths="7,5", activation="tanh").network()
    dense = [layer for layer in network.layers if hasattr(layer, "units")]
    assert [layer.units for layer in dense] == [7, 5, 10]
    assert [layer.activation.__name__ for layer in dense] == ["tanh", "tanh", "linear"]


def test_an_activation_that_no_layer_has_is_refused():
    linear = {"model": "fc", "batch_size": 20, "activation": "linear"}
    asked = Recipe(**linear, inputs="activation_forward=true")
    with pytest.raises(UserError, match="no layer of this network has one of its own"):
        Plan.of(asked, IMAGES).network()
    Plan.of(Recipe(**linear, inputs="activation_forward=true,activation=relu"), IMAGES).network()
    Plan.of(Recipe(**{**linear, "activation": "tanh"}, inputs=asked.inputs), IMAGES).network()


# ---- runs

SMALL = ["--model=fc", "--widths=8", "--batch_size=1000", "--checkpoint_every_steps=4"]
SMALL += ["--learning_rate=0.05", "--deterministic", "--resume=auto", "--epochs=3", "--augment"]
ALL = ["--ema_momentum=0.9", "--weight_decay=0.1", "--log_every_steps=5", "--evaluate_first"]
ALL += ["--early_stopping=2", "--coefficient_change=linear", "--alignment_every=2"]
ALL += ["--validation_examples=2000", "--evaluation_batch_size=500", "--coefficient_rate=0.001"]


class Killed(Exception):
    """Ends a process, as far as a test can."""


class KillAt(keras.callbacks.Callback):
    """Raises at a moment."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self._epoch, self._batch, self._now = epoch, batch, None

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._now, batch) == (self._epoch, self._batch):
            raise Killed

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == (self._epoch, self._batch):
            raise Killed


def train(folder, *flags, kill=None):
    recipe, _ = parse([*SMALL, *flags, f"--run_dir={folder}"])
    run = Run(recipe, [] if kill is None else [KillAt(*kill)])
    if kill is None:
        return run.train()
    with pytest.raises(Killed):
        run.train()


def rows(folder, name):
    with open(folder / name, newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in found]


def scalars(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(e.step, tf.make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if tag.split("/")[0] in ("steps", "test", "validation", "train", "run")
        and "per_second" not in tag
    }


def weights(folder):
    return [np.array(w) for w in models.load(folder / "model.keras").weights]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flags") / "run"
    return folder, train(folder, *ALL)


def test_a_run_with_all_flags(whole):
    folder, summary = whole
    assert summary["step"] == 30 and "stopped_early" not in summary
    epochs = rows(folder, "metrics.csv")
    assert [row["epoch"] for row in epochs] == ["0", "1", "2", "3"]
    assert epochs[0]["step"] == "0" and epochs[0]["loss"] == ""
    assert 0 < float(epochs[0]["validation_top1"]) < 0.2 < float(epochs[3]["validation_top1"])
    assert float(epochs[3]["coefficient_amp"]) > float(epochs[1]["coefficient_amp"])
    steps = rows(folder, "steps.csv")
    assert [int(row["step"]) for row in steps] == [5, 10, 15, 20, 25, 30]
    assert [row["epoch"] for row in steps] == ["1", "1", "2", "2", "3", "3"]
    # The mean of an epoch is that of its rows.
    for epoch in range(3):
        parts = [float(row["loss"]) for row in steps[2 * epoch : 2 * epoch + 2]]
        assert np.mean(parts) == pytest.approx(float(epochs[epoch + 1]["loss"]), rel=1e-5)
    points = scalars(folder)
    assert [step for step, _ in points["steps/loss"]] == [5, 10, 15, 20, 25, 30]
    assert [step for step, _ in points["validation/top1"]] == [0, 10, 20, 30]
    assert [step for step, _ in points["run/coefficient_amp"]] == [10, 20, 30]
    repeated = (folder / "flags.txt").read_text()
    for flag in ALL:
        assert flag in repeated


@pytest.mark.every(3)
@pytest.mark.parametrize("kill", [(1, 2), (0, 6), (1, None)])
@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(kill, whole, tmp_path):
    folder, _ = whole
    train(tmp_path / "run", *ALL, kill=kill)
    with open(tmp_path / "run" / "steps.csv", "a") as file:
        file.write("2,19")  # cut off by the kill
    train(tmp_path / "run", *ALL)
    toy.assert_same(weights(tmp_path / "run"), weights(folder))
    assert rows(tmp_path / "run", "steps.csv") == rows(folder, "steps.csv")
    assert rows(tmp_path / "run", "metrics.csv") == rows(folder, "metrics.csv")
    assert scalars(tmp_path / "run") == scalars(folder)


@pytest.mark.slow
def test_the_averages_are_what_is_kept(whole):
    folder, summary = whole
    newest = Saved.at(folder / "checkpoints").weights()
    best = Saved.at(folder / "checkpoints" / "best").weights()
    final = Saved.at(folder).weights()
    assert set(newest) == set(best) >= {"network/dense0/kernel"}
    reader = tf.train.load_checkpoint(str(folder / "checkpoints"))
    trained = reader.get_tensor("network/dense0/kernel")
    average = reader.get_tensor("average/dense0/kernel")
    np.testing.assert_array_equal(newest["network/dense0/kernel"], average)
    np.testing.assert_array_equal(final["network/dense0/kernel"], average)
    assert np.abs(trained - average).max() > 1e-3
    assert summary["best_step"] <= 30


def test_evaluation_is_of_the_averages(whole, capsys):
    folder, summary = whole
    assert cli.train_main([f"--run_dir={folder}", "--mode=evaluate"]) == 0
    assert f"top-1 {summary['top1']:.4f}" in capsys.readouterr().out
    assert cli.main(["evaluate", f"--model={folder}"]) == 0
    assert f"top-1 {summary['top1']:.4f}" in capsys.readouterr().out


def test_flags_that_change_the_training_are_refused_on_resume(whole, capsys):
    folder, _ = whole
    code = cli.train_main([*SMALL, *ALL, f"--run_dir={folder}", "--ema_momentum=0.5"])
    assert code == 2 and "holds a run with --ema_momentum=0.9, not 0.5" in capsys.readouterr().err
    more = ["--log_every_steps=7", "--evaluation_batch_size=100"]
    assert cli.train_main([*SMALL, *ALL, *more, f"--run_dir={folder}"]) == 0


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """A run whose top-1 never rises, as it learns nothing."""
    folder = tmp_path_factory.mktemp("early") / "run"
    return folder, train(folder, *STUCK)


STUCK = ["--rule=backprop", "--learning_rate=1e-30", "--early_stopping=1"]


def test_a_run_stops_early(early, capsys):
    folder, summary = early
    assert summary["stopped_early"] and summary["step"] == 24 and summary["best_step"] == 12
    assert len(rows(folder, "metrics.csv")) == 2
    before = (folder / "summary.json").read_bytes()
    assert train(folder, *STUCK)["step"] == 24
    assert (folder / "summary.json").read_bytes() == before
    assert "Continuing at step 24" in capsys.readouterr().out


@pytest.mark.every(2)
@pytest.mark.parametrize("kill", [(1, None), (1, 3)])
def test_a_killed_run_stops_where_it_would_have(kill, early, tmp_path):
    train(tmp_path / "run", *STUCK, kill=kill)
    assert not (tmp_path / "run" / "summary.json").exists()
    summary = train(tmp_path / "run", *STUCK)
    assert summary["stopped_early"] and summary["step"] == 24
    toy.assert_same(weights(tmp_path / "run"), weights(early[0]))


def test_the_best_top1_is_known_without_the_table(early, tmp_path):
    folder = tmp_path / "run"
    train(folder, *STUCK, kill=(1, 7))  # after the checkpoint of step 16
    (folder / "metrics.csv").unlink()
    known = folder / "checkpoints" / "best" / "top1.json"
    text = known.read_text()
    known.unlink()  # as in a run of an earlier version
    with pytest.raises(UserError, match=r"lacks the row of step 12, .* put metrics\.csv back"):
        train(folder, *STUCK)
    known.write_text(text)
    summary = train(folder, *STUCK)
    assert summary["stopped_early"] and (summary["step"], summary["best_step"]) == (24, 12)
    assert summary["best_top1"] == early[1]["best_top1"]


def test_patience_counts_epochs_since_the_best():
    class Patient(Loop):
        def __init__(self, best):
            self.recipe, self.epoch_steps, self.best = Recipe(early_stopping=2), 10, best

    assert not Patient((0.5, 10)).stops_early(20)
    assert Patient((0.5, 10)).stops_early(30)
    assert not Patient((0.5, 10)).stops_early(35)  # within an epoch
    assert not Patient((-1.0, 0)).stops_early(30)  # nothing was evaluated


def test_what_others_read_of_it(whole):
    stored = json.loads((whole[0] / "summary.json").read_text())
    assert "--ema_momentum=0.9" in stored["flags"]
    records = curves(grouped(find_runs([whole[0]])))
    assert [record["step"] for record in records] == [0, 10, 20, 30]
    assert all(record["part"] == "validation" and record["top1"] for record in records)


def test_a_search_can_name_them(tmp_path):
    ranges = {"clipnorm": {"low": 0.1, "high": 10.0, "log": True}}
    ranges |= {"ema_momentum": {"low": 0.9, "high": 0.999}}
    ranges |= {"early_stopping": {"low": 2, "high": 5}}
    ranges |= {"feedback_schedule": {"choices": ["cosine", "constant"]}}
    (tmp_path / "space.json").write_text(json.dumps(ranges))
    found = space.get(str(tmp_path / "space.json"), Recipe(), set())
    assert set(found) == set(ranges) and found["early_stopping"].high == 5
    recipe = space.apply({name: one.extremes()[0] for name, one in found.items()}, Recipe())
    assert (recipe.clipnorm, recipe.early_stopping) == (0.1, 2)
