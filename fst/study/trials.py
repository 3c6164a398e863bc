"""The trials of one search: an Optuna study in a journal file that several processes and machines can share."""

import os
import secrets
import socket
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import optuna
import psutil
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from fst.checkpoints import refuse_changes
from fst.errors import UserError
from fst.study.criteria import Scores
from fst.study.front import Tried
from fst.study.space import Candidate, describe, draw, params_of

OBJECTIVES = ("style", "content")  # both are minimised
_ATTEMPTS = 50  # draws of the sampler for one trial that was not tried before
_LOST_AFTER = 3600  # seconds after which a trial that another machine began, and has not finished, is begun again


class Trials:
    """Gives out candidates and keeps their scores.

    A trial that a process began and did not finish, because it was stopped or killed, is given out again. The values
    that the sampler chooses for a trial depend on the seed, the trial's number and the scores so far alone, so an
    interrupted search ends with the same trials as an uninterrupted one.

    Args:
        folder: of the search.
        settings: that decide the scores; they cannot change.
        space: see `fst.study.space.usable`.
        first: named candidates, given out before those of the sampler.
        sampler: `tpe` or `random`.
        seed: of the sampler.

    Attributes:
        lock: held while a trial is given out or the page is written; other processes of the search wait for it.

    Raises:
        UserError: the folder holds a search with other settings, or with another layer set of the same name.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        space: Mapping[str, Sequence[Any]],
        first: Sequence[Candidate],
        sampler: str,
        seed: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "trials.journal"
        self._space, self._first, self._sampler, self._seed = space, {c.name: c for c in first}, sampler, seed
        self._worker = [socket.gethostname(), os.getpid(), psutil.Process().create_time(), secrets.token_hex(4)]
        # Unlike Optuna's own locks, the operating system releases these when their process is killed.
        self.lock, journal_lock = (FileLock(folder / f"{name}.lock") for name in ("claims", "journal"))
        backend = JournalFileBackend(str(path), journal_lock)  # type: ignore[arg-type] # all it calls is there
        self._running: Trial | None = None
        with self.lock:
            self._study = optuna.create_study(
                storage=JournalStorage(backend),
                study_name="search",
                sampler=optuna.samplers.RandomSampler(),  # `_candidate` sets the one that chooses
                directions=["minimize"] * len(OBJECTIVES),
                load_if_exists=True,
            )
            if "settings" in self._study.user_attrs:
                before = self._study.user_attrs["settings"]
                refuse_changes(path, before, settings, "name=OTHER starts another search", "")
            else:
                self._study.set_user_attr("settings", dict(settings))
            trials = [trial for trial in self._study.get_trials(deepcopy=False) if not _is_rejected(trial)]
            known = {trial.user_attrs.get("name") for trial in trials}
            self._refuse_changed_sets(path)
            for name, candidate in self._first.items():
                if name not in known:
                    self._enqueue(candidate)

    def claim(self, most: int) -> tuple[int, Candidate] | None:
        """The number and candidate of the next trial; `None` if there are `most`, or no other is found."""
        with self.lock:
            trial = self._abandoned()
            for _ in range(_ATTEMPTS):
                if trial is None:
                    if len(self.all()) >= most:
                        return None
                    trial = self._study.ask()
                candidate = self._candidate(trial)
                if candidate and candidate.style and not self._is_known(candidate, trial.number):
                    trial.set_user_attr("candidate", asdict(candidate))
                    trial.set_user_attr("worker", self._worker)
                    self._running = trial
                    return trial.number, candidate
                trial.set_user_attr("candidate", None)  # not counted; a named set that a stop left unfinished had one
                self._study.tell(trial, state=TrialState.FAIL)
                trial = None
        return None

    def finish(self, scores: Scores, seconds: float) -> None:
        """Store the scores of the claimed trial, unless another machine was faster."""
        assert self._running is not None
        with suppress(UpdateFinishedTrialError):
            self._running.set_user_attr("scores", asdict(scores))
            self._running.set_user_attr("seconds", seconds)
        self._study.tell(self._running, [getattr(scores, name) for name in OBJECTIVES], skip_if_finished=True)

    def fail(self, reason: str) -> None:
        """Store why the claimed trial failed, unless another machine has finished it."""
        assert self._running is not None
        with suppress(UpdateFinishedTrialError):
            self._running.set_user_attr("failed", reason)
        self._study.tell(self._running, state=TrialState.FAIL, skip_if_finished=True)

    def all(self) -> list[Tried]:
        """The trials that were begun, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [_tried(trial) for trial in trials if trial.user_attrs.get("candidate")]

    def add_check(self, number: int, scores: Scores) -> None:
        """Store the scores of a finished trial on other photos."""
        self._study.set_user_attr(f"check {number}", asdict(scores))

    def checks(self) -> dict[int, Scores]:
        """The scores on other photos, by number of the trial."""
        found = {key: value for key, value in self._study.user_attrs.items() if key.startswith("check ")}
        return {int(key.removeprefix("check ")): msgspec.convert(value, Scores) for key, value in found.items()}

    def importances(self) -> dict[str, dict[str, float]]:
        """For each objective, how much of its variation among the trials each choice explains, with the sum 1, largest
        first (PED-ANOVA, Watanabe et al. 2023); empty with fewer than ten trials."""
        sampled = optuna.create_study(directions=["minimize"] * len(OBJECTIVES))
        done = [trial for trial in self._study.get_trials(states=[TrialState.COMPLETE]) if trial.params]
        if len(done) < 10:
            return {}
        sampled.add_trials(done)
        params = [name for name, values in _distributions(self._space).items() if not values.single()]

        def importance(place: int) -> dict[str, float]:
            return optuna.importance.get_param_importances(
                sampled, params=params, target=lambda trial: trial.values[place]
            )

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that low values are what counts: they are
            return {name: importance(place) for place, name in enumerate(OBJECTIVES)}

    def _candidate(self, trial: Trial) -> Candidate | None:
        """What a trial tries; `None` for a named set that the search goes on without.

        Where the choices leave little room, the sampler returns to what was tried before: after the first such draw
        one choice is drawn at random, after the second two, and so on.
        """
        name = trial.user_attrs.get("name", "")
        if name and name not in self._first:
            return None
        if name and not params_of(self._space, self._first[name]):
            return self._first[name]
        seed = hash((self._seed, trial.number)) % 2**32
        random = optuna.samplers.RandomSampler(seed=seed)
        guided = random if self._sampler == "random" else optuna.samplers.TPESampler(seed=seed, multivariate=False)
        choices = _distributions(self._space)
        count = min(self._rejected_draws(trial.number), len(choices))
        at_random = set(np.random.default_rng(seed).permutation(list(choices))[:count])

        def choose(key: str, values: Sequence[Any]) -> int:
            self._study.sampler = random if key in at_random else guided
            return trial._suggest(key, choices[key])

        drawn = replace(draw(self._space, choose), name=name)
        if name and drawn != self._first[name]:  # which has changed since it was enqueued
            self._enqueue(self._first[name])
            return None
        return drawn

    def _enqueue(self, candidate: Candidate) -> None:
        self._study.enqueue_trial(dict(params_of(self._space, candidate)), user_attrs={"name": candidate.name})

    def _refuse_changed_sets(self, path: Path) -> None:
        for tried in (t.candidate for t in self.all() if t.candidate.name in self._first):
            if tried != self._first[tried.name]:
                was = f"the layer set {tried.name} was {describe(tried)}, and has changed"
                raise UserError(f"{path}: {was}; give it another name, or start another search with name=OTHER")

    def _rejected_draws(self, number: int) -> int:
        """How many trials just before this one were rejected."""
        trials = self._study.get_trials(deepcopy=False)[:number]
        return next((n for n, t in enumerate(reversed(trials)) if not _is_rejected(t)), len(trials))

    def _is_known(self, candidate: Candidate, number: int) -> bool:
        others = (tried for tried in self.all() if tried.number != number)
        return any(replace(other.candidate, name="") == replace(candidate, name="") for other in others)

    def _abandoned(self) -> Trial | None:
        """A trial whose process has ended. The caller holds the lock, so one without a process has lost it, too."""
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if not self._is_alive(trial):
                return Trial(self._study, trial._trial_id)
        return None

    def _is_alive(self, trial: FrozenTrial) -> bool:
        host, process, created, token = trial.user_attrs.get("worker", ["", 0, 0, ""])
        here, own, _, own_token = self._worker
        if host != here:
            began = trial.datetime_start
            return bool(host) and began is not None and (datetime.now() - began).total_seconds() < _LOST_AFTER
        if process == own:
            return token == own_token
        try:
            return psutil.Process(process).create_time() == created
        except psutil.Error:
            return False


def _distributions(space: Mapping[str, Sequence[Any]]) -> dict[str, BaseDistribution]:
    """What Optuna draws for each choice: the number of a value. All but the content layers are in order."""
    content = CategoricalDistribution(range(len(space["content"])))
    ordered = dict.fromkeys(space["style"], space["weights"])
    ordered |= {key: space[key] for key in ("style_weight", "style_scale")}
    return {"content": content} | {key: IntDistribution(0, len(values) - 1) for key, values in ordered.items()}


def _is_rejected(trial: FrozenTrial) -> bool:
    return trial.state.is_finished() and not trial.user_attrs.get("candidate")


def _tried(trial: FrozenTrial) -> Tried:
    known = trial.user_attrs
    done = trial.state == TrialState.COMPLETE
    return Tried(
        trial.number,
        msgspec.convert(known["candidate"], Candidate),
        msgspec.convert(known["scores"], Scores) if done else None,
        known.get("seconds", 0.0),
        known.get("failed", "it was given up") if trial.state == TrialState.FAIL else "",
    )
