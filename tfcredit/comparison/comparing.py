"""A comparison from its flags to its results."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcredit import patterns
from tfcredit import rules as known_rules
from tfcredit.checks import integer
from tfcredit.comparison.folder import Comparison
from tfcredit.errors import UserError
from tfcredit.files import scratch
from tfcredit.report.reading import judged
from tfcredit.training.flags import LARGEST, as_arguments, of_scope
from tfcredit.training.given import held_in_python, named_arrays, rule_text, with_dataset
from tfcredit.training.imports import import_own
from tfcredit.training.launcher import Launcher
from tfcredit.training.processes import check
from tfcredit.training.recipe import Recipe, parse
from tfcredit.training.rule_flags import rule_of

FOLDER = "runs/compare"
"""Where a comparison is by default."""
TOLD_EVERY = 60.0
"""Seconds without a line after which the end of an epoch is told."""


def compare(
    rules: Sequence[Any],
    seeds: int = 3,
    jobs: int = 1,
    compare_dir: str | os.PathLike = FOLDER,
    *,
    data: Any = None,
    test: Any = None,
    validation: Any = None,
    **flags: Any,
) -> list[dict]:
    """Trains each rule with some seeds, each in a run and a process of its own.

    As `tfcredit compare`, which docs/comparing.md describes: the same call goes on with what was
    killed, and leaves a table, a figure and a page in the folder.

    Args:
        rules: What to compare, each as `tfcredit.train` takes a rule.
        seeds: Runs of each rule, of the seeds from 0 on.
        jobs: Runs at a time.
        compare_dir: The folder of the comparison.
        data: Training images as arrays `(x, y)`, of which the folder gets a copy, `arrays.npz`; or
            a data set's name. Default: `--dataset`'s.
        test: Test images `(x, y)`.
        validation: Images `(x, y)` to judge each epoch by.
        **flags: Further flags of `tfcredit train`, which all runs share: `model="fc", epochs=3`;
            `import_` is that of `--import`. Networks and rules of your own are named by files, as
            the runs have processes of their own.

    Returns:
        A record for each epoch of each run, and one for its start, as `pandas.DataFrame` and
        `tfcredit.analysis.plots.compare` take them: `rule`, `seed`, `epoch`, `step`, `part`
        ("test", or "validation" where images are held out), `loss`, `top1` and `top5` of the images
        of that part, `mean_angle` of W and B in degrees, `images_per_second`, and `diverged`, 1 if
        the run did. `None` stands for what is not known.

    Raises:
        UserError: Wrong flags or rules, another comparison in the folder or at work on it, a run
            that crashes.
    """
    if isinstance(rules, str) or not isinstance(rules, Sequence):
        raise UserError(f"rules={rules!r} must be a list of names such as ['backprop'].")
    if not isinstance(flags.get("model"), str | os.PathLike | None):
        raise UserError(
            "a comparison trains in processes of their own, which find a network by its name: "
            "save it and give model='FILE.keras', or give model='FILE.py:FUNCTION'."
        )
    text = ",".join(rule_text(rule) for rule in rules)
    arguments = as_arguments(Recipe, with_dataset(data, flags))
    parts = {"train": data, "test": test, "val": validation}
    return run(text, seeds, jobs, compare_dir, arguments, parts)


def run(
    rules: str,
    seeds: int,
    jobs: int,
    folder: str | os.PathLike | None,
    rest: list[str],
    parts: Mapping[str, Any] | None = None,
) -> list[dict]:
    """Compare, or go on with a comparison that was stopped.

    Args:
        rules: With commas between them.
        seeds: Runs of each rule.
        jobs: Runs at a time.
        folder: Of the comparison; `None` for the default one.
        rest: Flags of `tfcredit train`.
        parts: Images that Python gives, as `held_in_python` takes them; `None` for none.

    Returns:
        As `compare`.

    Raises:
        UserError: As `compare`.
    """
    folder = folder or FOLDER
    seeds = integer("--seeds", seeds, at_least=1)
    jobs = integer("--jobs", jobs, at_least=1)
    names = split(rules)
    recipe, given = parse(rest)
    for name in ("rule", "seed", *of_scope(recipe, "once")):
        if name in given:
            instead = {"rule": "name all rules in --rules", "seed": "give --seeds, their number"}
            raise UserError(
                f"--{name} is for a single run: "
                f"{instead.get(name, 'leave it out; each run is below --compare_dir')}."
            )
    arrays = named_arrays(held_in_python(parts, recipe, given)) if parts else {}
    if arrays:
        recipe = dataclasses.replace(recipe, dataset="arrays")
    import_own(recipe.import_)
    recipes = [dataclasses.replace(recipe, rule=name) for name in names]
    for one in recipes:
        rule_of(one)
    Comparison(folder, recipe, names, seeds).check_place()
    with contextlib.ExitStack() as stack:
        if arrays:
            file = pathlib.Path(stack.enter_context(scratch()), "arrays.npz")
            _keep(arrays, file)
            where = {"data_dir": str(file)}
            recipes = [dataclasses.replace(one, **where) for one in recipes]
        # All runs are to have the data and network that were found at first: "auto" is not kept.
        found, images = check(recipes)
        recipe = dataclasses.replace(recipes[0], **found)
        comparison = Comparison(folder, recipe, names, seeds, images)
        comparison.check()  # errors first, before any file
        stack.enter_context(comparison.locked())
        if arrays:
            comparison.keep_arrays(file)
        comparison.prepare()
        return _train(comparison, jobs)


def _keep(arrays: Mapping[str, np.ndarray], path: pathlib.Path) -> None:
    try:
        np.savez(path, **arrays)
    except OSError as problem:
        raise UserError(
            f"the arrays can't be written to {path} ({problem.strerror}): free space there, or "
            "name another folder by TMPDIR."
        ) from None


def split(rules: str) -> list[str]:
    """Take apart a list of rules.

    Args:
        rules: As `--rules` takes them; commas in brackets belong to a rule.

    Returns:
        The rules.

    Raises:
        UserError: There is none, or one twice.
    """
    found = patterns.split(rules, ",")
    if not all(found):
        raise UserError(
            f"--rules={rules} names no rule between two commas: give names such as "
            f"backprop,tracking_mirror (known: {', '.join(known_rules.names())})."
        )
    for rule in found:
        if found.count(rule) > 1:
            raise UserError(f"--rules={rules} names {rule} twice: leave one out.")
    return found


def _train(comparison: Comparison, jobs: int) -> list[dict]:
    total = len(comparison.rules) * comparison.seeds
    ended = sum(comparison.has_ended(*task) for task in comparison.tasks())
    print(
        f"Comparing {len(comparison.rules)} rules with {comparison.seeds} seeds, {total} runs, in "
        f"{comparison.path}" + (f", of which {ended} have ended" if ended else ""),
        flush=True,
    )
    launcher = Runs(comparison, jobs)
    whole = launcher.run()
    records = comparison.write_results()
    if not whole:
        print(f"Stopped: the same command goes on with {comparison.path}.", flush=True)
        return records
    if records:
        text = comparison.markdown.read_text(encoding="utf-8")
        print(f"\n{text}".replace(r"\|", "|"))  # as a rule is given
        print(f"Figure: {comparison.figures[0]}\nPage:   {comparison.page}", flush=True)
    if launcher.crashed:
        raise UserError(
            f"{len(launcher.crashed)} of {total} runs crashed (see {launcher.crashed[0]}): the "
            "same command tries them again; the others are finished."
        )
    return records


class Runs(Launcher):
    """The runs of a comparison that have not ended; a task is a rule and a seed.

    Args:
        comparison: The prepared comparison.
        jobs: Runs at a time.

    Attributes:
        crashed: The logs of runs that crashed.
    """

    def __init__(self, comparison: Comparison, jobs: int):
        super().__init__(jobs, comparison.images)
        self.comparison = comparison
        self.crashed: list[str] = []
        self._waiting = [each for each in comparison.tasks() if not comparison.has_ended(*each)]
        self._left = len(self._waiting)
        self._told = time.monotonic()

    def next(self) -> tuple[str, int] | None:
        """See `Launcher`."""
        return self._waiting.pop(0) if self._waiting else None

    def name_of(self, task: tuple[str, int]) -> str:
        """See `Launcher`."""
        return f"{task[0]}, seed {task[1]}"

    def start_of(self, task: tuple[str, int]) -> tuple[Recipe, str]:
        """See `Launcher`."""
        rule, seed = task
        folder = self.comparison.run_of(rule, seed).path
        with self.comparison.writing():
            folder.parent.mkdir(exist_ok=True)
        once = {"run_dir": str(folder), "resume": "auto"}
        recipe = dataclasses.replace(self.comparison.recipe, rule=rule, seed=seed, **once)
        return recipe, self._log_of(task)

    def _log_of(self, task: tuple[str, int]) -> str:
        return f"{self.comparison.run_of(*task).path}.log"

    def is_to_stop(self, task: tuple[str, int]) -> bool:
        """See `Launcher`; it tells the epoch if there was no line for long."""
        if time.monotonic() - self._told > TOLD_EVERY:
            rows = self.comparison.run_of(*task).rows(LARGEST)
            if rows:
                top1 = judged(rows[-1], "top1")
                told = "" if top1 is None else f", top-1 {top1:.4f}"
                self._tell(task, f"epoch {rows[-1]['epoch']}{told}")
        return False

    def ended(self, task: tuple[str, int], word: str, what: str | float | None) -> None:
        """See `Launcher`."""
        self._left -= 1
        told = f"top-1 {what:.4f}" if word == "finished" else word
        if word == "crashed":
            self.crashed.append(self._log_of(task))
            told = f"crashed, see {self.crashed[-1]}"
        self._tell(task, told)

    def _tell(self, task: tuple[str, int], words: str) -> None:
        total = len(self.comparison.rules) * self.comparison.seeds
        print(
            f"{time.strftime('%H:%M:%S')}  {total - self._left}/{total}  {self.name_of(task)}: "
            f"{words}",
            flush=True,
        )
        self._told = time.monotonic()
