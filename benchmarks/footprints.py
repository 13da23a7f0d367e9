"""The part `footprints`: memory and start of processes that have one training each."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.budgets import HEADLINE, MEMORY_BUDGET, RULES, TRACING_BUDGET
from benchmarks.cases import PLAIN
from benchmarks.plan import FOLLOWED, QUICK, Plan
from benchmarks.report import BUDGET, LOAD, VERDICT, Table, judge, title
from benchmarks.timing import quartiles


def footprints(plan: Plan) -> Iterator[Table]:
    """Peak memory and the start of processes that have one training each."""
    cases = [
        (HEADLINE, RULES),
        ({"network": "resnet50v2@224", "batch": 8}, RULES),
        (HEADLINE | {"mode": "xla"}, [*FOLLOWED, "calibrated_activation"]),
        ({"network": "fc@28", "batch": 128}, RULES),
    ]
    if plan.quick:
        cases = [(QUICK, FOLLOWED)]
    for setting, names in cases:
        names = plan.chosen(names)
        if not names:
            continue
        found = {rule: [] for rule in [PLAIN, *names]}
        for _ in range(1 if plan.quick else 3):
            for rule, results in found.items():
                results.append(plan.call("footprint", setting=setting, rule=rule, steps=3))
        if setting.get("mode") != "xla":  # whose peak is the compiler's
            yield _memory(setting, found)
        yield _first_step(setting, found)


def _memory(setting: dict, found: dict[str, list[dict]]) -> Table:
    columns = [
        ("rule", "rule", "name"),
        ("peak, MB", "peak", "MB"),
        ("feedback kernels and slots, MB", "feedback", "MB"),
        ("ratio of the rest", "ratio", "ratio"),
        BUDGET,
        VERDICT,
        ("tensors at their peak, MB", "tensors", "MB"),
        ("ratio of the rest", "tensors_ratio", "ratio"),
        LOAD,
    ]
    note = (
        "The process's resident memory, and what TensorFlow had allocated for tensors of more than "
        "256 kB, each at its peak: medians of processes that take turns. The rest is without the "
        "feedback kernels and their slots, its ratio to the baseline's."
    )
    rows = []
    for rule, results in found.items():
        row = _medians(setting, rule, results, ("peak", "tensors", "variables", "load"))
        baseline = rows[0] if rows else row
        row["feedback"] = row["variables"] - baseline["variables"]
        row["ratio"] = (row["peak"] - row["feedback"]) / baseline["peak"]
        tensors = baseline["tensors"]  # 0 for a network whose tensors are all small
        row["tensors_ratio"] = (row["tensors"] - row["feedback"]) / tensors if tensors else None
        rows.append(judge(row, row["ratio"], None if rule == PLAIN else MEMORY_BUDGET))
    return Table("footprints", f"memory; {title(setting)}", note, columns, rows)


def _first_step(setting: dict, found: dict[str, list[dict]]) -> Table:
    columns = [
        ("rule", "rule", "name"),
        ("to build, s", "build", "seconds"),
        ("to trace, s", "traced", "seconds"),
        ("first step behind it, s", "first", "seconds"),
        ("later step, s", "later", "seconds"),
        ("ratio of traced and first less later (quartiles)", "ratio", "spread"),
        ("FLOP bound of a step", "bound", "ratio"),
        BUDGET,
        VERDICT,
        LOAD,
    ]
    note = (
        "Medians over the same processes. What the first step takes beyond a later one goes into "
        "placing, optimizing and compiling its graph, and into what each product sets up once. A "
        "rule that adds products does all of it for them, too: compare with the bound."
    )
    rows = []
    for rule, results in found.items():
        row = _medians(setting, rule, results, ("build", "traced", "first", "later", "load"))
        row["bound"] = results[0]["bound"]
        pairs = zip(results, found[PLAIN], strict=True)
        ratios = [_start(mine) / _start(base) for mine, base in pairs]
        row["ratio_low"], row["ratio"], row["ratio_high"] = quartiles(ratios)
        rows.append(judge(row, row["ratio"], None if rule == PLAIN else TRACING_BUDGET))
    return Table("footprints", f"first step; {title(setting)}", note, columns, rows)


def _start(result: dict) -> float:
    """Seconds that the first step of a process takes beyond a later one, tracing included."""
    return result["traced"] + result["first"] - result["later"]


def _medians(setting: dict, rule: str, results: list[dict], keys: Sequence[str]) -> dict:
    """A row of the medians over processes."""
    medians = {key: statistics.median(result[key] for result in results) for key in keys}
    return setting | {"rule": rule} | medians
