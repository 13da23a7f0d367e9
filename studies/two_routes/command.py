"""Tests the claims: runs their studies, and writes what they say.

    python -m studies two_routes sensitivity --scale=smoke
    python -m studies two_routes --scale=desktop --jobs=1       # all of them, in order
    python -m studies two_routes depth --scale=imagenet --data_dir=DIR --strategy=mirrored --jobs=1
    python -m studies two_routes depth --scale=imagenet --list  # the commands, to run elsewhere
    python -m studies two_routes defaults --scale=desktop --rules backprop tracking_mirror

Rows that the results hold are not trained again; an interrupted run goes on from its checkpoint.
Flags that the command does not know go to every run, such as `--data_dir`.
"""

import argparse
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence

from studies.table import Place
from studies.two_routes import (
    defaults,
    depth,
    ladder,
    mirror,
    noise,
    nonlocal_rules,
    page,
    robustness,
    rules,
    sensitivity,
    transfer,
)
from studies.two_routes.claim import Claim
from studies.two_routes.scales import SCALES, Scale
from studies.two_routes.trials import RESULTS, Table, Trial, complete
from tfcredit.errors import UserError

MODULES = (
    sensitivity,
    ladder,
    transfer,
    depth,
    nonlocal_rules,
    noise,
    mirror,
    defaults,
    robustness,
)
CLAIMS = {module.CLAIM.name: module.CLAIM for module in MODULES}
VERDICTS = Place("two_routes", "docs/two_routes.md")


def main(arguments: Sequence[str]) -> None:
    """Runs the studies that are named, all by default, and writes the page of their scale.

    Args:
        arguments: Of the command line.

    Raises:
        UserError: A name is unknown, or a study needs the rows of another.
    """
    parser = argparse.ArgumentParser(
        prog="python -m studies two_routes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(CLAIMS))
    parser.add_argument("--scale", default="smoke", choices=SCALES)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/two_routes")
    parser.add_argument("--jobs", type=int, default=2, help="processes that train at once [2]")
    parser.add_argument("--list", action="store_true", help="print the commands of the runs only")
    words = "runs of these rules only [all]"
    parser.add_argument("--rules", nargs="+", metavar="RULE", choices=rules.ALL, help=words)
    words = f"write the verdicts into {VERDICTS.page}"
    parser.add_argument("--update", action="store_true", help=words)
    flags, given = parser.parse_known_args(arguments)
    scale = SCALES[flags.scale]
    for name in flags.studies or CLAIMS:
        if name not in CLAIMS:
            raise UserError(f"study {name!r} is unknown: choose of {', '.join(CLAIMS)}.")
        if not flags.list:
            _run(CLAIMS[name], scale, flags, given)
            continue
        try:
            _print_commands(CLAIMS[name], scale, flags, given)
        except UserError as problem:
            if flags.studies:
                raise
            print(f"not listed: {name}, as {problem}", file=sys.stderr)
    if flags.list:
        return
    page.write(CLAIMS, scale, flags.results)
    verdicts = page.verdicts(CLAIMS, flags.results)
    print(verdicts)
    if flags.update:
        VERDICTS.put(verdicts)


def _asked(claim: Claim, scale: Scale, flags) -> list[Trial]:
    """The runs that the results so far ask for, of the rules that were chosen."""
    asked = claim.asked(scale, flags.results)
    return [one for one in asked if not flags.rules or one.factors["rule"] in flags.rules]


def _print_commands(claim: Claim, scale: Scale, flags, given: list[str]) -> None:
    for one in _asked(claim, scale, flags):
        places = [*given, f"--run_dir={flags.runs / scale.name / one.folder}", "--resume=auto"]
        print(shlex.join(["python", "run_imagenet.py", *one.flags, *places]))


def _run(claim: Claim, scale: Scale, flags, given: list[str]) -> None:
    table = Table(claim.name, scale.name, flags.results)
    started, runs = time.time(), flags.runs / scale.name
    while True:  # a search asks for its next trials once it knows these
        trials = _asked(claim, scale, flags)
        if all(table.row(one) for one in trials):
            return
        new = complete(table, trials, scale, claim.measure, runs, flags.jobs, tuple(given))
        for row in new:
            place = f"{claim.name} {len(table.rows)}/{len(trials)} {time.time() - started:.0f} s"
            print(place, {key: value for key, value in row.items() if key != "flags"}, flush=True)
