"""Where the time of a step goes: TensorFlow's profiler, its trace kept, its ops summed up.

    python -m benchmarks.profile RULE ... [--network=resnet18@224] [--batch=16] [--steps=3]
        [--top=25] [--traces=FOLDER]

Prints for each rule, and for plain Keras layers trained by backprop, the time of each kind of op,
summed over threads; `--traces` keeps the traces, which TensorBoard's profile plugin opens.
"""

import argparse
import collections
import dataclasses
import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.cases import HEADLINE, PLAIN, Case, Training


@dataclasses.dataclass
class Profile:
    """What the ops of a step took.

    Attributes:
        by_kind: Kind of op -> milliseconds a step, summed over threads.
        by_op: Name of op and kind, `name:kind` -> likewise.
    """

    by_kind: collections.Counter
    by_op: collections.Counter


def profile(case: Case, steps: int, folder: Path) -> Profile:
    """Profiles steps of a training, after three that warm it up.

    Args:
        case: The training.
        steps: How many steps.
        folder: Where the trace goes.

    Returns:
        The time of each op.
    """
    training = Training(case)
    training.run(3)
    tf.profiler.experimental.start(str(folder))
    training.run(steps)
    tf.profiler.experimental.stop()
    (trace,) = folder.rglob("*.xplane.pb")
    return read(trace, steps)


def read(trace: Path, steps: int) -> Profile:
    """Sums up the ops of a trace.

    Args:
        trace: A `.xplane.pb` file.
        steps: How many steps it holds.

    Returns:
        The time of each op.
    """
    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    found = Profile(collections.Counter(), collections.Counter())
    for plane in space.planes:
        for line in plane.lines:
            if not line.name.startswith("tf_Compute"):
                continue
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name.count(":") == 1 and "::" not in name:
                    milliseconds = event.duration_ps / 1e9 / steps
                    found.by_op[name] += milliseconds
                    found.by_kind[name.split(":")[1]] += milliseconds
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rules", nargs="*")
    parser.add_argument("--top", type=int, default=30)
    a = parser.parse_args()
    res = {}
    for rule in [PLAIN, *a.rules]:
        folder = Path(tempfile.mkdtemp())
        res[rule] = profile(Case(rule=rule, **HEADLINE), 3, folder)
        print(
            rule,
            sum(f.stat().st_size for f in folder.rglob("*.pb")),
            sum(res[rule].by_kind.values()),
        )
    kinds = sorted(
        {k for r in res.values() for k in r.by_kind},
        key=lambda k: -max(r.by_kind[k] for r in res.values()),
    )
    for k in kinds[: a.top]:
        print(f"{k:40s}", *(f"{r.by_kind[k]:9.2f}" for r in res.values()))
