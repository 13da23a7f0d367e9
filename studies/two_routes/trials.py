"""Trials of a study: flags of `run_imagenet.py`, trained once each, kept as rows of a table."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from studies.table import as_text, read, select, write
from studies.two_routes.factor_mirror import register_rule
from studies.two_routes.scales import Flags, Scale
from tfcredit.errors import NotFiniteError, UserError
from tfcredit.training.recipe import parse
from tfcredit.training.run import Run

# Processes are forked from one that has imported TensorFlow and computed nothing yet.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["studies.two_routes.command"])
RESULTS = pathlib.Path(__file__).with_name("results")
# Fresh processes now and then: TensorFlow keeps memory of each network that it has built. Not by
# `max_tasks_per_child`, with which Python 3.11's pool waits for ever once all workers have left.
RUNS_PER_POOL = 10
OUTCOMES = ("top1", "validation_top1", "loss", "mean_angle", "finite", "seconds")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        factors: What the study varies, by name; `rule`, `network` and `seed` are among them.
        flags: All flags of the run.
    """

    factors: dict[str, str | float | int]
    flags: Flags

    @property
    def key(self) -> str:
        """The run, whatever study asks for it."""
        return " ".join(self.flags)

    @property
    def folder(self) -> str:
        """A name for the run's directory."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:16]


def trial(
    scale: Scale,
    network: str,
    rule: str,
    rule_flags: Flags,
    seed: int,
    extra: Flags = (),
    **factors,
) -> Trial:
    """A trial of a network under a rule.

    Args:
        scale: Whose flags and networks are meant.
        network: Name among `scale.networks`.
        rule: What the table calls the rule.
        rule_flags: The rule and its values.
        seed: Seed of the run.
        extra: More flags.
        **factors: More columns of the table.
    """
    flags = (*scale.base, *scale.networks[network], *rule_flags, *extra, f"--seed={seed}")
    return Trial({"network": network, "rule": rule, "seed": seed, **factors}, flags)


Measure = Callable[[pathlib.Path, Scale, Trial], dict]
"""More columns, measured on the directory of a finished run."""


class Table:
    """The rows of one study at one scale, kept in a CSV.

    Args:
        study: Name of the study.
        scale: Name of the scale.
        results: Folder that holds a folder for each scale.
    """

    def __init__(self, study: str, scale: str, results: pathlib.Path = RESULTS):
        self.path = results / scale / f"{study}.csv"
        self.rows = read(self.path)

    def row(self, one: Trial) -> dict | None:
        """The row of a trial, if there is one."""
        return next(iter(select(self.rows, flags=one.key, **one.factors)), None)

    def known(self) -> dict[str, dict]:
        """The outcomes of all runs in the tables of this scale, by the run's key."""
        return {
            row["flags"]: {name: row.get(name, "") for name in OUTCOMES}
            for path in sorted(self.path.parent.glob("[!.]*.csv"))  # not one that is half written
            for row in read(path)
        }

    def add(self, one: Trial, outcomes: dict) -> None:
        """Add a row and write the table."""
        self.rows.append(as_text({**one.factors, **outcomes, "flags": one.key}))
        names = dict.fromkeys(name for row in self.rows for name in row if name != "flags")
        write(self.path, [*names, "flags"], self.rows)


def complete(
    table: Table,
    trials: Iterable[Trial],
    scale: Scale,
    measure: Measure | None,
    runs: pathlib.Path,
    jobs: int,
    given: Flags = (),
) -> Iterator[dict]:
    """Train what the table does not hold yet.

    Args:
        table: The table; each row is written as it comes.
        trials: All that it should hold.
        scale: The scale.
        measure: More columns; needs the run's directory, so that no other table's row will do.
        runs: Folder of the run directories. A run that was interrupted goes on from its checkpoint.
        jobs: Processes that train at the same time, each with its share of the cores.
        given: Flags for every run that say where it computes, as `--data_dir`.

    Yields:
        Each new row.
    """
    missing = [one for one in trials if table.row(one) is None]
    if measure is None:
        known = table.known()
        for one in [one for one in missing if one.key in known]:
            table.add(one, known[one.key])
            missing.remove(one)
            yield table.rows[-1]
    for start in range(0, len(missing), RUNS_PER_POOL * jobs):
        yield from _train(
            table, missing[start : start + RUNS_PER_POOL * jobs], scale, measure, runs, jobs, given
        )


def _train(
    table: Table,
    trials: Sequence[Trial],
    scale: Scale,
    measure: Measure | None,
    runs: pathlib.Path,
    jobs: int,
    given: Flags,
) -> Iterator[dict]:
    """`complete` for trials that one pool of processes trains."""
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0
    with concurrent.futures.ProcessPoolExecutor(
        jobs,
        CONTEXT,
        initializer=_prepare,
        initargs=(threads,),
    ) as pool:
        futures = {
            pool.submit(run, one, scale, measure, runs / one.folder, given): one for one in trials
        }
        for future in concurrent.futures.as_completed(futures):
            table.add(futures[future], future.result())
            yield table.rows[-1]


def _prepare(threads: int) -> None:
    """Give this process its share of the cores, 0 for all, and let it end with its parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tf.get_logger().setLevel("ERROR")  # it warns of retracing: each run has a network of its own
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _end_with_parent() -> None:
    """Without this, workers of a parent that was killed would train on and wait for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def run(
    one: Trial, scale: Scale, measure: Measure | None, folder: pathlib.Path, given: Flags
) -> dict:
    """Train one trial in its directory, or read what it left there.

    Returns:
        The outcomes, and what `measure` adds where the run did not diverge.
    """
    register_rule()
    keras.backend.clear_session()
    summary, diverged = folder / "summary.json", folder / "diverged"
    if not summary.exists() and not diverged.exists():
        places = (f"--run_dir={folder}", "--resume=auto")
        recipe, _ = parse([*one.flags, *given, *places])
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                Run(recipe).train()
        except NotFiniteError as problem:
            diverged.write_text(str(problem))
    if not summary.exists() and not diverged.exists():
        raise UserError(f"{folder} was stopped: the same command goes on with it.")
    if diverged.exists():
        return dict.fromkeys(OUTCOMES, "") | {"finite": False}
    found = json.loads(summary.read_text())
    outcomes = {name: found.get(name) for name in OUTCOMES}
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return outcomes | {"finite": True} | (measure(folder, scale, one) if measure else {})


def accuracy(row: dict, scale: Scale, column: str = "top1") -> float:
    """Top-1 in per cent; chance for a run that diverged."""
    return 100 * (float(row[column]) if row["finite"] == "True" else scale.chance)
