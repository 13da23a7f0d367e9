"""The page of a scale: each study's claim, verdict, table and figure."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib

from studies.table import select
from studies.two_routes.claim import Claim, accuracies, gaps, interval
from studies.two_routes.scales import SCALES, Scale
from studies.two_routes.trials import Table, Trial
from tfcredit.environment import environment
from tfcredit.records import markdown

HEAD = """# Two routes, tested again: scale `{scale}`

Claims of Kunin et al. 2020 (and some beyond them), each with what was measured. Written by
`python -m studies two_routes --scale={scale}`; all runs are in the CSV files beside this page, with
the flags that repeat each. Intervals are 95 % (Student's t, over seeds or paired differences); runs
that diverged count as chance, {chance:.1%}. Base flags: `{base}`.

{environment}
"""


def write(claims: Mapping[str, Claim], scale: Scale, results: pathlib.Path) -> None:
    """Write `README.md`, and a figure for each study that has been run to its end.

    Args:
        claims: By the names of their studies.
        scale: The scale.
        results: Folder with a folder for each scale.
    """
    folder = results / scale.name
    versions = environment()
    about = "Versions: " + ", ".join(f"{k} {v}" for k, v in versions["versions"].items())
    about += f"; machine: {versions['machine']}."
    base = " ".join(scale.base)
    parts = [HEAD.format(scale=scale.name, chance=scale.chance, base=base, environment=about)]
    for name, claim in claims.items():
        table = Table(name, scale.name, results)
        rows = table.rows
        if not rows:
            continue
        asked = claim.asked(scale, results)
        if so_far := _so_far(table, asked):
            found = _found_so_far(rows, asked, scale)
            parts.append(f"## {name}: {so_far}\n\n**{claim.sentence}**\n\n{found}\n")
            continue
        found = claim.conclude(rows, scale)
        # The same bytes from the same rows.
        with matplotlib.rc_context({"svg.hashsalt": name}):
            claim.draw(rows, scale).savefig(folder / f"{name}.svg", metadata={"Date": None})
        parts.append(
            f"## {name}: {found.verdict}\n\n**{claim.sentence}** {found.text}\n\n{found.table}\n\n"
            f"![{name}]({name}.svg)\n"
        )
    (folder / "README.md").write_text("\n".join(parts))


def _found_so_far(rows: Sequence[dict], asked: Sequence[Trial], scale: Scale) -> str:
    """Accuracy and gap to backprop of all settings that have runs, as Markdown."""
    of_single_runs = ("seed", "number", "values")
    factors = list(
        dict.fromkeys(name for one in asked for name in one.factors if name not in of_single_runs)
    )
    settings = dict.fromkeys(tuple(row.get(name, "") for name in factors) for row in rows)
    lines = []
    for setting in settings:
        wanted = dict(zip(factors, setting, strict=True))
        gap = [] if wanted["rule"] == "backprop" else gaps(rows, scale, **wanted)
        runs = len(select(rows, **wanted))
        lines.append([*setting, runs, accuracies(rows, scale, **wanted), interval(gap)])
    return markdown([*factors, "runs", "top-1, %", "gap to backprop, points"], lines)


def verdicts(claims: Mapping[str, Claim], results: pathlib.Path) -> str:
    """A table of the claims' verdicts at every scale that has results.

    Args:
        claims: By the names of their studies.
        results: Folder with a folder for each scale.

    Returns:
        Markdown; a study has a line if it has rows at some scale.
    """
    scales = [scale for name, scale in SCALES.items() if (results / name).is_dir()]
    lines = []
    for name, claim in claims.items():
        cells = [_verdict(claim, scale, results) for scale in scales]
        if set(cells) != {"-"}:
            lines.append([f"`{name}`", claim.sentence, *cells])
    return markdown(["study", "claim", *(f"at `{scale.name}`" for scale in scales)], lines)


def _verdict(claim: Claim, scale: Scale, results: pathlib.Path) -> str:
    """The verdict of a study that has been run to its end, or how far it is."""
    table = Table(claim.name, scale.name, results)
    if not table.rows:
        return "-"
    if so_far := _so_far(table, claim.asked(scale, results)):
        return so_far
    return f"**{claim.conclude(table.rows, scale).verdict}** ({len(table.rows)} runs)"


def _so_far(table: Table, asked: Sequence[Trial]) -> str:
    """How many of its runs a study has, or nothing if it has all."""
    if all(table.row(trial) for trial in asked):
        return ""
    return f"{len(table.rows)} of {len(asked)} runs so far"
