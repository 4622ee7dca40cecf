"""The exceptions that are no defects: "the user can mend this", and "the sweep wants no more of this"."""


class UserError(Exception):
    """A mistake in the command, the config or the data; its message is one line that says what to do."""


class StoppedEarly(Exception):
    """A sweep's `early_terminate` has stopped this training; the message says when and why."""


def user_error_in(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is or was caused by (Hydra wraps what a `_target_` raises), if any."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error
