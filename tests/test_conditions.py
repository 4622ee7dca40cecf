import pytest

from diffusion_lab.conditions import Classes
from diffusion_lab.errors import UserError

FLOWERS = Classes(3, ["rose", "Sunflower", "water lily"])


@pytest.mark.parametrize(("label", "row"), [("rose", 0), ("sunflower", 1), ("Water Lily", 2), (1, 1), (-1, -1)])
def test_a_label_is_a_name_or_a_row(label, row):
    assert FLOWERS.row(label) == row


@pytest.mark.parametrize("label", ["tulip", 3, -2, True, 1.0, None])
def test_what_is_no_label_is_answered_by_those_that_are(label):
    with pytest.raises(UserError, match=f"label={label} is not a class of this checkpoint \\(0 to 2, or -1 for none"):
        FLOWERS.row(label)


def test_a_slip_is_answered_by_the_nearest_names():
    with pytest.raises(UserError, match="such as rose"):
        FLOWERS.row("roze")


def test_of_many_names_the_first_are_said():
    many = Classes(12, [f"breed {i}" for i in range(12)])
    said = ", ".join(many.names[:10])
    with pytest.raises(UserError, match=rf"\(0 to 11, or -1 for none: {said}, \.\.\.\)"):
        many.row(99)
    with pytest.raises(UserError, match=r"\(0 to 2, or -1 for none: rose, Sunflower, water lily\)"):
        FLOWERS.row("xyz")
    with pytest.raises(UserError, match=r"\(0 to 9, or -1 for none\)"):  # names that are their numbers say no more
        Classes(10).row(10)


def test_without_names_rows_are_called_by_their_numbers():
    assert Classes(3).names == ["0", "1", "2"]
    assert Classes(10).row("7") == 7
    assert FLOWERS.name(2) == "water lily"
    assert FLOWERS.name(-1) == "no label"


def test_a_model_without_labels_says_so():
    with pytest.raises(UserError, match="trained without labels"):
        Classes().row(0)
