"""Whether drawn images are blank, or one image again and again."""

from collections.abc import Iterable, Iterator

from torch import Tensor

FEWEST = 8  # drawn images, of which one can say that they are alike
LEAST = 0.25  # of what held-out images differ by: digits and flowers have 0.8 and more after 100 steps, blank ones 0.12


def spread(batches: Iterable[Tensor]) -> float:
    """How far uint8 images (N, C, H, W), each less its own mean colour, differ from one another: the root of their variance
    at a pixel, in values from 0 to 1. Nothing where all are flat, of whatever colours, or all the same."""
    count, total, squares = 0, 0.0, 0.0
    for pixels in batches:
        values = pixels.double() / 255
        values -= values.mean((2, 3), keepdim=True)
        count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
    return (squares / count - (total / count).square()).mean().clamp(min=0).sqrt().item()


def alarms(results: dict) -> Iterator[str]:
    """A sentence where drawn images differ from one another far less than held-out ones do."""
    drawn, real = results.get("spread"), results.get("spread_held_out")
    if drawn is not None and results["samples"] >= FEWEST and drawn < LEAST * real:
        yield (
            f"alike: the {results['samples']} drawn images are blank or all the same: they differ by {drawn:.3f} from one "
            f"another, held-out ones by {real:.3f}. No other figure means much then. Look at them, and train longer, or "
            "with another loss"
        )
