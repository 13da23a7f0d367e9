"""The trials of a study, which processes on several machines share.

A trial has a number from 0 on, and one or more records in the study. A record waits until a process
claims it; that process trains the trial and shows that it lives. When it shows no sign of life
any more, its record is given up, and another record of the same number waits for a process. Of
several records of a number the first that is not given up counts, so that all processes see the
same trials, whatever they do at the same time.
"""

import contextlib
import dataclasses
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

BEAT = 10.0
"""Seconds between two signs of life."""
GRACE = 60.0
"""Seconds without one after which a process counts as dead."""


def number_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The number of the trial that a record is of; Optuna's own of searches of earlier versions."""
    return trial.user_attrs.get("number", trial.number)


def is_given_up(trial: FrozenTrial) -> bool:
    """True if the process that had claimed the record counts as dead."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get("given_up", False)


def machine_of(trial: FrozenTrial) -> str | None:
    """The name of the machine that claimed a record last."""
    return next(iter(_sign_of(trial).split()), None)


@dataclasses.dataclass
class _Sign:
    """A sign of life, and when it was seen first."""

    text: str
    seen: float


class Trials:
    """The trials of a study.

    Args:
        study: The study.
        storage: Its storage.
        alone: True if no other process can be at work on it.
    """

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, alone: bool):
        self.study, self._storage = study, storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self.alone = alone
        self._own = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self._beats = 0
        self._last = float("-inf")
        self._signs: dict[int, _Sign] = {}
        if alone:
            for record in self.current().values():
                if record.state == TrialState.RUNNING:
                    self._set(record, TrialState.WAITING)

    def current(self) -> dict[int, FrozenTrial]:
        """Number -> the record that counts, in the order of the numbers."""
        found: dict[int, FrozenTrial] = {}
        for record in self.study.get_trials(deepcopy=False):
            number = number_of(record)
            if number not in found or is_given_up(found[number]):
                found[number] = record
        return dict(sorted(found.items()))

    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended in any way."""
        return [t for t in self.current().values() if t.state.is_finished() and not is_given_up(t)]

    def elsewhere(self) -> dict[int, FrozenTrial]:
        """The trials that other processes train, by number."""
        return {
            number: record
            for number, record in self.current().items()
            if record.state == TrialState.RUNNING and not self._is_own(record)
        }

    def claim(self, total: int, is_blocked: Callable[[int], bool]) -> optuna.Trial | None:
        """Take the first trial that nobody trains.

        Args:
            total: Trials in all; their numbers are below it.
            is_blocked: Tells if the trial of a number can't be trained now.

        Returns:
            The trial; `None` if there is none to take.
        """
        while True:
            current = self.current()
            taken = [r for r in current.values() if not _is_free(r)]
            free = [n for n in range(total) if n not in current or _is_free(current[n])]
            number = next((n for n in free if not is_blocked(n)), None)
            if len(taken) >= total or number is None:
                return None
            record = current.get(number)
            if record is None or is_given_up(record):
                self._add(number, record)
            elif self._set(record, TrialState.RUNNING):
                self._repeat(number, record)
                trial = optuna.Trial(self.study, self._id(record))
                trial.set_user_attr("alive", self._own)
                return trial

    def release(self, trial: optuna.Trial) -> None:
        """Let others train a trial that this process has stopped."""
        self._set(trial, TrialState.WAITING)

    def note(self, trial: optuna.Trial, name: str, value: Any) -> None:
        """Set an attribute of a trial, unless another process gave it up meanwhile."""
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr(name, value)

    def beat(self, own: Collection[optuna.Trial]) -> list[optuna.Trial]:
        """Show that this process lives, and give up the trials of those that don't.

        It acts every `BEAT` seconds, however often it is called.

        Args:
            own: The trials that this process trains.

        Returns:
            Those that another process gave up meanwhile.
        """
        now = time.monotonic()
        if self.alone or now - self._last < BEAT:
            return []
        if now - self._last > GRACE / 2:
            self._signs.clear()  # this process was away: nobody can be judged by what it saw before
        self._last = now
        self._beats += 1
        lost = [trial for trial in own if not self._show(trial)]
        for number, record in self.elsewhere().items():
            text = _sign_of(record)
            sign = self._signs.get(record.number)
            if sign is None or sign.text != text:
                self._signs[record.number] = _Sign(text, now)
            elif now - sign.seen > GRACE:
                self._give_up(number, record)
        return lost

    def tell(
        self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None
    ) -> FrozenTrial | None:
        """End a trial, with the value or the state that it ended with.

        Args:
            trial: The trial.
            value: Its value.
            state: Its state, if it has no value.

        Returns:
            The record; `None` if another process gave it up meanwhile.
        """
        try:
            ended = self.study.tell(trial, value, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return None
        return None if is_given_up(ended) else ended

    def _is_own(self, record: FrozenTrial) -> bool:
        return _sign_of(record).startswith(self._own)

    def _show(self, trial: optuna.Trial) -> bool:
        try:
            trial.set_user_attr("alive", f"{self._own} {self._beats}")
        except UpdateFinishedTrialError:
            return False
        return True

    def _give_up(self, number: int, record: FrozenTrial) -> None:
        try:
            self._storage.set_trial_user_attr(self._id(record), "given_up", True)
        except UpdateFinishedTrialError:
            return  # it has ended, or another process was faster
        if self._set(record, TrialState.FAIL):
            print(
                f"{time.strftime('%H:%M:%S')}  trial {number}: no sign of life of "
                f"{machine_of(record) or 'its machine'} for {GRACE:.0f} s; it is tried again",
                flush=True,
            )

    def _add(self, number: int, before: FrozenTrial | None) -> None:
        """Add a waiting record, which tries what the one before it tried."""
        tried = (
            {}
            if before is None
            else {"params": before.params, "distributions": before.distributions}
        )
        attributes = {"number": number}
        waiting = TrialState.WAITING
        self.study.add_trial(
            optuna.trial.create_trial(state=waiting, user_attrs=attributes, **tried)
        )

    def _repeat(self, number: int, record: FrozenTrial) -> None:
        """Have a record try what one of its number that was given up tried.

        Two processes may add a record of a number at once, of which the second has no values.
        """
        records = self.study.get_trials(deepcopy=False)
        tried = [r for r in records if number_of(r) == number and is_given_up(r) and r.params]
        if record.params or not tried:
            return
        for name, one in tried[-1].distributions.items():
            value = one.to_internal_repr(tried[-1].params[name])
            self._storage.set_trial_param(self._id(record), name, value, one)

    def _set(self, trial: FrozenTrial | optuna.Trial, state: TrialState) -> bool:
        """Set a state; False if it was another process that changed it."""
        try:
            return self._storage.set_trial_state_values(self._id(trial), state)
        except UpdateFinishedTrialError:
            return False

    def _id(self, trial: FrozenTrial | optuna.Trial) -> int:
        find = self._storage.get_trial_id_from_study_id_trial_number
        return find(self._study_id, trial.number)


def _sign_of(record: FrozenTrial) -> str:
    """What the process that trains a trial wrote last: machine, process, counter."""
    return record.user_attrs.get("alive", "")


def _is_free(record: FrozenTrial) -> bool:
    return record.state == TrialState.WAITING or is_given_up(record)
