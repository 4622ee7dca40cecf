"""Commands as a user types them; see `diffusion_lab.torture.typed`."""

import subprocess
import sys
from pathlib import Path

from diffusion_lab.torture.typed import begin_command, environment, kill, type_command
from tests.conftest import PROJECT

__all__ = ["begin_command", "kill", "one_line_error", "type_command", "type_for_real"]


def type_for_real(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess:
    """The same in a process that begins with nothing, for commands that fork themselves."""
    command = [sys.executable, str(PROJECT / f"src/{script}.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False)


def one_line_error(result: subprocess.CompletedProcess) -> str:
    """The message of a failed command: one line, no traceback, exit status 1."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
