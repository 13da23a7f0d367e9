"""The directory of a run: what lies where, and who may write there."""

import datetime
import json
import os
import pathlib
import shutil
import tempfile

from tfcredit.errors import UserError
from tfcredit.training.recipe import Recipe, parse

# Given anew at each start, so they may differ when a run continues.
FREE = {"run_dir", "resume", "overwrite", "mode", "checkpoint_every_steps", "keep", "histograms"}


class RunDirectory:
    """Files of one run: `flags.txt metrics.csv tensorboard/ checkpoints/ model.keras summary.json`.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.flags = self.path / "flags.txt"
        self.metrics = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model.keras"
        self.summary = self.path / "summary.json"

    @classmethod
    def of(cls, recipe: Recipe) -> "RunDirectory":
        """The directory that a recipe names, or a new one below `runs/`."""
        if recipe.run_dir is not None:
            return cls(recipe.run_dir)
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in recipe.rule)
        return cls(pathlib.Path("runs") / f"{recipe.dataset}-{recipe.model}-{name}-{now}")

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return self.flags.exists()

    def prepare(self, recipe: Recipe) -> bool:
        """Create the directory, or check that the run in it may be continued.

        Args:
            recipe: The complete recipe.

        Returns:
            Whether a run is to be continued.

        Raises:
            UserError: The directory holds another run or other files, or can't be written.
        """
        if self.holds_run() and not recipe.overwrite:
            if recipe.resume == "never":
                raise UserError(
                    f"{self.path} holds a run already: give another --run_dir, --resume=auto to "
                    "continue it, or --overwrite to delete it."
                )
            self._check_same(recipe)
            return True
        if recipe.resume == "must":
            raise UserError(
                f"{self.path} holds no run to continue (no {self.flags.name}): check --run_dir, or "
                "use --resume=auto to start one."
            )
        self._check_foreign()
        try:
            if self.holds_run():
                shutil.rmtree(self.path)
            for folder in (self.path, self.tensorboard, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise self.unwritable(problem) from None
        self.write(self.flags, recipe.flagfile())
        return False

    def write(self, path: pathlib.Path, text: str) -> None:
        """Write a small file so that it is there whole or not at all.

        Raises:
            UserError: The directory can't be written, or the disk is full.
        """
        try:
            with tempfile.NamedTemporaryFile("w", dir=self.path, delete=False) as file:
                file.write(text)
            os.replace(file.name, path)
        except OSError as problem:
            raise self.unwritable(problem) from None

    def write_json(self, path: pathlib.Path, content: dict) -> None:
        """`write` of `content` as JSON."""
        self.write(path, json.dumps(content, indent=1, default=str) + "\n")

    def unwritable(self, problem: OSError) -> UserError:
        """What to tell when writing failed."""
        return UserError(
            f"{self.path} can't be written ({problem.strerror or problem}): free space, mend the "
            "permissions or give another --run_dir; what was saved before is intact."
        )

    def _check_foreign(self):
        if self.path.is_file():
            raise UserError(f"{self.path} is a file: give a folder as --run_dir.")
        if self.path.exists() and any(self.path.iterdir()) and not self.holds_run():
            raise UserError(
                f"{self.path} is not empty and holds no run of tfcredit: give another --run_dir; "
                "nothing was touched."
            )

    def _check_same(self, recipe: Recipe):
        stored, _ = parse(self.flags.read_text().splitlines())
        for name in vars(recipe):
            if name in FREE:
                continue
            old, new = getattr(stored, name), getattr(recipe, name)
            if old != new:
                raise UserError(
                    f"{self.path} holds a run with --{name}={old}, not {new}: give the flags it "
                    f"was started with (--flagfile={self.flags}) or another --run_dir."
                )
