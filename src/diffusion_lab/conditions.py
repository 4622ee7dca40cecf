"""What labels mean. An image's label is a row of a table of conditions, an int; -1 stands for no condition."""

from collections.abc import Sequence
from difflib import get_close_matches

from diffusion_lab.errors import UserError

SAID = 10  # names of classes in an error


def numbers(count: int) -> list[str]:
    """What rows without a name are called."""
    return [str(row) for row in range(count)]


class Classes:
    """A table whose rows are classes.

    Args:
        count: of rows; 0 for a model without labels.
        names: one for each row; None: they are called 0, 1, 2 and so on.
    """

    def __init__(self, count: int = 0, names: Sequence[str] | None = None):
        self.names = numbers(count) if names is None or len(names) != count else list(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """What row `row` means, in words."""
        return "no label" if row < 0 else self.names[row]

    def row(self, label: int | str) -> int:
        """The row of a name, upper case or lower, or of a number that is a row already; -1 for none.

        Raises:
            UserError: there is no such row.
        """
        if isinstance(label, int) and not isinstance(label, bool) and -1 <= label < len(self):
            return label
        found = [row for row, name in enumerate(self.names) if name.casefold() == str(label).casefold()]
        if isinstance(label, str) and found:
            return found[0]
        raise UserError(f"label={label} is not a class of this checkpoint ({self._known(label)})")

    def _known(self, label: int | str) -> str:
        if not self.names:
            return "none: it was trained without labels"
        near = get_close_matches(str(label), self.names, n=3)
        if near and isinstance(label, str):
            return f"0 to {len(self) - 1}, or -1 for none, such as {', '.join(near)}"
        said = f": {', '.join(self.names[:SAID])}{', ...' * (len(self) > SAID)}" if self.names != numbers(len(self)) else ""
        return f"0 to {len(self) - 1}, or -1 for none{said}"


class Synonyms(Classes):
    """Classes with several names each, parted by commas, as ImageNet's are."""

    def __init__(self, names: Sequence[str]):
        super().__init__(len(names), names)

    def row(self, label: int | str) -> int:
        wanted = str(label).casefold()
        found = [row for row, name in enumerate(self.names) if wanted in name.casefold().split(", ")]
        return found[0] if isinstance(label, str) and len(found) == 1 else super().row(label)


class Prompts(Classes):
    """A table whose rows are texts, that a model reads; no condition is the empty text, or `negative`."""

    def __init__(self, prompts: Sequence[str], negative: str | None = None):
        super().__init__(len(prompts), prompts)
        self.negative = negative

    def name(self, row: int) -> str:
        return (self.negative or "no prompt") if row < 0 else self.names[row]

    def row(self, label: int | str) -> int:
        try:
            return super().row(label)
        except UserError:
            there = f"0 to {len(self) - 1}, or -1 for none" if len(self) else "there are none"
            raise UserError(f"label={label} is no row of the prompts ({there}): this model reads prompt=TEXT") from None
