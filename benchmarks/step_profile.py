"""Profiles of a step: the time of TensorFlow's ops summed up by kind, and the traces kept.

    python -m benchmarks.step_profile [RULE ...] [--network=resnet18@224] [--batch=16] [--steps=8]
        [--top=25] [--output=benchmarks/results/profile.md] [--traces=FOLDER]

Prints, for plain Keras layers trained by backprop and for each rule, the milliseconds a step that
ops of each kind take, summed over the threads they start on (an op that uses several counts its own
time once). `--traces` keeps each trace as NAME.xplane.pb.gz; unpacked into
LOGDIR/plugins/profile/NAME/ TensorBoard's profile plugin opens it.
"""

# Not "profile": scripts in this folder have it first on their path, and Python's own cProfile
# imports a module of that name.

import argparse
import collections
import datetime
import gzip
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.budgets import HEADLINE
from benchmarks.cases import PLAIN, Case, Training
from benchmarks.measures import surroundings
from benchmarks.report import surroundings_line


def profile(case: Case, steps: int) -> bytes:
    """Profiles steps of a training, after three that warm it up.

    Args:
        case: The training.
        steps: How many steps.

    Returns:
        The trace: a serialised XSpace.
    """
    training = Training(case)
    training.run(3)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        training.run(steps)
        tf.profiler.experimental.stop()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        # The folder's name is in it; as many bytes keep the message valid.
        return trace.read_bytes().replace(folder.encode(), b"." * len(folder))


def by_kind(trace: bytes, steps: int) -> collections.Counter:
    """Sums up the ops of a trace.

    Args:
        trace: What `profile` gave.
        steps: How many steps it holds.

    Returns:
        Kind of op -> milliseconds a step.
    """
    found = collections.Counter()
    for plane in xplane_pb2.XSpace.FromString(trace).planes:
        for line in plane.lines:
            if not line.name.startswith("tf_Compute"):
                continue
            for event in line.events:
                # `name:kind` is an op; the executor's own events have other names.
                name, *kind = plane.event_metadata[event.metadata_id].name.split(":")
                if len(kind) == 1:
                    found[kind[0]] += event.duration_ps / 1e9 / steps
    return found


def markdown(found: Mapping[str, collections.Counter], top: int) -> str:
    """A table of the kinds that take longest.

    Args:
        found: Rule -> what `by_kind` gave.
        top: How many kinds.

    Returns:
        Markdown; the last row is the sum over all kinds.
    """
    longest = collections.Counter()
    for times in found.values():
        longest |= times
    lines = [
        f"| op | {' | '.join(f'`{rule}`' for rule in found)} |",
        "|---" * (len(found) + 1) + "|",
    ]
    for kind, _ in longest.most_common(top):
        lines.append(f"| {kind} | {' | '.join(f'{each[kind]:.1f}' for each in found.values())} |")
    sums = " | ".join(f"{each.total():.0f}" for each in found.values())
    return "\n".join([*lines, f"| all | {sums} |"]) + "\n"


def main() -> None:
    """Profiles the rules that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_profile", description=__doc__.split("\n")[0]
    )
    parser.add_argument("rules", nargs="*", metavar="RULE")
    parser.add_argument("--network", default=HEADLINE["network"])
    parser.add_argument("--batch", type=int, default=HEADLINE["batch"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--output", type=Path, help="Markdown file")
    parser.add_argument("--traces", type=Path, help="folder for the traces")
    flags = parser.parse_args()
    found = {}
    for rule in [PLAIN, *flags.rules]:
        trace = profile(Case(flags.network, flags.batch, rule), flags.steps)
        found[rule] = by_kind(trace, flags.steps)
        if flags.traces is not None:
            flags.traces.mkdir(parents=True, exist_ok=True)
            name = re.sub(r"\W+", "_", rule).strip("_")
            (flags.traces / f"{name}.xplane.pb.gz").write_bytes(gzip.compress(trace, mtime=0))
    table = markdown(found, flags.top)
    if flags.output is not None:
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        title = f"{flags.network}, batch {flags.batch}: milliseconds a step by kind of op"
        begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
        about = f"{begun}, {flags.steps} steps. {surroundings_line(surroundings())}"
        flags.output.write_text(f"# {title}\n\n{about}\n\n{table}")
    print(table)


if __name__ == "__main__":
    main()
