"""Real runs on the embedded set: what they write, that they repeat and continue exactly."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfcredit import cli, models
from tfcredit.training.recipe import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ["--model=fc", "--batch_size=64", "--checkpoint_every_steps=3"]


def command(folder, *flags):
    return [sys.executable, str(ROOT / "run_imagenet.py"), *SMALL, f"--run_dir={folder}", *flags]


def run(folder, *flags):
    done = subprocess.run(command(folder, *flags), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def weights(folder):
    model = models.load(folder / "model.keras")
    return [np.array(w) for w in (*model.weights, *model.optimizer.variables)]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    rule = "--rule=0.1 * decay + 0.1 * self + 0.0001 * amp + null * 0.0001"
    # At a rate at which rounding does not grow into another training.
    flags = ["--null=0.0002", "--learning_rate=0.002", "--feedback_learning_rate=0.003"]
    out = run(folder, rule, "--epochs=2", "--batch_size=1000", "--histograms", *flags)
    return folder, out


def test_a_run_says_what_it_does(finished):
    folder, out = finished
    assert "EMBEDDED" in out and "NOT ImageNet" in out
    assert f"Run directory: {folder}" in out and "tensorboard --logdir" in out
    assert out.count("angle of W and B") == 4


def test_metrics_have_a_row_per_epoch(finished):
    folder, _ = finished
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["12", "24"]
    expected = ["epoch", "step", "loss", "top1", "top5", "images_per_second"]
    assert list(rows[0])[:6] == expected
    for row in rows:
        parts = sum(float(row[name]) for name in ("task_loss", "l2_loss", "alignment_loss"))
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)


def test_the_summary_tells_the_results(finished):
    folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["step"] == 24 and summary["seed"] == 0 and summary["rule"] == "alignment"
    assert 0.3 < summary["top1"] <= summary["top5"] <= 1
    assert set(summary["angles"]) == {"dense0", "dense1", "dense2", "dense_output"}
    assert summary["versions"]["tensorflow"] == tf.__version__
    model = keras.models.load_model(folder / "model.keras")
    assert model.get_layer("dense0").rule.coefficients["null"] == 0.0002


def test_tensorboard_gets_grouped_scalars_and_histograms(finished):
    folder, _ = finished
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    expected = {"train/loss", "train/task_loss", "train/l2_loss", "train/alignment_loss"}
    expected |= {"train/top1", "test/top1", "test/top5", "run/images_per_second"}
    expected |= {"run/learning_rate", "run/feedback_learning_rate", "angle/mean", "angle/dense0"}
    expected |= {"norm_ratio/dense0", "R/dense0", "amp/dense0", "null/dense0", "decay/dense0"}
    expected |= {"W/dense0", "B/dense0", "_hparams_/session_start_info"}
    assert expected <= tags
    assert [e.step for e in events.Tensors("train/loss")] == [12, 24]
    angles = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("angle/mean")]
    assert len(angles) == 3 and abs(angles[0] - 90) < 5 and angles[-1] < angles[0]


@pytest.mark.slow
def test_the_flagfile_repeats_the_run(finished, tmp_path):
    folder, _ = finished
    again, _ = parse([f"--flagfile={folder / 'flags.txt'}"])
    assert (again.dataset, again.model, again.null) == ("embedded", "fc", 0.0002)
    repeated = tmp_path / "again"
    code = cli.train_main([f"--flagfile={folder / 'flags.txt'}", f"--run_dir={repeated}"])
    assert code == 0
    first, second = (json.loads((d / "summary.json").read_text()) for d in (folder, repeated))
    assert second["top1"] == pytest.approx(first["top1"], abs=0.02)
    assert second["flags"] == first["flags"]


def test_evaluation_finds_the_result_again(finished, capsys):
    folder, _ = finished
    flags = [f"--flagfile={folder / 'flags.txt'}", f"--run_dir={folder}", "--mode=evaluate"]
    assert cli.train_main(flags) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert f"top-1 {summary['top1']:.4f}" in capsys.readouterr().out


def test_a_finished_run_is_not_trained_again(finished, capsys):
    folder, _ = finished
    before = (folder / "metrics.csv").read_text()
    flags = [f"--flagfile={folder / 'flags.txt'}", f"--run_dir={folder}", "--resume=must"]
    assert cli.train_main(flags) == 0
    assert "Continuing at step 24" in capsys.readouterr().out
    assert (folder / "metrics.csv").read_text() == before


def written(folder):
    """Bytes of all checkpoints and measures, and the epochs without their speed."""
    paths = [*folder.glob("checkpoints/ckpt-*"), *folder.glob("measures.csv")]
    with open(folder / "metrics.csv", newline="") as file:
        rows = [{**row, "images_per_second": None} for row in csv.DictReader(file)]
    return {path.name: path.read_bytes() for path in paths}, rows


@pytest.mark.slow  # Quick tests compare a killed run with one that was not: test_survival.py.
def test_two_deterministic_runs_are_bit_identical(tmp_path):
    for name in ("a", "b"):
        run(tmp_path / name, "--steps=7", "--deterministic", "--rule=calibrated_mirror")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    files, rows = written(tmp_path / "a")
    assert (files, rows) == written(tmp_path / "b") and len(rows) == 1 and len(files) >= 4
    run(tmp_path / "c", "--steps=7", "--deterministic", "--rule=calibrated_mirror", "--seed=1")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "--rule=weight_mirror",
        "--rule=weight_mirror --accumulation_steps=2 --steps_per_execution=5",
        "--rule=info_alignment --strategy=mirrored --num_replicas=2",
    ],
)
def test_deterministic_runs_write_the_same_files(flags, tmp_path):
    always = "--model=conv --batch_size=240 --checkpoint_every_steps=20 --steps=60 --deterministic"
    flags = [*always.split(), "--measures", "--measure_every_steps=20", *flags.split()]
    for index in range(3):
        run(tmp_path / str(index), *flags)
    first = written(tmp_path / "0")
    assert "measures.csv" in first[0] and len(first[1]) == 2
    assert all(written(tmp_path / other) == first for other in ("1", "2"))


@pytest.mark.slow  # Quick tests kill runs of one rule: test_survival.py.
@pytest.mark.parametrize(
    "flags",
    [
        "--rule=info_alignment --alignment_fraction=0.5 --alignment_every=2",
        "--rule=brsf",
    ],
)
def test_a_killed_run_continues_bit_for_bit(flags, tmp_path):
    flags = ["--steps=400", "--deterministic", *flags.split()]
    flags += ["--measures", "--measure_every_steps=150"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, *flags)
    process = subprocess.Popen(
        command(broken, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 120
    while not (broken / "checkpoints" / "checkpoint").exists() and time.time() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "model.keras").exists()
    out = run(broken, *flags, "--resume=auto")
    assert "Continuing at step" in out
    assert same(weights(whole), weights(broken))
    measures = [(d / "measures.csv").read_text() for d in (whole, broken)]
    assert measures[0] == measures[1]
    assert {r.split(",")[0] for r in measures[0].split()[1:]} == {"0", "150", "300", "400"}
    rows = [(d / "metrics.csv").read_text().splitlines() for d in (whole, broken)]
    without_speed = [[line.split(",")[:5] for line in table] for table in rows]
    assert without_speed[0] == without_speed[1]


def test_a_loss_that_is_not_finite_stops_with_the_layer(tmp_path, capsys):
    folder = tmp_path / "run"
    flags = [*SMALL, "--steps=50", "--learning_rate=1e9", "--schedule=constant"]
    code = cli.train_main([*flags, "--warmup_epochs=0", f"--run_dir={folder}"])
    error = capsys.readouterr().err
    assert code == 2
    assert "not finite at step" in error and "dense" in error
    assert "last good checkpoint" in error
    assert "not finite at step" in (folder / "diverged.txt").read_text()


@pytest.mark.every(4)
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("flag", ["--learning_rate=1e6", "--l2=1e9"])
def test_a_run_of_parts_that_diverges_is_stopped(flag, precision, tmp_path, capsys):
    small = ["--model=fc", "--batch_size=32", "--steps=30", f"--run_dir={tmp_path / 'run'}"]
    flags = ["--warmup_epochs=0", "--accumulation_steps=2", f"--precision={precision}", flag]
    code = cli.train_main([*small, *flags])
    keras.mixed_precision.set_dtype_policy("float32")
    told = capsys.readouterr().err
    assert code == 2 and "not finite at step" in told and "layer 'dense" in told


@pytest.mark.slow
def test_a_run_that_skips_all_steps_is_stopped(tmp_path, capsys):
    """Under float16, B runs beyond it in the first step, which no loss scale helps."""
    flags = ["--model=fc", "--batch_size=32", "--precision=float16", "--rule=weight_mirror"]
    flags += ["--amp=1e9", "--feedback_optimizer=momentum", "--feedback_learning_rate=1"]
    code = cli.train_main([*flags, "--steps=40", f"--run_dir={tmp_path / 'run'}"])
    keras.mixed_precision.set_dtype_policy("float32")
    assert code == 2 and "not finite at step" in capsys.readouterr().err


@pytest.mark.every(3)
@pytest.mark.parametrize("flags", [[], ["--measures", "--measure_every_steps=2"]])
def test_skipped_steps_are_told_and_counted(flags, tmp_path, capsys, monkeypatch):
    build = keras.optimizers.LossScaleOptimizer.build

    def with_a_large_scale(optimizer, variables):
        build(optimizer, variables)
        optimizer.dynamic_scale.assign(2.0**26)

    monkeypatch.setattr(keras.optimizers.LossScaleOptimizer, "build", with_a_large_scale)
    folder = tmp_path / "run"
    small = ["--model=fc", "--batch_size=3000", "--precision=float16", f"--run_dir={folder}"]
    assert cli.train_main([*small, *flags, "--epochs=2", "--learning_rate=0.001"]) == 0
    keras.mixed_precision.set_dtype_policy("float32")
    assert "steps of epoch 1 were skipped" in capsys.readouterr().out
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("train/loss")] == [4, 8]
    expected = [0, 2, 4, 6, 8] if flags else [0, 4, 8]
    assert [event.step for event in events.Tensors("angle/mean")] == expected


@pytest.mark.every(4)
@pytest.mark.parametrize(
    "flags",
    [
        "--rule=symmetric_alignment --precision=float16",
        "--rule=calibrated_activation --precision=bfloat16",
        "--rule=kolen_pollack --noise=normal --noise_variance=1e-6",
        "--rule=weight_mirror --inputs=noise=normal --delay_epochs=0.01 --alternate_steps=2",
        "--rule=0.002*amp+0.001*null --coefficient_change=linear --coefficient_rate=0.1",
        "--rule=frsf --model=conv",
        pytest.param(
            "--model=resnet8 --width=4 --jit_compile --alignment_fraction=0.3",
            marks=pytest.mark.slow,
        ),
        "--alignment_every=3 --precision=float16 --noise=normal --noise_variance=1e-6",
        "--alignment_precision=bfloat16 --alignment_fraction=0.25",
        "--rule=backprop --model=resnet20 --width=4 --schedule=steps --optimizer=adam",
    ],
)
def test_flags_train(flags, tmp_path):
    folder = tmp_path / "run"
    small = ["--model=fc", "--batch_size=32", "--steps=4", f"--run_dir={folder}"]
    assert cli.train_main([*small, *flags.split()]) == 0
    assert json.loads((folder / "summary.json").read_text())["step"] == 4
    keras.mixed_precision.set_dtype_policy("float32")
