"""Replicas, workers, accumulation and executions give the weights of one device."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(__file__).with_name("strategy_worker.py")
STEPS = 20
SHARED = ["--model=fc", "--batch_size=48", f"--steps={STEPS}", "--l2=0.001"]
RULES = [
    *("backprop", "feedback_alignment", "kolen_pollack", "brsf", "frsf", "symmetric_alignment"),
    *("info_alignment", "activation_alignment", "weight_mirror"),
    *("calibrated_mirror", "calibrated_activation", "tracking_mirror", "tracking_activation"),
]
CASES = {rule: [f"--rule={rule}"] for rule in RULES}
CASES |= {
    "sgd": ["--rule=info_alignment", "--feedback_optimizer=momentum"],
    "one_optimizer_for_w": ["--rule=info_alignment", "--optimizer=adam", "--learning_rate=0.001"],
    "noisy": ["--rule=info_alignment", "--noise=normal", "--noise_variance=0.01"],
    "bfloat16": ["--rule=info_alignment", "--precision=bfloat16"],
    "float16": ["--rule=info_alignment", "--precision=float16"],
    "accumulated": ["--rule=info_alignment", "--accumulation_steps=3"],
    "accumulated_mirror": ["--rule=weight_mirror", "--accumulation_steps=2"],
    "executions": ["--rule=info_alignment", "--steps_per_execution=6"],
    "every": ["--rule=info_alignment", "--alignment_every=4"],
    "averages": ["--rule=kolen_pollack", "--ema_momentum=0.9", "--weight_decay=0.1"],
    "averages_apart": [
        *("--rule=info_alignment", "--ema_momentum=0.9", "--global_clipnorm=0.5"),
        *("--weight_decay=0.1", "--alignment_every=4", "--feedback_schedule=cosine"),
    ],
    "every_accumulated": [
        "--rule=info_alignment",
        "--alignment_every=4",
        "--accumulation_steps=3",
        "--steps_per_execution=6",
    ],
    "sync_batch_norm": [
        "--rule=info_alignment",
        "--model=resnet8",
        "--sync_batch_norm",
        "--steps=1",
        "--schedule=constant",
        "--feedback_optimizer=momentum",
    ],
}
QUICK = ["calibrated_mirror", "every_accumulated", "sync_batch_norm"]
QUICK_REPLICAS = ["calibrated_mirror", "every_accumulated", "kolen_pollack"]
"""One of each kind of rule; the slow tests compare all."""
ALL = pytest.param([*CASES], id="all", marks=pytest.mark.slow)
SAME = {"accumulated": "info_alignment", "executions": "info_alignment"}
SAME |= {"accumulated_mirror": "weight_mirror", "every_accumulated": "every"}
"""Cases that must give the weights of another one."""
TOLERANCE = {"bfloat16": 0.1, "float16": 0.1, "sync_batch_norm": 1e-4}
"""Where rounding differs with the size of a batch. ResNet-8 takes one step, whose learning rate
warms up from 0: compared are the feedback kernels, which R has taught, and batch norm's statistics.
In later steps a relu whose input rounds to the other side of 0 tells two runs apart."""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def start(output, *flags, names):
    cases = [f"--case={name}:{';'.join(CASES[name])}" for name in names]
    command = [sys.executable, str(WORKER), str(output), *SHARED, *flags, *cases]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, seconds=500):
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out[-4000:]
    return out


def ports(count):
    """Free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def workers(count):
    return "--workers=" + ",".join(f"localhost:{port}" for port in ports(count))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """A function that trains cases on one device, each once, without accumulation, executions."""
    results = {}

    def train(names):
        done = {key.split("|")[0] for key in results}
        todo = {SAME.get(name, name) for name in names} - done
        if todo:
            output = tmp_path_factory.mktemp("one") / "one.npz"
            finish(start(output, names=sorted(todo)))
            results.update(np.load(output))
        for name in set(names) & set(SAME) - done:
            for key in [key for key in results if key.startswith(f"{SAME[name]}|")]:
                results[key.replace(SAME[name], name, 1)] = results[key]
        return results

    return train


def compare(results, reference, replicas, names):
    for name in names:
        tolerance = TOLERANCE.get(name, 1e-5)
        keys = [key for key in reference if key.startswith(f"{name}|")]
        assert len(keys) > 10
        for key in keys:
            _, replica, path = key.split("|")
            expected = reference[key]
            if replica == "metric":
                np.testing.assert_allclose(
                    results[key], expected, rtol=20 * tolerance, atol=20 * tolerance, err_msg=key
                )
                continue
            copies = [results[f"{name}|{r}|{path}"] for r in range(replicas)]
            for copy in copies[1:]:
                np.testing.assert_array_equal(copy, copies[0], err_msg=key)
            # 1e-6 is the rounding of what stays near 0.
            limit = tolerance * np.abs(expected).max() + 1e-6
            assert np.abs(copies[0] - expected).max() <= limit, key


@pytest.mark.multi_device
@pytest.mark.parametrize("names", [pytest.param(QUICK_REPLICAS, id="quick"), ALL])
@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_replicas_equal_one_device(replicas, names, one_device, tmp_path):
    finish(start(tmp_path / "out.npz", f"--num_replicas={replicas}", names=names))
    compare(np.load(tmp_path / "out.npz"), one_device(names), replicas, names)


@pytest.mark.multi_device
def test_replicas_share_the_averages_of_batch_norm(tmp_path, monkeypatch):
    flags = ["--rule=info_alignment", "--model=resnet8", "--width=4", "--steps=2"]
    monkeypatch.setitem(CASES, "batch_norm", flags)
    finish(start(tmp_path / "out.npz", "--num_replicas=2", names=["batch_norm"]))
    results = np.load(tmp_path / "out.npz")
    averages = [key for key in results if "|0|" in key and "moving" in key]
    assert len(averages) == 20
    for key in averages:
        np.testing.assert_array_equal(results[key], results[key.replace("|0|", "|1|")])


@pytest.mark.multi_device
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_replicas_drop_units_of_their_own(accumulation_steps, two_cpus):
    """One image on each: a weight's gradient is the mean of two units that are there or not."""
    printed = two_cpus(
        """
import sys

import keras
import numpy as np
import tensorflow as tf

import tfcredit
from tfcredit.training.trainer import Trainer

parts = int(sys.argv[1])
with strategy.scope():
    dropout = keras.layers.Dropout(0.5, seed=3)
    dense = tfcredit.layers.Dense(2, rule="kolen_pollack", kernel_initializer="zeros", seed=2)
    network = keras.Sequential([keras.Input((400,)), dropout, dense])
    network.compile(keras.optimizers.SGD(1.0))
    trainer = Trainer(network, strategy=strategy, accumulation_steps=parts)
images = tf.data.Dataset.from_tensors((np.ones((2, 400), "float32"), np.zeros(2, "int32")))
trainer.run(iter(strategy.experimental_distribute_dataset(images.repeat())), 1, first=0)
change = np.abs(dense.kernel.numpy()[:, 0])
print(*np.bincount(np.round(change / change.max() * 2 * parts).astype(int)))
for state in strategy.experimental_local_results(dropout.seed_generator.state.value):
    print(*state.numpy())
""",
        str(accumulation_steps),
    )
    counts, *states = printed.splitlines()
    counts = [int(each) for each in counts.split()]
    # Binomial: of 400 units 100 : 200 : 100, or 25 : 100 : 150 : 100 : 25.
    assert counts[1] > (150 if accumulation_steps == 1 else 70)
    assert states == [states[0]] * 2 and states[0].startswith("3 ")


@pytest.mark.slow
@pytest.mark.multi_device
def test_accumulation_and_executions_equal_single_steps(one_device, tmp_path):
    names = ["accumulated", "accumulated_mirror", "executions", "every_accumulated"]
    finish(start(tmp_path / "out.npz", names=names))
    compare(np.load(tmp_path / "out.npz"), one_device(names), 1, names)


@pytest.mark.slow
@pytest.mark.multi_device
@pytest.mark.parametrize("names", [pytest.param(QUICK, id="quick"), ALL])
def test_two_workers_equal_one_device(names, one_device, tmp_path):
    cluster, outputs = workers(2), [tmp_path / f"{i}.npz" for i in range(2)]
    processes = [
        start(output, cluster, f"--worker={i}", "--strategy=multi_worker", names=names)
        for i, output in enumerate(outputs)
    ]
    for process in processes:
        finish(process)
    for output in outputs:
        compare(np.load(output), one_device(names), 1, names)


@pytest.mark.slow
@pytest.mark.multi_device
def test_noise_differs_between_replicas_and_repeats(tmp_path, monkeypatch):
    monkeypatch.setitem(CASES, "inputs", ["--rule=weight_mirror", "--inputs=noise=normal"])
    results = []
    for number, replicas in enumerate((1, 2, 2)):
        output = tmp_path / f"{number}.npz"
        finish(start(output, f"--num_replicas={replicas}", names=["inputs"]))
        results.append(np.load(output))
    one, two, again = results
    feedback = [key for key in one if "|0|" in key and key.endswith("feedback_kernel")]
    assert len(feedback) == 4
    for key in feedback:
        np.testing.assert_array_equal(two[key], again[key])
        # Alike on both replicas it would equal one device with half a batch's noise twice.
        assert np.abs(two[key] - one[key]).max() > 1e-6
