"""Reading one checkpoint: checks that it is whole and fits before anything is assigned."""

import contextlib
import pathlib
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from tfcredit.errors import UserError

FOOTER = 48
"""Bytes at the end of an index: two places in the file, zeros, and a number that marks the end."""
OLDER = re.compile(r"variable_\d+/\.ATTRIBUTES/VARIABLE_VALUE")
"""Names in the checkpoints of revision 0.1, which numbered the variables."""
REPLICA = re.compile(r"(.*)@\d+")
"""The name of a variable of which each replica has its own: `NAME@REPLICA`."""
UNREADABLE = (tf.errors.OpError, OSError, ValueError, TypeError, LookupError, RuntimeError)


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
        prefix = self.prefix
        try:
            _check_footer(prefix.with_name(prefix.name + ".index"))
            self._reader = tf.train.load_checkpoint(str(self._plain(prefix)))
            self._shapes = self._reader.get_variable_to_shape_map()
            for name in self._shapes:
                self._reader.get_tensor(name)  # which compares check sums
        except UNREADABLE as problem:
            self._links.close()
            raise DamagedError(_told(problem)) from None
        return self

    def __exit__(self, *problem) -> None:
        self._links.close()

    def _plain(self, prefix: pathlib.Path) -> pathlib.Path:
        """A path that TensorFlow's reader, which takes it for a pattern, takes for what it is."""
        if not set("[]*?\\") & set(str(prefix)):
            return prefix
        links = self._links.enter_context(tempfile.TemporaryDirectory())
        folder = pathlib.Path(links) / "link"
        folder.symlink_to(prefix.parent.absolute(), target_is_directory=True)
        return folder / prefix.name

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
                raise DamagedError(_told(problem)) from None
            zeros = np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
            variable.assign(values[0] if len(values) == 1 else sum(values, zeros))

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


def _check_footer(index: pathlib.Path) -> None:
    """Check two lengths without check sum; TensorFlow would allocate what they say, and abort."""
    size = index.stat().st_size
    with index.open("rb") as file:
        file.seek(max(0, size - FOOTER))
        numbers = _varints(file.read(), 4)
    if size < FOOTER or any(start + length > size for start, length in zip(*numbers, strict=True)):
        raise ValueError("its index is cut or overwritten")


def _varints(data: bytes, count: int) -> tuple[list[int], list[int]]:
    """The first numbers of some bytes, 7 bits in each: those at even and those at odd places."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    numbers = [*numbers, *[2**63] * count][:count]
    return numbers[::2], numbers[1::2]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _told(problem: Exception) -> str:
    lines = str(getattr(problem, "message", None) or problem).splitlines()
    return lines[0][:200] if lines else type(problem).__name__
