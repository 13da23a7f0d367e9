"""A search from its flags to its results."""

import argparse
import dataclasses
import pathlib
import shlex

import optuna

from tfcredit.errors import UserError
from tfcredit.search import space
from tfcredit.search.launcher import Launcher
from tfcredit.search.storage import Storage
from tfcredit.search.study import Study
from tfcredit.search.trials import machine_of, number_of
from tfcredit.training.flags import of_scope
from tfcredit.training.imports import import_own
from tfcredit.training.processes import check
from tfcredit.training.recipe import parse
from tfcredit.training.run_directory import as_name


def search(options: argparse.Namespace, rest: list[str]) -> None:
    """Search, or go on with a search that was stopped.

    Args:
        options: The command's own flags.
        rest: Flags of `tfcredit train`.

    Raises:
        UserError: Wrong flags or space, another search in the folder or at work on it, no trial
            that came to the end.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None if options.storage is None else Storage(options.storage)
    recipe, given = parse(rest)
    for name in of_scope(recipe, "once"):
        if name in given:
            raise UserError(
                f"--{name} is for a single run: leave it out; each trial gets a run directory of "
                "its own below --study_dir."
            )
    import_own(recipe.import_)
    searched = space.get(options.space, recipe, given)
    first = {name: one.extremes()[0] for name, one in searched.items()}
    # All trials are to have the data and network that were found at first: "auto" is not kept.
    found, images = check([space.apply(first, recipe)])
    recipe = dataclasses.replace(recipe, **found)
    folder = options.study_dir or pathlib.Path("runs") / f"search-{as_name(recipe.rule)}"
    study = Study(folder, recipe, searched, images, storage, options.study_name)
    study.check()  # errors first, before any file
    with study.opened():
        _announce(study, options)
        if Launcher(study, options.trials, options.jobs).run():
            study.write_results()
            study.write_analysis()
            _conclude(study)
        else:
            print(f"Stopped: the same command goes on with {study.path}.")


def _announce(study: Study, options: argparse.Namespace) -> None:
    ended = len(study.ended())
    print(
        f"Searching {', '.join(study.space)} by {options.trials} trials in {study.path}"
        + ("" if study.alone else f" and {study.storage}")
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
    where = "" if study.alone else f" (on {machine_of(best)})"
    print(f"Best: trial {number_of(best)}{where}, {study.results_of(best)}")
    print(f"Repeat it: python run_imagenet.py --flagfile={shlex.quote(str(study.best_flags))}")
    print(f"Compare: tfcredit report {shlex.quote(str(study.path))} --output=report.html")
