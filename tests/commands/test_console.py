"""What is said on the terminal says what it was given."""

import errno
import os

import pytest

from diffusion_lab.commands.console import exit_on_user_error, print_figures
from diffusion_lab.errors import UserError
from tests.reports.made import RESULTS


def test_brackets_in_names_are_no_markup(capsys):
    """Of a checkpoint's folder, say: it ended in a traceback after all the work."""
    print_figures({**RESULTS, "kid": 0.1, "weights": "averaged", "protocol": "[/i]mine"}, "[/b]/last.ckpt")
    said = "".join(capsys.readouterr().out.split())
    assert "[/b]/last.ckpt" in said
    assert "protocol[/i]mine" in said


def failing(error: Exception):
    raise error


@pytest.mark.parametrize("error", [UserError("two\nlines of [/b]"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x")])
def test_a_mistake_is_one_line_and_status_1(error, capsys):
    with pytest.raises(SystemExit) as stopped:
        exit_on_user_error(failing, error)
    assert stopped.value.code == 1
    assert capsys.readouterr().err in ("error: two lines of [/b]\n", "error: /x: No space left on device\n")


def test_a_defect_is_no_users_mistake_and_a_developer_sees_all(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        exit_on_user_error(divmod, 1, 0)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError):
        exit_on_user_error(failing, UserError("x"))
