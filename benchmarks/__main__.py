"""What a rule costs over plain Keras layers trained by backprop.

    python -m benchmarks [PART ...] [--quick] [--rounds=15] [--output=benchmarks/results/NAME.json]
        [--networks NETWORK ...] [--modes graph xla] [--precisions float32 bfloat16]
        [--series batch depth width replicas steps]

Prints Markdown, with a verdict on each bar of `cases.py`; `--output` also writes the JSON that it
is made of, and the Markdown beside it. All times of a table are of competitors that took turns.
"""

import argparse
import dataclasses
import datetime
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.parts import MODES, NETWORKS, PARTS, PRECISIONS, SERIES, Plan
from benchmarks.report import Table, markdown
from benchmarks.worker import call


def run(names: Sequence[str], plan: Plan, command: str, output: Path | None = None) -> dict:
    """Runs parts.

    Args:
        names: Their names.
        plan: How much is measured.
        command: What was asked for, for the report.
        output: The JSON file, or `None`; it is written after each table, with its Markdown.

    Returns:
        The report.
    """
    started = time.perf_counter()
    begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    report = {"environment": plan.call("surroundings"), "command": command, "begun": begun}
    report |= {"minutes": 0.0, "tables": []}
    for name in names:
        for table in _tables(name, plan):
            report["tables"].append(dataclasses.asdict(table))
            report["minutes"] = (time.perf_counter() - started) / 60
            print(f"{name}: {table.title}, {report['minutes']:.1f} min", file=sys.stderr)
            if output is not None:
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_text(json.dumps(report, indent=1) + "\n")
                output.with_suffix(".md").write_text(markdown(report))
    return report


def _tables(name: str, plan: Plan) -> Iterator[Table]:
    """The tables of a part; one that says what failed, so that the others are not lost."""
    try:
        yield from PARTS[name](plan)
    except RuntimeError as problem:
        yield Table(name, "failed", f"`{problem}`", [], [])


def main() -> None:
    """Runs the parts that are named, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that all works")
    parser.add_argument("--rounds", type=int, default=None, help="default: 15, or 2 with --quick")
    parser.add_argument("--output", type=Path, help="JSON file; the Markdown goes beside it")
    parser.add_argument("--torch_python", default=sys.executable, help="Python that has PyTorch")
    chosen = {"networks": (NETWORKS, "steps"), "modes": (MODES, "steps")}
    chosen |= {"precisions": (PRECISIONS, "steps"), "series": (SERIES, "growth")}
    for name, (known, part) in chosen.items():
        options = {"default": [*known], "choices": [*known], "help": f"of `{part}`"}
        parser.add_argument(f"--{name}", nargs="+", **options)
    flags = parser.parse_args()
    unknown = [name for name in flags.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}: choose of {', '.join(PARTS)}")
    rounds = flags.rounds or (2 if flags.quick else 15)
    wanted = {name: getattr(flags, name) for name in chosen}
    plan = Plan(flags.quick, rounds, call, flags.torch_python, **wanted)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    print(markdown(run(flags.parts or list(PARTS), plan, command, flags.output)))


if __name__ == "__main__":
    main()
