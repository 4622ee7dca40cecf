import pytest

from diffusion_lab.commands.report import main, report_folder
from diffusion_lab.errors import UserError
from diffusion_lab.figures import FIGURES
from tests.reports.made import made_run


@pytest.mark.parametrize("objective", ["precision", "improved_precision", "Precision"])
def test_a_figure_is_ranked_by_under_its_key_or_as_the_table_calls_it(tmp_path, capsys, objective):
    for loss, precision in (("mae", 0.3), ("mse", 0.6)):
        for seed in (0, 1):
            made_run(tmp_path, 0.1, seed, {"improved_precision": precision + seed / 100}, loss=loss)
    report_folder(str(tmp_path), [f"objective={objective}"])
    said = capsys.readouterr().out
    assert "Ranking by precision" in said
    assert "Highest precision: mse, 0.605 [" in said
    assert "0.605 ± 0.007" in said


def test_a_figure_of_ones_own_goes_before_a_label(tmp_path, capsys):
    own = {"label": "my recall", "digits": 2}
    runs = {loss: {"recall": value, "figures": {"recall": own}} for loss, value in (("mae", 0.3), ("mse", 0.6))}
    for loss, results in runs.items():
        made_run(tmp_path, 0.1, 0, results, loss=loss)
    report_folder(str(tmp_path), ["objective=recall"])
    assert "Lowest my recall: mae, 0.30" in capsys.readouterr().out


def test_help_and_mistakes_list_all_figures(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = "".join(capsys.readouterr().out.split())
    assert all(key in said for key in FIGURES)
    made_run(tmp_path, 0.1, results={"improved_precision": 0.5})
    with pytest.raises(UserError, match=r"objective=kids must be one of .*improved_precision"):
        report_folder(str(tmp_path), ["objective=kids"])
