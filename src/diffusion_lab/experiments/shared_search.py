"""A search's trials, kept in the sweep's folder: shared by all processes that run the sweep, taken up again after a kill.

They are in Optuna's journal, `search/journal.log`, which its dashboard reads too. Who works on a trial holds
`search/<number>.lock`, so a trial without a holder was interrupted.
"""

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from diffusion_lab.experiments import sweeps

WAIT_S = 60  # for another process that proposes


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on: its number, its job, and the lock that says so."""

    number: int
    job: dict
    lock: FileLock


class SharedSearch:
    """The trials of `sweep` in `folder`.

    A sweep file with other parameters or another metric begins another study in the same journal; `run_cap` may grow.
    """

    def __init__(self, sweep: dict, folder: Path):
        self.sweep, self.folder = sweep, folder / "search"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "journal.log"
        direction = sweep.get("metric", {}).get("goal", "minimize")
        self.study = optuna.create_study(
            storage=_storage(self.file), study_name=name_of(sweep), direction=direction, load_if_exists=True
        )
        self.study.set_user_attr("early_terminate", sweep.get("early_terminate"))
        self.first = len(self.study.trials)  # of this session

    def claim(self, count: int) -> list[Claim]:
        """Up to `count` trials for this process: interrupted ones first, then new ones, within the sweep's `run_cap`.

        Failed trials of earlier sessions do not count: others are proposed in their place.
        """
        with FileLock(self.folder / "lock", timeout=WAIT_S):
            running = self.study.get_trials(states=(TrialState.RUNNING,))
            claims = [claim for trial in running if (claim := self._claim(trial))][:count]
            while len(claims) < count and self._left() > 0 and (job := self._next()):
                self.study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"job": job}))
                claims.append(self._claim(self.study.trials[-1]))
        return claims

    def trial_override(self, claim: Claim) -> str:
        """The override that tells a job which trial it is."""
        file = sweeps.hydra_text(str(self.file.resolve()))
        return f"trial={{journal:{file},study:{self.study.study_name},number:{claim.number}}}"

    def settle(self, claim: Claim, figure: float | None, status: str | None) -> None:
        """Write down what became of a trial: its figure, or that it was stopped early, or that it failed."""
        if figure is not None and math.isfinite(figure):
            self.study.tell(claim.number, figure)
        else:
            stopped = status == "stopped early"
            self.study.tell(claim.number, state=TrialState.PRUNED if stopped else TrialState.FAIL)
        Path(claim.lock.lock_file).unlink(missing_ok=True)
        claim.lock.release()

    def _failed_before(self) -> list[int]:
        """The numbers of the trials that failed in earlier sessions."""
        return [trial.number for trial in self.study.trials[: self.first] if trial.state == TrialState.FAIL]

    def _left(self) -> int:
        return self.sweep.get("run_cap", sweeps.MOST_JOBS) - len(self.study.trials) + len(self._failed_before())

    def _next(self) -> dict | None:
        if self.sweep["method"] == "grid":
            failed = self._failed_before()
            taken = [trial.user_attrs["job"] for trial in self.study.trials if trial.number not in failed]
            return next((job for job in sweeps.known_jobs(self.sweep, lambda job: None) if job not in taken), None)
        uncapped = {key: value for key, value in self.sweep.items() if key != "run_cap"}
        return next(iter(sweeps.next_jobs(uncapped, done_in(self.study), 1)), None)

    def _claim(self, trial: FrozenTrial) -> Claim | None:
        lock = FileLock(self.folder / f"{trial.number:04d}.lock")
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            return Claim(trial.number, trial.user_attrs["job"], lock)
        return None


def done_before(sweep: dict, folder: Path) -> list[tuple[dict, float | None]]:
    """The trials in `folder`'s journal, each with its figure; none where there is no journal. Writes nothing."""
    file = folder / "search/journal.log"
    if not file.is_file():
        return []
    with contextlib.suppress(KeyError):  # the journal has no such study
        return done_in(optuna.load_study(storage=_storage(file), study_name=name_of(sweep)))
    return []


def done_in(study: optuna.Study) -> list[tuple[dict, float | None]]:
    """The jobs of a study's trials with their figures; None for those that failed, were stopped or still run."""
    finished = TrialState.COMPLETE
    return [(trial.user_attrs["job"], trial.value if trial.state == finished else None) for trial in study.trials]


def name_of(sweep: dict) -> str:
    """What names a study: the same parameters, method and metric are the same search."""
    what = {key: sweep.get(key) for key in ("method", "parameters", "metric")}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


class RunningTrial:
    """The trial that a training job is, as its sweep named it.

    Args:
        journal: the journal's file.
        study: the study's name in it.
        number: of the trial.
    """

    def __init__(self, journal: str, study: str, number: int):
        self.study = optuna.load_study(storage=_storage(Path(journal)), study_name=study)
        self.study.pruner = pruner(self.study.user_attrs["early_terminate"])
        self.sign = 1 if self.study.direction == optuna.study.StudyDirection.MINIMIZE else -1
        self.number = number

    def is_to_stop(self, epoch: int, value: float) -> bool:
        """Report a curve's value after `epoch`, counted from 1, less being better; whether others did so much better that
        the sweep's `early_terminate` stops this one."""
        trial = Trial(self.study, self.study.trials[self.number]._trial_id)
        if epoch not in self.study.trials[self.number].intermediate_values:  # a resumed run passes it again
            trial.report(self.sign * value, epoch)
        return trial.should_prune()


def pruner(early_terminate: dict) -> SuccessiveHalvingPruner:
    """W&B's hyperband in one bracket, which is asynchronous successive halving (Li et al. 2018, arXiv:1810.05934).

    Runs are compared after min_iter, min_iter eta, min_iter eta^2... epochs, or after max_iter / eta^s, ..., max_iter /
    eta; of those that came so far the best 1 / eta go on.
    """
    eta = early_terminate.get("eta", 3)
    first = early_terminate.get("min_iter") or max(1, round(early_terminate["max_iter"] / eta ** early_terminate["s"]))
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=eta)


def _storage(file: Path) -> JournalStorage:
    lock = JournalFileSymlinkLock(str(file))
    _drop_half_a_line(file, lock)
    return JournalStorage(JournalFileBackend(str(file), lock))


def _drop_half_a_line(file: Path, lock: JournalFileSymlinkLock) -> None:
    """Mend a journal whose last line a full disk or a power cut broke off, which the next line would be glued to."""
    if not file.is_file() or file.read_bytes()[-1:] in (b"", b"\n"):
        return
    lock.acquire()
    try:
        text = file.read_bytes()
        with file.open("r+b") as journal:
            journal.truncate(text.rfind(b"\n") + 1)
    finally:
        lock.release()
