"""Runs that differ in their seed only, taken together: their table and their curves."""

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tfcredit.analysis import Interval, interval
from tfcredit.report.reading import LARGEST, StoredRun, judged
from tfcredit.training.flags import of_scope
from tfcredit.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Args:
        name: The rule, and where it does not tell which runs are meant the flags that do.
        runs: The runs.
    """

    name: str
    runs: list[StoredRun]

    @property
    def rule(self) -> str:
        """As `--rule` takes it."""
        return self.runs[0].recipe.rule

    def of_state(self, state: str) -> list[StoredRun]:
        """The runs of a state."""
        return [run for run in self.runs if run.state == state]

    def results(self, name: str) -> list[tuple[int, float]]:
        """A number in the summaries of the finished runs.

        Args:
            name: "top1", "mean_angle", ...

        Returns:
            Seed and number of each; runs without one are left out.
        """
        found = [(run.recipe.seed, run.summary.get(name)) for run in self.of_state("finished")]
        return [
            (seed, value)
            for seed, value in found
            if isinstance(value, int | float) and abs(value) <= LARGEST
        ]

    def speed(self) -> float | None:
        """Images per second, the median over seeds; `None` if nothing is known."""
        speeds = [speed for run in self.runs if (speed := _speed(run)) is not None]
        return statistics.median(speeds) if speeds else None


def _speed(run: StoredRun) -> float | None:
    """The median over epochs; the first one, in which TensorFlow builds its graphs, if alone."""
    found = [row["images_per_second"] for row in run.rows if "images_per_second" in row]
    found = [speed for speed in found if 0 < speed <= LARGEST]
    return statistics.median(found[1:] or found) if found else None


def grouped(runs: Sequence[StoredRun]) -> list[Group]:
    """Group runs.

    Args:
        runs: The runs.

    Returns:
        The groups in the order of their first runs.
    """
    groups = defaultdict(list)
    for run in runs:
        groups[tuple(getattr(run.recipe, name) for name in _names())].append(run)
    kinds = defaultdict(list)
    for some in groups.values():
        kinds[some[0].recipe.rule].append(some[0].recipe)
    return [Group(_name(some[0].recipe, kinds), some) for some in groups.values()]


def _names() -> list[str]:
    """The flags that make a run what it is, without its seed."""
    return [name for name in of_scope(Recipe, "run") if name != "seed"]


def _name(recipe: Recipe, kinds: dict[str, list]) -> str:
    alike = kinds[recipe.rule]
    differing = [name for name in _names() if len({getattr(one, name) for one in alike}) > 1]
    stated = ", ".join(f"{name}={getattr(recipe, name)}" for name in differing)
    return f"{recipe.rule} ({stated})" if stated else recipe.rule


def results(groups: Sequence[Group]) -> list[dict]:
    """The results of groups, beside those of backprop, or of the first if it is not among them.

    Args:
        groups: One or more.

    Returns:
        A record for each group. `rule`; `runs`, how many ended; `top1`, the mean of top-1, and
        the ends of its 95 % interval, `top1_low` and `top1_high`; `gap`, `gap_low`, `gap_high`, the
        same of the top-1 by which a run is below that of the reference with the same seed;
        `mean_angle` in degrees; `time`, that of a step over the reference's; `diverged`, a number
        of runs. `None` stands for what is not known.
    """
    base = reference(groups)
    return [_record(group, base) for group in groups]


def reference(groups: Sequence[Group]) -> Group:
    """The group that others are compared with: backprop, or the first if it is not among them."""
    return next((group for group in groups if group.rule == "backprop"), groups[0])


def _record(group: Group, base: Group) -> dict:
    top1, others = group.results("top1"), dict(base.results("top1"))
    gaps = [others[seed] - value for seed, value in top1 if seed in others]
    angles = [angle for _, angle in group.results("mean_angle")]
    speeds = base.speed(), group.speed()
    return {
        "rule": group.name,
        "runs": len(group.of_state("finished")),
        **_ends("top1", interval([value for _, value in top1])),
        **_ends("gap", interval([] if group is base else gaps)),
        "mean_angle": float(np.mean(angles)) if angles else None,
        "time": speeds[0] / speeds[1] if all(speeds) else None,
        "diverged": len(group.of_state("diverged")),
    }


def _ends(name: str, of: Interval) -> dict[str, float | None]:
    found = {name: of.mean, f"{name}_low": of.low, f"{name}_high": of.high}
    return {key: None if math.isnan(value) else value for key, value in found.items()}


def heads(groups: Sequence[Group] = ()) -> list[str]:
    """The heads of a table of `cells`; they say which images top-1 is of, or else test images."""
    ended = [run for group in groups for run in group.of_state("finished")]
    held_out = {run.summary.get("part") == "validation" for run in ended}
    part = " or ".join(("test", "validation")[each] for each in sorted(held_out)) or "test"
    middle = ["gap, points", "mean angle, °", "time"]
    return ["rule", "runs", f"{part} top-1, %", *middle, "diverged"]


def cells(record: dict) -> list[str]:
    """A record of `results` as text, below `heads`."""
    angle, time = record["mean_angle"], record["time"]
    return [
        record["rule"],
        str(record["runs"]),
        *(str(_interval(record, name)) for name in ("top1", "gap")),
        "-" if angle is None else f"{angle:.1f}",
        "-" if time is None else f"{time:.2f}",
        str(record["diverged"]),
    ]


def _interval(record: dict, name: str) -> Interval:
    """In per cent."""
    values = [record[key] for key in (name, f"{name}_low", f"{name}_high")]
    numbers = [float("nan") if value is None else 100 * value for value in values]
    return Interval(*numbers, n=record["runs"])


def curves(groups: Sequence[Group]) -> list[dict]:
    """The training of runs, as `tfcredit.analysis.plots.compare` and `pandas.DataFrame` take it.

    Args:
        groups: The groups.

    Returns:
        A record for each epoch of each run, and one for its start: `rule` (the group's name),
        `seed`, `epoch`, `step`, `part` ("test", or "validation" in a run that holds images out),
        `loss`, `top1` and `top5` of the images of that part, `mean_angle` in degrees,
        `images_per_second`, `diverged` (1 or 0); `None` where there is no value.
    """
    return [record for group in groups for run in group.runs for record in _curve(run, group.name)]


def _curve(run: StoredRun, name: str) -> list[dict]:
    angles = {each["step"]: each["mean_angle"] for each in run.mean_angles}
    records = []
    start = [] if run.rows and not run.rows[0]["step"] else [{"epoch": 0, "step": 0}]
    for row in [*start, *run.rows]:
        step, epoch = int(row["step"]), row.get("epoch", math.nan)
        records.append(
            {
                "rule": name,
                "seed": run.recipe.seed,
                "epoch": int(epoch) if math.isfinite(epoch) else None,
                "step": step,
                "part": "validation" if "validation_top1" in row else "test",
                **{name: judged(row, name) for name in ("loss", "top1", "top5")},
                "mean_angle": angles.get(step),
                "images_per_second": row.get("images_per_second"),
                "diverged": int(run.state == "diverged"),
            }
        )
    return records
