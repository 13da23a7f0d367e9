"""The part `growth`: how ratios grow with batch, depth, width, replicas and steps per execution."""

from collections.abc import Iterator, Sequence

from benchmarks.budgets import DENSE_BUDGET, FLATNESS_BUDGET
from benchmarks.cases import PLAIN
from benchmarks.plan import FOLLOWED, NETWORKS, QUICK, SERIES, STEP_COLUMNS, Plan
from benchmarks.report import BUDGET, VERDICT, Table, judge, title


def growth(plan: Plan) -> Iterator[Table]:
    """Ratios as batch, depth, width, replicas and the steps per execution grow."""
    if plan.quick:
        yield from _grown(plan, "batch", [QUICK | {"batch": batch} for batch in (2, 4)], FOLLOWED)
        return
    for grown in plan.series:
        for settings in SERIES[grown]:
            yield from _grown(plan, grown, settings, [*FOLLOWED, "calibrated_activation"])


def _grown(
    plan: Plan, grown: str, settings: Sequence[dict], names: Sequence[str]
) -> Iterator[Table]:
    """A series: its steps, and a verdict on the flatness of their ratios."""
    rows = []
    for setting in settings:
        calls = NETWORKS.get(setting["network"], (0, 1))[1]
        calls = max(1, calls // setting.get("steps", 1))
        rows += plan.steps(setting, names, calls)
    varied = "network" if grown == "depth" else grown
    columns = [(grown, varied, "text"), *STEP_COLUMNS]
    if grown == "steps":
        for row in rows:
            budget = DENSE_BUDGET if row["steps"] == 10 and row["rule"] != PLAIN else None
            over = row["ratio"] / (row["bound"] or 1.0)
            row.update(judge(row, over, budget))
    name = f"{grown}; {title({k: v for k, v in settings[0].items() if k != varied})}"
    yield Table("growth", name, "As in `steps`.", columns, rows)
    if grown in ("batch", "depth", "replicas"):
        yield _flatness(name, names, rows)


def _flatness(series: str, names: Sequence[str], rows: Sequence[dict]) -> Table:
    """Judges if the ratios of a series are flat."""
    judged = []
    for rule in names:
        ratios = [row["ratio"] for row in rows if row["rule"] == rule]
        row = {"rule": rule, "least": min(ratios), "largest": max(ratios)}
        row["ratio"] = row["largest"] / row["least"]
        judged.append(judge(row, row["ratio"], FLATNESS_BUDGET if rule in FOLLOWED else None))
    columns = [
        ("rule", "rule", "name"),
        ("least ratio", "least", "ratio"),
        ("largest ratio", "largest", "ratio"),
        ("largest / least", "ratio", "ratio"),
        BUDGET,
        VERDICT,
    ]
    note = "Rules that draw noise cost per step, not per image, and are not judged."
    return Table("growth", f"flatness in {series}", note, columns, judged)
