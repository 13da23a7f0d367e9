"""Measures what rules cost over plain Keras layers trained by backprop.

    python -m benchmarks [PART ...] [--quick] [--rounds=15] [--output=benchmarks/results/NAME.json]
        [--networks NETWORK ...] [--modes graph xla] [--precisions float32 bfloat16]
        [--series batch depth width replicas steps]
    python -m benchmarks budgets footprints --rules RULE ...
    python -m benchmarks budgets --against=CHECKOUT

Prints Markdown, with a verdict on each budget of `budgets.py`; `--output` also writes the JSON that
it is made of, and the Markdown beside it. All times of a table are of competitors that took turns.
With `--against` each rule's step takes turns with that of another checkout of the project.
"""

import argparse
import dataclasses
import datetime
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.budgets import RULES
from benchmarks.parts import FORMER_NAMES, PARTS, RULED, other_rules
from benchmarks.plan import MODES, NETWORKS, PRECISIONS, SERIES, Plan
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


def named(parts: Sequence[str]) -> list[str]:
    """The parts that are meant: all if none is named, and former names by those of today."""
    for name in parts:
        if name in FORMER_NAMES:
            now = FORMER_NAMES[name]
            warnings.warn(f"part {name!r} is called {now!r} now", FutureWarning, stacklevel=2)
    return [FORMER_NAMES.get(name, name) for name in parts] or list(PARTS)


def main() -> None:
    """Runs the parts that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="tiny cases, to see that all works")
    parser.add_argument("--rounds", type=int, default=None, help="default: 15, or 2 with --quick")
    parser.add_argument("--output", type=Path, help="JSON file; the Markdown goes beside it")
    parser.add_argument("--torch_python", default=sys.executable, help="Python that has PyTorch")
    words = "of `budgets`: a checkout of the revision to compare step times with"
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help=words)
    chosen = {"networks": (NETWORKS, "steps` and `budgets"), "modes": (MODES, "steps")}
    chosen |= {"precisions": (PRECISIONS, "steps"), "series": (SERIES, "growth")}
    for name, (known, part) in chosen.items():
        options = {"default": [*known], "choices": [*known], "help": f"of `{part}`"}
        parser.add_argument(f"--{name}", nargs="+", **options)
    words = f"of {', '.join(RULED)}: the rules to measure"
    parser.add_argument("--rules", nargs="+", default=[], metavar="RULE", help=words)
    flags = parser.parse_args()
    names = named(flags.parts)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}: choose of {', '.join(PARTS)}")
    if flags.against is not None and names != ["budgets"]:
        parser.error("--against goes with the part budgets alone: python -m benchmarks budgets ...")
    unknown = sorted({*flags.rules} - {*RULES, *other_rules()})
    if unknown:
        parser.error(f"no part measures the rule {unknown[0]!r}: choose of {', '.join(RULES)}, ...")
    if flags.rules and (flags.quick or {*flags.parts} - {*RULED}):
        parser.error(f"--rules goes with the parts {', '.join(RULED)}, without --quick")
    rounds = (2 if flags.quick else 15) if flags.rounds is None else flags.rounds
    if rounds < 1:
        parser.error(f"--rounds={rounds} must be at least 1")
    wanted = {name: getattr(flags, name) for name in [*chosen, "rules"]}
    plan = Plan(flags.quick, rounds, call, flags.torch_python, against=flags.against, **wanted)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    print(markdown(run(names, plan, command, flags.output)))


if __name__ == "__main__":
    main()
