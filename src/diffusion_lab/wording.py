"""Counts and durations as a person says them."""


def counted(count: int, what: str) -> str:
    """ "1 epoch", "2,000 images", "2 classes" """
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3.4 h" """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
