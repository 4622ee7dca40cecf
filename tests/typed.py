"""Commands as a user types them; see `diffusion_lab.torture.typed`."""

import subprocess

from diffusion_lab.torture.typed import begin_command, kill, type_command

__all__ = ["begin_command", "kill", "one_line_error", "type_command"]


def one_line_error(result: subprocess.CompletedProcess) -> str:
    """The message of a failed command: one line, no traceback, exit status 1."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
