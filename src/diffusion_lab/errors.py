"""The exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in the command, the config or the data; its message is one line that says what to do."""


def user_error_in(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is or was caused by (Hydra wraps what a `_target_` raises), if any."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error
