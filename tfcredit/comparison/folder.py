"""The folder of a comparison: its runs, and the files that tell what came of them."""

import filecmp
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib

from tfcredit.analysis import plots
from tfcredit.checks import integer
from tfcredit.directories import Directory
from tfcredit.errors import UserError
from tfcredit.files import partial, written
from tfcredit.records import markdown, write_csv
from tfcredit.report.files import NotRead, read_text
from tfcredit.report.groups import Group, cells, curves, grouped, heads, results
from tfcredit.report.page import page
from tfcredit.report.reading import MOST_TEXT, read_runs
from tfcredit.training import known_images
from tfcredit.training.recipe import Recipe, recipe_of
from tfcredit.training.run_directory import RunDirectory, as_name, differences, told

PANELS = ("top1", "mean_angle")


class Comparison(Directory):
    """Files of a comparison: `compare.json runs/ compare.csv compare.md compare.svg compare.png`.

    And `curves.csv report.html`, and `arrays.npz` if arrays were given in Python. One process at a
    time works on it.

    Args:
        path: The folder.
        recipe: What the runs have in common.
        rules: The rules, as `--rule` takes them.
        seeds: Runs of each rule, of the seeds from 0 on.
        images: What is known of the images, as `known_images.described` gives it.
    """

    flag = "compare_dir"
    holds = "comparison"
    again = "give the same command again"

    def __init__(
        self,
        path: str | os.PathLike,
        recipe: Recipe,
        rules: Sequence[str],
        seeds: int,
        images: Mapping[str, Any] | None = None,
    ):
        super().__init__(path)
        self.images = dict(images or {})
        self.recipe, self.rules, self.seeds = recipe, list(rules), seeds
        self.stated = self.path / "compare.json"
        self.runs = self.path / "runs"
        self.table = self.path / "compare.csv"
        self.markdown = self.path / "compare.md"
        self.curves = self.path / "curves.csv"
        self.page = self.path / "report.html"
        self.figures = [self.path / f"compare.{ending}" for ending in ("svg", "png")]
        self.arrays = self.path / "arrays.npz"
        self.folders: dict[str, str] = {}
        self._arrays: pathlib.Path | None = None

    def check_place(self) -> None:
        """Check that the folder is empty or holds a comparison, whichever.

        Raises:
            UserError: It holds other files, or a file of a comparison is something else.
        """
        self.check_files(self.stated)
        if not self.stated.exists():
            self.check_foreign({partial(self.stated)})
        self.check_files(self.lock, self.arrays)
        self.check_files(self.table, self.markdown, self.curves, self.page, *self.figures)
        self.check_folders(self.runs)

    def check(self) -> None:
        """Check that the comparison may be started or continued here.

        Raises:
            UserError: The folder holds another comparison, other files or damaged ones.
        """
        self.check_place()
        if not self.stated.exists():
            return
        recipe, folders, seeds, images = self._stored()
        for name, old, new in differences(recipe, replace(self.recipe, rule=recipe.rule)):
            raise self._another(told(name, old, new))
        for rule in folders:
            if rule not in self.rules:
                raise self._another(f"the rule {rule[:80]!r}, which is not among --rules")
        if seeds > self.seeds:
            raise self._another(f"{seeds} seeds, not {self.seeds}")
        if differs := known_images.difference(images, self.images):
            raise UserError(
                f"{self.path} holds a comparison with {differs}: put the images back that it was "
                f"started with, or give another --{self.flag}."
            )
        self.folders = folders
        self.images = images or self.images
        for rule, seed in self.tasks():
            if rule in folders:
                self._check_run(rule, seed)

    def prepare(self) -> None:
        """Write what is compared; rules and seeds may be added later.

        Raises:
            UserError: As `check`, or the folder can't be written.
        """
        self.check()  # again: another process may have been here before the lock
        for rule in self.rules:
            if rule not in self.folders:
                name = as_name(rule).strip("-.")[:80] or "rule"
                while name in self.folders.values():
                    name += "-2"
                self.folders[rule] = name
        with self.writing():
            self.runs.mkdir(exist_ok=True)
        stated = {"seeds": self.seeds, "rules": self.folders, "images": self.images}
        self.write_json(self.stated, {**stated, "flags": self.recipe.flagfile().splitlines()})
        if self._arrays is not None:
            self._copy_arrays(self._arrays)

    def keep_arrays(self, file: pathlib.Path) -> None:
        """Let `prepare` copy the arrays that all runs train on into the folder.

        Args:
            file: A `.npz` file of them.
        """
        self._arrays = file
        self.recipe = replace(self.recipe, data_dir=str(self.arrays))

    def _copy_arrays(self, file: pathlib.Path) -> None:
        """Copy them, also where the copy that is there was damaged or replaced meanwhile."""
        with self.writing():
            if self.arrays.exists():
                if filecmp.cmp(file, self.arrays, shallow=False):
                    return
                print(f"{self.arrays} is not as it was written: writing it again.", flush=True)
            with written(self.arrays) as unfinished:
                shutil.copyfile(file, unfinished)

    def tasks(self) -> Iterator[tuple[str, int]]:
        """Each rule with each seed; all rules with the first seed come first."""
        for seed in range(self.seeds):
            for rule in self.rules:
                yield rule, seed

    def run_of(self, rule: str, seed: int) -> RunDirectory:
        """The run directory of a rule and a seed."""
        return RunDirectory(self.runs / self.folders[rule] / f"seed{seed}")

    def has_ended(self, rule: str, seed: int) -> bool:
        """True if a run is finished or has diverged."""
        run = self.run_of(rule, seed)
        if not run.holds_run():
            return False
        return run.diverged.exists() or run.read_summary() is not None

    def groups(self) -> tuple[list[Group], list[str]]:
        """The runs of each rule, and notes on what can't be read of them."""
        paths = [self.run_of(*task).path for task in self.tasks() if self.has_ended(*task)]
        runs, notes = read_runs(paths) if paths else ([], [])
        order = {rule: index for index, rule in enumerate(self.rules)}
        runs.sort(key=lambda run: (order[run.recipe.rule], run.recipe.seed))
        return grouped(runs), notes

    def write_results(self) -> list[dict]:
        """Write tables, figures and the page.

        Returns:
            The records of `curves.csv`; none if no run has ended.

        Raises:
            UserError: The folder can't be written.
        """
        with self.writing():
            self.stated.stat()  # the folder may have been removed
        groups, notes = self.groups()
        if not groups:
            return []
        records = curves(groups)
        table = results(groups)
        text = markdown(heads(groups), map(cells, table), padded=True)
        self.write(self.markdown, f"{text}\n")
        with self.writing():
            write_csv(table, self.table)
            write_csv(records, self.curves)
        self._draw(records)
        runs = [run for group in groups for run in group.runs]
        self.write(self.page, page(runs, notes, compared=True))
        return records

    def _draw(self, records: list[dict]) -> None:
        names = [n for n in PANELS if any(record[n] is not None for record in records)]
        if not names:
            return
        with self.writing(), matplotlib.rc_context({"svg.hashsalt": "tfcredit"}):
            figure = plots.compare(records, names)
            svg, png = self.figures
            with written(svg) as unfinished:
                figure.savefig(unfinished, metadata={"Date": None})
            with written(png) as unfinished:
                figure.savefig(unfinished, dpi=150)

    def _check_run(self, rule: str, seed: int) -> None:
        """Check that a folder holds the run of this rule and seed, or none yet."""
        run = self.run_of(rule, seed)
        self.check_folders(run.path.parent, run.path)
        own = replace(self.recipe, rule=rule, seed=seed, resume="auto")
        if not run.holds_run():
            run.check(own)
            return
        run.check_kinds()
        for name, old, new in differences(run.stored(), own):
            if new is not None:  # else the rule or the data decide
                raise UserError(
                    f"{run.path} holds a run with {told(name, old, new)}: move it to where it "
                    "belongs, or away to train this one anew; nothing was touched."
                )

    def _stored(self) -> tuple[Recipe, dict[str, str], int, dict[str, Any]]:
        """What is compared here: flags, folders of the rules, seeds, what is known of images."""
        try:
            content = json.loads(read_text(self.path, self.stated, MOST_TEXT))
            folders = dict(content["rules"].items())
            seeds = integer("seeds", content["seeds"], at_least=1)
            images = known_images.checked(content.get("images"))  # none of earlier versions
            if not all(map(_is_name, folders.values())) or len({*folders.values()}) < len(folders):
                raise ValueError
            return recipe_of(content["flags"]), folders, seeds, images
        except (NotRead, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UserError(
                f"{self.stated} is damaged or of no comparison: give another --{self.flag}; "
                "nothing was touched."
            ) from None

    def _another(self, what: str) -> UserError:
        return UserError(
            f"{self.path} holds a comparison with {what}: give the flags that it was started with "
            f"(rules and seeds may be added), or another --{self.flag}."
        )


def _is_name(folder: str) -> bool:
    """True for a folder's name that `prepare` may have chosen, which leads nowhere else."""
    return as_name(folder) == folder and folder.strip(".") != "" and len(folder.encode()) < 256
