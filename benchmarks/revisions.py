"""Step times of this checkout against another revision's, in two processes that take turns.

Each process loads tfcredit from its own checkout and runs `revision_worker.py` of this one, which
relies on names that both revisions have. A round is a turn of each, in an order of its own.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import ROOT
from benchmarks.budgets import HEADLINE, REVISION_BUDGET, RULES
from benchmarks.plan import FOLLOWED, QUICK, Plan
from benchmarks.report import BUDGET, LOAD, RATIO, VERDICT, Table, judge, title
from benchmarks.timing import interleave, summary_of_both
from tfcredit import rules

WORKER = Path(__file__).with_name("revision_worker.py")
TOGETHER = 3
"""Rules that share a pair of processes: their networks have to fit into memory twice."""
CALLS = 2
"""Steps per turn, behind one that is not counted."""
MOMENTUM = ["momentum", 1e-3]
COLUMNS = [
    ("rule", "rule", "name"),
    ("ms a step before", "before", "ms"),
    ("ms a step", "seconds", "ms"),
    RATIO,
    ("ratio of CPU time", "cpu_ratio", "spread"),
    BUDGET,
    VERDICT,
    LOAD,
]


def compared(plan: Plan, checkout: Path) -> Table:
    """Step time of each rule that has a budget, here over there.

    Args:
        plan: How much is measured.
        checkout: The root of the other checkout.

    Returns:
        The table; `seconds` and ratios are this checkout's.
    """
    setting = QUICK if plan.quick else HEADLINE
    theirs = _names(checkout)
    names = plan.chosen(FOLLOWED if plan.quick else RULES)
    names = [name for name in names if rules.get(name).name in theirs]
    rows = []
    for start in range(0, len(names), TOGETHER):
        rows += step_times(checkout, setting, names[start : start + TOGETHER], plan.rounds)
    note = (
        f"Ratios are to the same step at revision {_revision(checkout)}, of pairs: two processes, "
        "each with its checkout's package, take turns. Other programs disturb CPU time less."
    )
    judged = [judge(row, row["ratio"], REVISION_BUDGET) for row in rows]
    return Table("budgets", f"against a revision; {title(setting)}", note, COLUMNS, judged)


def step_times(checkout: Path, setting: dict, names: Sequence[str], rounds: int) -> list[dict]:
    """Times steps of rules here and in another checkout, in pairs.

    Args:
        checkout: The root of the other checkout.
        setting: Network and batch; what else it holds is what both take by default.
        names: The rules.
        rounds: Pairs of turns.

    Returns:
        A row for each rule.
    """
    job = {"network": setting["network"], "batch": setting["batch"]}
    job["trainings"] = {name: _optimizers(name) for name in names}
    rows = []
    with _worker(checkout, job) as before, _worker(ROOT, job) as here:
        for name in names:
            runs = {
                "before": lambda name=name: before(f"{name}\t{CALLS}"),
                "here": lambda name=name: here(f"{name}\t{CALLS}"),
            }
            seconds = interleave(runs, rounds)
            rows.append(setting | {"rule": name, "rounds": rounds} | _summary(seconds))
            ratio, cpu = rows[-1]["ratio"], rows[-1]["cpu_ratio"]
            print(f"{name}: {ratio:.3f}, by CPU time {cpu:.3f}", file=sys.stderr, flush=True)
    return rows


def _summary(seconds: dict[str, list]) -> dict[str, float]:
    """Medians and quartiles of both clocks over the rounds of a rule."""
    before = {"before": statistics.median(wall for wall, _ in seconds["before"])}
    both = summary_of_both(seconds["here"], seconds["before"])
    return before | both | {"load": statistics.mean(seconds["load"])}


def _optimizers(name: str) -> dict:
    """Names and rates of the optimizers, stated here so that both checkouts have the same."""
    rule = rules.get(name)
    separate = rule.learns and not rule.follows_forward
    return {"forward": MOMENTUM, "feedback": rule.feedback_optimizer if separate else None}


@contextlib.contextmanager
def _worker(checkout: Path, job: dict) -> Iterator[Callable[[str], list[float]]]:
    """A process of a checkout, as a call that gives wall and CPU seconds of a step of a rule."""
    root = checkout.resolve()
    # Of the interpreter's path only the checkout comes first: not this script's own folder (-P).
    process = subprocess.Popen(
        [sys.executable, "-P", str(WORKER), json.dumps(job)],
        cwd=root,
        env=_environment(root),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(request: str) -> list[float]:
        process.stdin.write(f"{request}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {root} ended: exit code {process.wait()}")
        return [float(seconds) for seconds in answer.split()]

    with process:
        origin = process.stdout.readline().strip()
        if not Path(origin).is_relative_to(root):
            raise RuntimeError(f"{root} is no checkout of tfcredit: it loads {origin or 'nothing'}")
        yield ask
        process.stdin.close()


def _names(checkout: Path) -> set[str]:
    """The rules that a checkout has."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from tfcredit import rules; print(*rules.names())"],
        cwd=checkout,
        env=_environment(checkout.resolve()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{checkout} is no checkout of tfcredit: {done.stderr.strip()}")
    return set(done.stdout.split())


def _environment(root: Path) -> dict[str, str]:
    """The environment of a process that loads a checkout's package."""
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore"}


def _revision(checkout: Path) -> str:
    """The other checkout's revision, or its path where Git knows none."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or str(checkout)
