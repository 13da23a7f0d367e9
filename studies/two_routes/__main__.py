"""Run studies, and write what they say.

    python -m studies.two_routes sensitivity --scale=smoke
    python -m studies.two_routes --scale=laptop                 # all of them, in order
    python -m studies.two_routes depth --scale=imagenet --data_dir=DIR --strategy=mirrored --jobs=1
    python -m studies.two_routes depth --scale=imagenet --list  # the commands, to run elsewhere

Rows that the results hold are not trained again; an interrupted run goes on from its checkpoint.
Flags that the command does not know go to every run, such as `--data_dir`.
"""

import argparse
import pathlib
import shlex
import sys
import time

from studies import tabulation
from studies.two_routes import (
    defaults,
    depth,
    mirror,
    noise,
    nonlocal_rules,
    page,
    robustness,
    sensitivity,
    transfer,
)
from studies.two_routes.runs import RESULTS, Table, complete
from studies.two_routes.scales import SCALES, Scale
from studies.two_routes.study import Study
from tfcredit.errors import UserError

MODULES = (sensitivity, transfer, depth, nonlocal_rules, noise, mirror, defaults, robustness)
STUDIES = {module.STUDY.name: module.STUDY for module in MODULES}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.two_routes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--scale", default="smoke", choices=SCALES)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/two_routes")
    parser.add_argument("--jobs", type=int, default=2, help="processes that train at once [2]")
    parser.add_argument("--list", action="store_true", help="print the commands of the runs only")
    parser.add_argument("--update", action="store_true", help="put the verdicts into README.md")
    flags, given = parser.parse_known_args(arguments)
    scale = SCALES[flags.scale]
    try:
        for name in flags.studies or STUDIES:
            if name not in STUDIES:
                raise UserError(f"study {name!r} is unknown: choose of {', '.join(STUDIES)}.")
            if flags.list:
                _print_commands(STUDIES[name], scale, flags, given)
            else:
                _run(STUDIES[name], scale, flags, given)
    except UserError as problem:
        print(f"two_routes: {problem}", file=sys.stderr)
        return 2
    if flags.list:
        return 0
    verdicts = page.write(STUDIES, scale, flags.results)
    print(verdicts)
    if flags.update:
        tabulation.put("two_routes", verdicts)
    return 0


def _trials(study: Study, scale: Scale, flags):
    return study.trials(scale, lambda name: Table(name, scale.name, flags.results).rows)


def _print_commands(study: Study, scale: Scale, flags, given: list[str]) -> None:
    for one in _trials(study, scale, flags):
        places = [*given, f"--run_dir={flags.runs / scale.name / one.folder}", "--resume=auto"]
        print(shlex.join(["python", "run_imagenet.py", *one.flags, *places]))


def _run(study: Study, scale: Scale, flags, given: list[str]) -> None:
    table = Table(study.name, scale.name, flags.results)
    trials = _trials(study, scale, flags)
    started = time.time()
    runs = flags.runs / scale.name
    new = complete(table, trials, scale, study.measure, runs, flags.jobs, tuple(given))
    for row in new:
        told = {key: value for key, value in row.items() if key != "flags"}
        print(f"{study.name} {len(table.rows)}/{len(trials)} {time.time() - started:.0f} s {told}")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
