"""Networks that are saved in one of several ways: a file, a run, or a checkpoint of a run."""

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np

from tfcredit.analysis import feedback_layers
from tfcredit.analysis.alignment import labels
from tfcredit.convert.states import refresh
from tfcredit.errors import UserError
from tfcredit.patterns import LayerPatterns
from tfcredit.rules import Rule
from tfcredit.training.checkpoint_reading import DamagedError, Stored
from tfcredit.training.checkpoints import newest
from tfcredit.training.imports import import_own
from tfcredit.training.known_images import stand_in
from tfcredit.training.own_network import load
from tfcredit.training.plan import Plan
from tfcredit.training.recipe import Recipe
from tfcredit.training.rule_flags import RulesByLayer, rule_of
from tfcredit.training.run_directory import RunDirectory
from tfcredit.training.state import AVERAGE, named

NETWORK = "network/"
"""The beginning of the names of a network's variables in a checkpoint."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A saved network.

    Attributes:
        path: As it was given.
        file: The `.keras` file that holds it, if one does.
        checkpoint: The prefix of the checkpoint that holds it, else.
        directory: The run that it is of, if it is of one.
    """

    path: Path
    file: Path | None = None
    checkpoint: Path | None = None
    directory: RunDirectory | None = None

    @classmethod
    def at(cls, path: Path) -> "Saved":
        """Finds the network that a path means.

        Args:
            path: A `.keras` file; a run directory, whose `model.keras` counts or else its newest
                checkpoint; the folder or the prefix of a run's checkpoint. A file that a run has
                written is of it.

        Returns:
            The network, not read yet.

        Raises:
            UserError: There is none.
        """
        if path.suffix == ".keras" or path.is_file() and path.suffix != ".index":
            return cls(path, file=path, directory=_writer(path))
        folder = RunDirectory(path)
        if folder.holds_run():
            if folder.model.is_file():
                return cls(path, file=folder.model, directory=folder)
            return cls(path, checkpoint=_newest(folder.checkpoints), directory=folder)
        directory = next(
            (RunDirectory(p) for p in path.parents if RunDirectory(p).holds_run()), None
        )
        prefix = path.with_suffix("") if path.suffix == ".index" else path
        if directory is not None and path.is_dir():
            return cls(path, checkpoint=_newest(path), directory=directory)
        if directory is not None and prefix.with_name(f"{prefix.name}.index").is_file():
            return cls(path, checkpoint=prefix, directory=directory)
        raise UserError(
            f"{path} is no saved network: give a .keras file, a run directory, or one of a run's "
            "checkpoints, such as RUN/checkpoints/best."
        )

    @property
    def recipe(self) -> Recipe | None:
        """The flags of the run; None without one."""
        return None if self.directory is None else self.directory.stored()

    @property
    def step(self) -> int | None:
        """The optimizer steps of the checkpoint; None of a file."""
        return None if self.checkpoint is None else int(self.checkpoint.name.rpartition("-")[2])

    def network(self) -> keras.Model:
        """Loads the network.

        Returns:
            The model, not compiled.

        Raises:
            UserError: It can't be loaded.
        """
        if self.file is not None:
            return self._loaded
        import_own(self.recipe.import_)
        images = stand_in(self.directory.known_images())  # its own may be elsewhere by now
        network = Plan.of(self.recipe, images).network()
        variables, stored = named({"network": network}), self.weights()
        missing = [name for name in variables if name not in stored]
        if missing:
            raise UserError(
                f"checkpoint {self.checkpoint} lacks {missing[0].removeprefix(NETWORK)}: the flags "
                f"in {self.directory.flags} are of another network; put the run's own back."
            )
        for name, variable in variables.items():
            variable.assign(stored[name])
        refresh(network)
        return network

    def weights(self) -> dict[str, np.ndarray]:
        """Reads the network's variables; of a run with `--ema_momentum` the moving averages.

        Returns:
            Name, as `tfcredit.training.state.named` gives it -> value.

        Raises:
            UserError: They can't be read.
        """
        if self.file is not None:
            found = named({"network": self._loaded})
            return {name: variable.numpy() for name, variable in found.items()}
        try:
            with Stored(self.checkpoint) as stored:
                averages = stored.tensors(f"{AVERAGE}/")
                found = stored.tensors(NETWORK)
        except DamagedError as problem:
            raise UserError(
                f"checkpoint {self.checkpoint} is damaged ({problem}): give another one."
            ) from None
        return found | {n.replace(f"{AVERAGE}/", NETWORK, 1): v for n, v in averages.items()}

    def rule_of(self, path: str, *names: str) -> Rule | None:
        """The rule of a layer of the network.

        Args:
            path: The layer's path, as measures have it.
            *names: Path and name of what patterns of rules mean: the layer, or the one that it is
                a part of, such as the recurrent layer of a kernel.

        Returns:
            The rule; `None` where there is no such layer with a feedback kernel, or none is known.

        Raises:
            UserError: The file can't be loaded, or the run's flags can't be read.
        """
        if self.file is not None:
            label = labels(self._loaded)
            layers = feedback_layers(self._loaded)
            return {label[id(each)]["layer"]: each.rule for each in layers}.get(path)
        import_own(self.recipe.import_)
        rule = rule_of(self.recipe)
        by_layer = isinstance(rule, RulesByLayer)
        return LayerPatterns(rule.choices).first(*names) if by_layer else rule

    @functools.cached_property
    def _loaded(self) -> keras.Model:
        if self.directory is not None:
            import_own(self.recipe.import_)
        return load(self.file)


def _writer(file: Path) -> RunDirectory | None:
    """The run that has written a `.keras` file, if one has."""
    for folder in file.absolute().parents[:2]:
        run = RunDirectory(folder)
        written = {run.model, run.exported / "model.keras", run.exported / "backprop.keras"}
        if file.absolute() in written and run.holds_run():
            return run
    return None


def _newest(folder: Path) -> Path:
    found = newest(folder)
    if found is None:
        raise UserError(f"{folder} holds no checkpoint: give a run that has saved one.")
    return found
