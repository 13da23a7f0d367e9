"""Reading one checkpoint: checks that it is whole and fits before anything is assigned."""

import contextlib
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from tfcredit.errors import UserError
from tfcredit.tensor_files import UNREADABLE, checkpoint_reader, reason

OLDER = re.compile(r"variable_\d+/\.ATTRIBUTES/VARIABLE_VALUE")
"""Names in the checkpoints of revision 0.1, which numbered the variables."""
REPLICA = re.compile(r"(.*)@\d+")
"""The name of a variable of which each replica has its own: `NAME@REPLICA`."""


class DamagedError(Exception):
    """A checkpoint can't be read; its text says why."""


class Stored:
    """The content of a checkpoint, all of which can be read; a context manager.

    Entering it raises `DamagedError` if something in it can't be read.

    Args:
        prefix: Of its files.
    """

    def __init__(self, prefix: pathlib.Path):
        self.prefix = prefix
        self._links = contextlib.ExitStack()

    def __enter__(self) -> "Stored":
        try:
            self._reader = self._links.enter_context(checkpoint_reader(self.prefix))
            self._shapes = self._reader.get_variable_to_shape_map()
            for name in self._shapes:
                self._reader.get_tensor(name)  # which compares check sums
        except UserError:  # there is no place for temporary files
            raise
        except UNREADABLE as problem:
            self._links.close()
            raise DamagedError(reason(problem)) from None
        return self

    def __exit__(self, *problem) -> None:
        self._links.close()

    def assign_to(self, variables: Mapping[str, tf.Variable]) -> None:
        """Assign the stored values.

        Args:
            variables: Name -> variable. If the number of replicas was another one, the sums over
                the replicas are kept.

        Raises:
            UserError: The checkpoint lacks a variable, or has others or other shapes.
            DamagedError: The files were deleted meanwhile.
        """
        sources = self._sources(variables)
        self._check_fit(sources, variables)
        for name, variable in variables.items():
            try:
                values = [self._reader.get_tensor(source) for source in sources[name]]
            except UNREADABLE as problem:
                raise DamagedError(reason(problem)) from None
            zeros = np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
            variable.assign(values[0] if len(values) == 1 else sum(values, zeros))

    def tensors(self, start: str) -> dict[str, np.ndarray]:
        """Reads the tensors whose names have a beginning.

        Args:
            start: The beginning.

        Returns:
            Name -> value.
        """
        return {n: self._reader.get_tensor(n) for n in self._shapes if n.startswith(start)}

    def _sources(self, variables: Mapping[str, tf.Variable]) -> dict[str, list[str]]:
        """Name of a variable -> names of the stored tensors whose sum it gets."""
        mine = _replicas(variables)
        if any(OLDER.fullmatch(name) for name in self._shapes):
            theirs = self._numbered(list(mine))
        else:
            theirs = _replicas(name for name in self._shapes if name != "step")
        sources: dict[str, list[str]] = {}
        for base, stored in theirs.items():
            names = mine.get(base, stored)
            if len(names) == len(stored):
                sources |= {name: [one] for name, one in zip(names, stored, strict=True)}
            else:
                sources |= {name: [] for name in names} | {names[0]: stored}
        return sources

    def _numbered(self, names: list[str]) -> dict[str, list[str]]:
        """As `_replicas`, of a checkpoint that numbers the variables in the order of `names`."""
        ending = "/.ATTRIBUTES/VARIABLE_VALUE"
        count = sum(name.startswith("variable_") for name in self._shapes)
        named = [*names, *(f"variable_{i}" for i in range(len(names), count))][:count]
        return {name: [f"variable_{i}{ending}"] for i, name in enumerate(named)}

    def _check_fit(
        self, sources: Mapping[str, list[str]], variables: Mapping[str, tf.Variable]
    ) -> None:
        missing = [name for name in variables if name not in sources]
        surplus = [name for name in sources if name not in variables]
        shapes = [
            f"{name} of shape {tuple(self._shapes[source])}, not {tuple(variables[name].shape)}"
            for name, found in sources.items()
            for source in found[:1]
            if name in variables and self._shapes[source] != variables[name].shape
        ]
        wrong = [
            f"{words} {_few(names)}"
            for words, names in [("lacks", missing), ("also has", surplus), ("has", shapes)]
            if names
        ]
        if wrong:
            raise UserError(
                f"checkpoint {self.prefix} is of another network, rule or optimizer: it "
                f"{'; it '.join(wrong)}; give the flags that the run was started with, or another "
                "--run_dir."
            )


def _replicas(names: Iterable[str]) -> dict[str, list[str]]:
    """Name without replica -> names with it."""
    found = defaultdict(list)
    for name in names:
        match = REPLICA.fullmatch(name)
        found[match[1] if match else name].append(name)
    return {base: sorted(places) for base, places in found.items()}


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
