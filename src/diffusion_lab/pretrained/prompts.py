"""Prompts as they are typed."""

from collections.abc import Sequence
from pathlib import Path

from diffusion_lab.errors import UserError


def texts_of(prompts: str | Sequence[str] | None, key: str) -> list[str]:
    """Prompts as the user gave them: one, a list, or the name of a text file with one a line.

    Raises:
        UserError: they are something else, or the file is empty or no text.
    """
    if prompts is None:
        return []
    if isinstance(prompts, str) and prompts.endswith(".txt"):
        try:
            lines = [line.strip() for line in Path(prompts).expanduser().read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{key}={prompts} is no text file that can be read") from error
        if not any(lines):
            raise UserError(f"{key}={prompts} holds no prompts")
        return [line for line in lines if line]
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not all(isinstance(text, str) for text in texts) or not texts:
        raise UserError(f'{key}={texts} must be a text, or a list of texts such as ["a fox","a boat"]')
    return texts
