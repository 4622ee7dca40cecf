from diffusion_lab.wording import counted, duration, one_line


def test_one_is_no_plural():
    assert [counted(count, "epoch") for count in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]
    assert [counted(count, "class") for count in (1, 2)] == ["1 class", "2 classes"]


def test_durations_are_in_a_unit_that_suits_them():
    assert [duration(seconds) for seconds in (5.4, 89, 90, 5000, 5400)] == ["5 s", "89 s", "2 min", "83 min", "1.5 h"]


def test_what_steers_a_terminal_is_written_out():
    assert one_line("a\n\t b") == "a b"
    assert one_line("\x1b[2Jä \u202e\udce4") == r"\x1b[2Jä \u202e\udce4"
