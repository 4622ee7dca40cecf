"""Counts and durations as a person says them; what a file says, on one line."""


def counted(count: int, what: str) -> str:
    """ "1 epoch", "2,000 images", "2 classes" """
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3.4 h" """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def one_line(text: object) -> str:
    """A text as one line of letters, whatever file it is from: what would steer a terminal is written out."""
    line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)
