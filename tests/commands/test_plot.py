"""What plot.py draws: every schedule that conf/schedule has, and one line for a mistake."""

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.image import imread

from diffusion_lab.commands.plot import compose_schedules, main
from diffusion_lab.experiments.pictures import dissolve
from diffusion_lab.experiments.schedule_figure import schedule_figure
from diffusion_lab.process.schedules import Cosine, Edm, Flow, SingleLevel
from diffusion_lab.spaces.pixels import Pixels
from tests.conftest import PROJECT
from tests.typed import one_line_error, type_command

NAMES = {file.stem for file in (PROJECT / "conf/schedule").glob("*.yaml")} - {"single_level"}  # nothing dissolves there


@pytest.fixture(autouse=True)
def _own_hydra_config(monkeypatch):
    """Composing here leaves other tests the runtime config that they composed with."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", HydraConfig.instance().cfg)


@pytest.fixture
def space() -> Pixels:
    return Pixels(1, 8, 0.5, 0.1)


def test_the_command_draws_and_says_where(tmp_path):
    result = type_command(tmp_path, "plot", "schedules", "data.max_images=40")
    assert result.returncode == 0, result.stderr
    file = tmp_path / result.stdout.splitlines()[-1]
    assert list(tmp_path.glob("outputs/plot/*/schedules.png")) == [file]
    pixels = imread(file)[..., :3]
    assert min(pixels.shape[:2]) > 800
    for half in (pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]):
        assert 0.02 < (half < 0.5).mean() < 0.98


def test_every_schedule_in_conf_is_found():
    config, schedules = compose_schedules(["data.image_size=32"])
    assert set(schedules) == NAMES
    assert "schedules" not in config
    assert schedules["shifted"]["image_size"] == 32
    assert schedules["shifted"]["schedule"] == schedules["cosine"]


def test_overrides_of_the_schedule_make_one_more():
    config, schedules = compose_schedules(["schedule=flow", "schedule.shift=3"])
    assert set(schedules) == {*NAMES, "schedule=flow schedule.shift=3"}
    assert schedules["schedule=flow schedule.shift=3"] == config["schedule"] == {**schedules["flow"], "shift": 3}
    assert set(compose_schedules(["schedule=flow"])[1]) == NAMES  # it is there already


def test_a_constant_schedule_is_drawn_where_it_is_asked_for(space):
    config, schedules = compose_schedules(["experiment=classifier"])
    assert schedules["experiment"] == config["schedule"] == {**config["schedule"], "noise_rate": 0.0}
    pixels = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    figure = schedule_figure({"clean": SingleLevel(noise_rate=0.0), "cosine": Cosine()}, space, pixels, "no noise")
    figure.draw_without_rendering()  # its log-SNR is infinite
    signal_axis, noise_axis, _ = figure.subfigs[0].axes
    assert [set(axis.lines[0].get_ydata().tolist()) for axis in (signal_axis, noise_axis)] == [{1.0}, {0.0}]


def test_the_figure_has_a_strip_and_a_colour_for_each(space):
    schedules = {"edm": Edm(), "cosine": Cosine(), "flow": Flow()}
    pixels = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    figure = schedule_figure(schedules, space, pixels, "noise")
    above, below = figure.subfigs
    assert [text.get_text() for text in above.legends[0].get_texts()] == ["flow", "cosine", "edm"]  # by log-SNR at 1/2
    strips = [axis.get_legend() for axis in below.axes if axis.images]
    colours = {strip.get_texts()[0].get_text(): strip.get_lines()[0].get_color() for strip in strips}
    assert set(colours) == set(schedules)
    assert len(set(colours.values())) == 3
    for axis in above.axes:
        assert {line.get_label(): line.get_color() for line in axis.lines} == colours
    assert above.axes[1].get_title() == "noise rate (cut: edm goes on to 80)"


def test_noisy_images_are_of_one_contrast_under_any_schedule(space):
    image, noise = torch.randn(2, 1, 1, 64, 64)
    for schedule in (Cosine(), Edm(), Flow()):
        images = dissolve(space, schedule, image, noise, torch.linspace(0, 1, 5))
        torch.testing.assert_close(images.std((1, 2, 3)), torch.full((5,), 0.1), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense is not a picture that plot.py draws; there is schedules"),
        (["schedules", "epoch=3"], "Could not override 'epoch'"),
        (["schedules", "schedule=nonsense"], "Could not find 'schedule/nonsense'"),
        (["schedules", "data=folder"], "data.root is not set"),
        (["schedules", "data.root=nowhere"], "data.root=nowhere is not a folder"),
        (
            ["schedules", "schedule.max_signal_rate=2", "data.max_images=40"],
            "schedule.max_signal_rate=2 must be a number in (0, 1]",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "outputs").exists()


def test_a_mistake_on_the_command_line_is_one_line(tmp_path):
    assert "there is schedules" in one_line_error(type_command(tmp_path, "plot", "nonsense"))


def test_help_explains_in_a_few_lines(tmp_path):
    result = type_command(tmp_path, "plot", "--help")
    assert result.returncode == 0
    assert "schedules" in result.stdout
    assert len(result.stdout.splitlines()) < 20
