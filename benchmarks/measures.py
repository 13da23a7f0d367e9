"""Measurements of one process; each function takes and gives plain data."""

import dataclasses
import gc
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.cases import PLAIN, Case, Training
from benchmarks.timing import interleave, summary, summary_of_both, timed
from tfcredit.environment import environment
from tfcredit.training.checkpoints import Checkpoints

TORCH = Path(__file__).with_name("torch_baselines.py")


def surroundings() -> dict:
    """Machine and versions."""
    with open("/proc/cpuinfo") as file:
        facts = dict(line.split(":", 1) for line in file if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    # In virtual machines the name is often the maker's alone: two generations of one share it.
    named = {"": "model name", "family ": "cpu family", "model ": "model"}
    known = [label + facts[key] for label, key in named.items() if key in facts]
    found = environment() | {"processor": ", ".join(known) or "unknown"}
    return found | {"bfloat16": bool({"avx512_bf16", "amx_bf16"} & set(flags))}


def step_times(setting: dict, rules: Sequence[str], rounds: int, calls: int) -> list[dict]:
    """Times steps of some rules and of the baseline, in turn.

    Args:
        setting: Arguments of `Case`, the rule apart.
        rules: The rules.
        rounds: How often each has its turn.
        calls: Calls of the compiled function per turn.

    Returns:
        A row for the baseline and for each rule.
    """
    trainings = {rule: Training(Case(rule=rule, **setting)) for rule in [PLAIN, *rules]}
    runs = {rule: training.runner(calls) for rule, training in trainings.items()}
    seconds = interleave(runs, rounds)
    load = statistics.mean(seconds.pop("load"))
    return [
        dataclasses.asdict(trainings[rule].case)
        | summary_of_both(values, seconds[PLAIN])
        | {"bound": trainings[rule].bound(), "rounds": rounds, "load": load}
        for rule, values in seconds.items()
    ]


def footprint(setting: dict, rule: str, steps: int) -> dict:
    """Memory and start of a training that has this process for itself.

    Args:
        setting: Arguments of `Case`, the rule apart.
        rule: The rule.
        steps: How many steps after the first.

    Returns:
        Bytes at the peak, resident ones and those of TensorFlow's tensors, and of the variables;
        seconds to build, to trace a step, of the first step without that, of a later one; the
        FLOP bound of a step.
    """
    started = time.perf_counter()
    training = Training(Case(rule=rule, **setting))
    built = time.perf_counter() - started
    gc.collect()  # the baseline is made of another network, which would live on for a while
    traced = training.trace()
    first = training.run()
    later = statistics.median(training.run() for _ in range(steps))
    return {
        "peak": _peak(),
        "tensors": tf.config.experimental.get_memory_info("CPU:0")["peak"],
        "variables": _bytes(training),
        "build": built,
        "traced": traced,
        "first": first,
        "later": later,
        "bound": training.bound(),
        "load": os.getloadavg()[0],
    }


def _peak() -> int:
    """The most resident bytes that Linux has seen of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise LookupError("VmHWM")


def _bytes(training: Training) -> int:
    return sum(v.dtype.size * v.shape.num_elements() for v in training.trainer.state.values())


def checkpoint_times(setting: dict, rules: Sequence[str], rounds: int) -> list[dict]:
    """Times saving and restoring all state of a training, in turn.

    Args:
        setting: Arguments of `Case`, the rule apart.
        rules: The rules.
        rounds: How often each has its turn.

    Returns:
        A row for the baseline and for each rule: both times and the size in bytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept, runs, names = {}, {}, [PLAIN, *rules]
        for number, rule in enumerate(names):
            training = Training(Case(rule=rule, **setting))
            training.run()
            where = Path(folder) / str(number)
            checkpoints = Checkpoints(where, training.trainer.state, keep=1)
            kept[rule] = training, where
            runs[rule, "save"] = timed(checkpoints.save, 1)
            runs[rule, "restore"] = timed(checkpoints.restore)
        seconds = interleave(runs, rounds)
        load = statistics.mean(seconds.pop("load"))
        rows = []
        for rule in names:
            training, where = kept[rule]
            row = dataclasses.asdict(training.case) | {"rounds": rounds, "load": load}
            for way in ("save", "restore"):
                found = summary(seconds[rule, way], seconds[PLAIN, way])
                row |= {f"{way}_{key}": value for key, value in found.items()}
            row["variables"] = _bytes(training)
            row["disk"] = sum(f.stat().st_size for f in where.rglob("*") if f.is_file())
            rows.append(row)
        return rows


def baseline_times(
    setting: dict, rules: Sequence[str], methods: Sequence[str], python: str, rounds: int
) -> list[dict]:
    """Times our steps and PyTorch's, in two processes that take turns.

    Args:
        setting: Arguments of `Case`, the rule apart; the network is `resnet18`.
        rules: Our rules.
        methods: BioTorch's; the first is PyTorch's own backprop.
        python: The interpreter that has PyTorch.
        rounds: How often each has its turn.

    Returns:
        A row for each, with images per second and the ratio to the backprop of its own framework.
    """
    size = setting["network"].split("@")[1]
    command = [python, str(TORCH), str(setting["batch"]), size, *methods]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        described = other.stdout.readline().strip()
        trainings = {rule: Training(Case(rule=rule, **setting)) for rule in [PLAIN, *rules]}
        runs = {("tfcredit", rule): _by_clock(t.runner(1)) for rule, t in trainings.items()}
        runs |= {("PyTorch", method): _asking(other, method) for method in methods}
        seconds = interleave(runs, rounds)
        other.stdin.close()
    load = statistics.mean(seconds.pop("load"))
    own = {"tfcredit": PLAIN, "PyTorch": methods[0]}
    versions = {"tfcredit": f"Keras {keras.__version__}", "PyTorch": described}
    return [
        setting
        | {"framework": framework, "rule": rule, "versions": versions[framework]}
        | summary(values, seconds[framework, own[framework]])
        | {"images_per_second": setting["batch"] / statistics.median(values)}
        | {"rounds": rounds, "load": load}
        for (framework, rule), values in seconds.items()
    ]


def _by_clock(run: Callable[[], tuple[float, float]]) -> Callable[[], float]:
    """The wall-clock seconds of a turn alone."""
    return lambda: run()[0]


def _asking(other: subprocess.Popen, method: str):
    def run() -> float:
        other.stdin.write(f"{method}\n")
        other.stdin.flush()
        return float(other.stdout.readline())

    return run


def sequence_times(setting: dict, rules: Sequence[str], rounds: int) -> list[dict]:
    """Steps of a recurrent layer: `sequences.py`."""
    from benchmarks import sequences

    return sequences.sequence_times(setting, rules, rounds)


def input_speeds(seconds: float, rounds: int) -> list[dict]:
    """Images per second of the input pipeline: `input_pipeline.py`."""
    from benchmarks import input_pipeline

    return list(input_pipeline.speeds(seconds, rounds))
