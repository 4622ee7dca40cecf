"""The exceptions that are no defects: "the user can mend this", and "the sweep wants no more of this"."""

import errno
import re
import sysconfig
import traceback
from pathlib import Path

from omegaconf.errors import GrammarParseError, InterpolationResolutionError, MissingMandatoryValue

# What only a user can mend about files: room, rights, a file where a folder should be, a place where nothing can be made.
MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
)


# Where the code lies that is no user's own: this package's, Python's and what is installed.
NOT_OWN = (Path(__file__).parents[1], *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")))
SHOWN = " (HYDRA_FULL_ERROR=1 shows where)"


class UserError(Exception):
    """A mistake in the command, the config or the data; its message is one line that says what to do."""


class Diverged(UserError):
    """A training, or what it gave, is no longer finite: it is not to be scored or ranked."""


class Terminated(SystemExit):
    """SIGTERM has come; its code is the exit status."""


class StoppedEarly(Exception):
    """A sweep's `early_terminate` has stopped this training; the message says when and why."""


UNRESOLVED = (GrammarParseError, InterpolationResolutionError, MissingMandatoryValue)  # `${...}` of nothing, and `???`


def user_error_in(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is or was caused by (Hydra wraps what a `_target_` raises), if any. A full disk, a
    forbidden or misplaced file, and a setting that refers to nothing are one too."""
    while error is not None and not isinstance(error, UserError):
        if isinstance(error, OSError) and error.errno in MENDABLE and (error.filename or error.errno != errno.ENOENT):
            return UserError(f"{error.filename or 'a file'}: {error.strerror}")
        if isinstance(error, UNRESOLVED):
            return UserError(f"{error.full_key or 'a setting'} cannot be resolved: {str(error).splitlines()[0]}")
        if type(error).__name__ == "UncompletedJobError":  # submitit's
            return _of_submitted_job(str(error))
        error = error.__cause__ or (error.__context__ if isinstance(error.__context__, OSError) else None)
    return error


def failure_of_own_code(error: BaseException) -> UserError | None:
    """Where in a user's own code, a sampler or a metric, `error` came about, and what it says; None where it has not passed
    any."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(code, line) for code, line in frames if _is_own(Path(code.co_filename))]
    if not own:
        return None
    code, line = own[-1]
    file = Path(code.co_filename)
    file = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return UserError(f"{code.co_qualname} ({file}, line {line}) fails: {said}{SHOWN}")


def _is_own(file: Path) -> bool:
    made = "torchinductor" in str(file)  # what torch.compile writes
    return file.is_file() and not made and not any(file.is_relative_to(place) for place in NOT_OWN)


def _of_submitted_job(said: str) -> UserError:
    """What became of a job of a cluster that left nothing, which submitit says with all that the job said."""
    found = re.search(r"Job (\S+) .*with path (.*)_result\.pkl\n.*\(state: (.*)\)", said)
    what = "a submitted job left no result"
    if found:
        job, log, state = found.groups()
        what = f"submitted job {job} left no result (state {state}): see {log}_log.err"
    return UserError(f"{what}; the others go on. Type the same command again: what is finished is not run again")
