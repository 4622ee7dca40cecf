"""The exception that means "the user can mend this"."""

from hydra.errors import InstantiationException


class UserError(Exception):
    """A mistake in the command, the config or the data; its message is one line that says what to do."""


def user_error_in(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is or was caused by (Hydra wraps what a `_target_` raises), if any.

    One is made of a setting that a `_target_` does not know: those of one choice may be left below another.
    """
    while error is not None and not isinstance(error, UserError):
        if isinstance(error, InstantiationException) and isinstance(error.__cause__, TypeError):
            return UserError(f"a setting does not belong to the choice that it is below: {error.__cause__}")
        error = error.__cause__
    return error
