import pytest

from diffusion_lab.benchmarks import timing
from diffusion_lab.benchmarks.timing import compare, in_turns, rate


def test_a_rate_is_units_a_second(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(timing, "now", lambda wait=True: clock[0])

    def work() -> int:
        clock[0] += 0.02
        return 3

    assert rate(work, seconds=0.2) == pytest.approx(150)


def test_cases_take_turns_and_the_first_time_is_not_measured():
    order = []

    def case(name: str):
        def work() -> int:
            order.append(name)
            return 1

        return work

    rates = in_turns({"a": case("a"), "b": case("b")}, rounds=2, seconds=1e-9)
    assert order == ["a", "b"] * 3
    assert [len(values) for values in rates.values()] == [2, 2]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    """A machine that slows down for a round slows both: the ratio of that round is as good as another."""
    rates = {"ours": [100.0, 10.0, 90.0], "theirs": [50.0, 5.0, 90.0]}
    figure = compare("what", "images/s", rates, "ours", "theirs")
    assert (figure.value, figure.against_value, figure.ratio) == (90.0, 50.0, 2.0)
