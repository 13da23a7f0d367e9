"""The command `tfcredit search`: trains runs of different flags, to find those that train best.

All flags of `tfcredit train` but those of a single run (--run_dir, --resume, ...) say what the
runs have in common; --seed is that of the search. The same command goes on with a search that was
stopped or killed. docs/search.md has the rest.

Example: tfcredit search --rule=weight_mirror --model=fc --epochs=3 --trials=20 --jobs=2
"""

import argparse
import dataclasses
import pathlib

import optuna

from tfcredit.arguments import ArgumentParser
from tfcredit.errors import UserError
from tfcredit.search import space
from tfcredit.search.launcher import Launcher
from tfcredit.search.process import check
from tfcredit.search.study import Study
from tfcredit.training.recipe import OWN, parse
from tfcredit.training.rundir import as_name


def main(arguments: list[str]) -> None:
    """Runs the command.

    Args:
        arguments: Flags, without the command's name.

    Raises:
        UserError: Wrong flags or space, another search in the folder or at work on it, no trial
            that came to the end.
        SystemExit: After --help.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options, rest = _parse(arguments)
    recipe, given = parse(rest)
    for name in OWN:
        if name in given:
            raise UserError(
                f"--{name} is for a single run: leave it out; each trial gets a run directory of "
                "its own below --study_dir."
            )
    searched = space.get(options.space, recipe, given)
    first = {name: one.extremes()[0] for name, one in searched.items()}
    # All trials are to have the data that were found at first, so "auto" is not kept.
    recipe = dataclasses.replace(recipe, dataset=check(space.apply(first, recipe)))
    folder = options.study_dir or pathlib.Path("runs") / f"search-{as_name(recipe.rule)}"
    study = Study(folder, recipe, searched)
    study.check()  # errors first, before any file
    with study.opened():
        _announce(study, options)
        if Launcher(study, options.trials, options.jobs).run():
            study.write_results()
            study.write_analysis()
            _conclude(study)
        else:
            print(f"Stopped: the same command goes on with {study.path}.")


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's own flags, and the others."""
    parser = ArgumentParser(
        prog="tfcredit search",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--space", metavar="FILE", help="what to search, .json or .toml; default: the rule's own")
    add("--trials", metavar="N", type=int, default=20, help="trials in all; default 20")
    add("--jobs", metavar="N", type=int, default=1, help="trials at a time; default 1")
    add("--study_dir", metavar="DIR", help="folder of the search; default runs/search-RULE")
    options, rest = parser.parse_known_args(arguments)
    for name in ("trials", "jobs"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}={getattr(options, name)} must be at least 1.")
    return options, rest


def _announce(study: Study, options: argparse.Namespace) -> None:
    ended = len(study.ended())
    print(
        f"Searching {', '.join(study.space)} by {options.trials} trials in {study.path}"
        + (f", of which {ended} have ended" if ended else ""),
        flush=True,
    )


def _conclude(study: Study) -> None:
    best = study.best()
    if best is None:
        raise UserError(
            f"none of {len(study.ended())} trials came to the end ({study.table}): search smaller "
            "learning rates or coefficients in another --study_dir."
        )
    print(f"Best: trial {best.number}, test top-1 {best.value:.4f}")
    print(f"Repeat it: python run_imagenet.py --flagfile={study.best_flags}")
    print(f"Compare: tfcredit report {study.path} --output=report.html")
