"""Every setting has a type and a range: what is none of its values is one line, before torch is imported."""

import copy
import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffusion_lab.commands import train
from diffusion_lab.commands.checks import check
from diffusion_lab.commands.composition import check_choices, compose_config
from diffusion_lab.errors import UserError, user_error_in
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from diffusion_lab.tasks import fitting
from diffusion_lab.torture.command_lines import keys_of
from tests.commands.test_edit import written_checkpoint
from tests.conftest import TINY, composed

# Typed, and what is said of it.
WRONG = {
    "trainer.precision=bf16": "trainer.precision=bf16 must be one of auto, 32-true, bf16-mixed, 16-mixed",
    "trainer.precision=xyz": "must be one of",
    "trainer.accelerator=cuda:0": "trainer.accelerator=cuda:0 must be one of auto, cpu, gpu, cuda",
    "trainer.accelerator=gpuu": "must be one of",
    "trainer.devices=2": "trainer.devices=2 needs trainer=ddp",
    "trainer.devices=auto": "needs trainer=ddp",
    "gradient_clip=-1": "must be a number in (0, inf)",
    "label_dropout=2": "label_dropout=2 must be a number in [0, 1]",
    "ema.decay=2": "must be a number in [0, 1)",
    "learning_rate.warmup=-3": "must be a number in [0, 1]",
    "optimizer.lr=-1": "must be a number in (0, inf)",
    "optimizer.lr=fast": "must be a number in (0, inf)",
    "optimizer.lr=nan": "must be a finite number",
    "optimizer.lr=1e300": "optimizer.lr=1e+300 must be a number of at most 1e+30",
    "minutes=1e9": "minutes=1000000000.0 must be a number in (0, 1000000]",
    "checkpoints.every_minutes=1e9": "must be a number in (0, 1000000]",
    "seed=9223372036854775808": "must be a whole number, at least 0 and at most",
    "seed=-1": "must be a whole number",
    "seed=true": "must be a whole number",
    "network.num_classes=5": "network.num_classes=5 must be 0, or as many as the data has: 10",
    "monitor=val/nosuch": "must be val/image_loss or val/noise_loss",
    "monitor=val/kid": "or a figure of drawn images, as val/kid, with metrics.every_n_epochs=1",
    "network.heads=[1]": "network.heads=[1] must be as many as network.widths=",
    "metrics.figures.kid.subsets=0": "must be a whole number, at least 1",
    "metrics.samples=1": "must be a whole number, at least 2",
    "data.cache_dir=null": "must be a word",
    "epochs=null": "epochs=null must be",
    "out=[a,b]": "out=[a,b] must be a word, one folder",
    "loss=[mae]": "loss=[mae] must name one of the choices below conf/loss",
    "loss=[[mae]]": "must name one of the choices below conf/loss",
    "experiment=../../elsewhere": "must name one of the choices below conf/experiment",
    "experiment=[digits,/elsewhere]": "must name one of the choices below conf/experiment",
    "data=5": "data=5 must name one of the choices below conf/data",
    "teacher=xyz": "teacher=xyz must be one of its choices, or a mapping of settings",
}


@functools.cache
def before(*overrides: str) -> DictConfig:
    return compose_config("train", overrides)


def typed_after(typed: str, *overrides: str) -> DictConfig:
    """What `compose_config("train", [*overrides, typed])` gives, without composing all again for the sake of one setting."""
    check_choices([typed])
    cfg = copy.deepcopy(before(*overrides))
    try:
        override = OverridesParser.create().parse_override(typed)
        OmegaConf.update(cfg, override.get_key_element(), override.value())
    except (HydraException, OmegaConfBaseException) as error:  # as compose_config answers
        raise UserError(" ".join(str(error).split())) from error
    return cfg


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("data.rooot=x", "there is no data.rooot: is it data.root?"),
        ("los=mae", "there is no los: is it loss?"),
        ("data.zzzz=1", "there is no data.zzzz: --help shows all keys"),
        ("data=foldr", "there is no data=foldr: is it folder? There are as_trained, captions"),
        ("loss=maee", "there is no loss=maee: is it mae? There are huber, mae, mse"),
        ("schedule=xyz", "there is no schedule=xyz: there are cosine"),
        ("photos", "photos is no setting, which has a =: a value with a space in it wants quotes"),
        ("", "an empty word is no setting"),
        ("data=folder data.root=x", "data=folder data.root=x cannot be read: type its settings apart"),
        ("name=../x", "name=../x must be a name below outputs/; out=FOLDER takes any folder"),
        ("name=a,b/../../c", "name=a,b/../../c must be a name below outputs/"),
        ("name='a\tb'", "name='a\tb' must be a name below outputs/"),
        ("name=/tmp/x", "name=/tmp/x must be a name below outputs/"),
        ("seed='", "seed=' cannot be read: letters beyond a to z, spaces and brackets want quotes"),
        ("label=bär", "label=bär cannot be read: letters beyond a to z, spaces and brackets want quotes: \"label='bär'\""),
        ("data.root=x (1)", "data.root=x (1) cannot be read: letters beyond a to z, spaces and brackets want quotes"),
    ],
)
def test_what_hydra_cannot_compose_says_what_may_have_been_meant(typed, said):
    with pytest.raises(UserError) as caught:
        compose_config("train", [typed])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", WRONG)
def test_what_is_no_value_is_one_line(typed):
    with pytest.raises(UserError) as caught:
        check(typed_after(typed))
    assert WRONG[typed] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("betas=[a,b]", "optimizer.betas=['a', 'b'] must be two numbers in [0, 1), such as [0.9,0.95]"),
        ("betas=[0.9]", "optimizer.betas=[0.9] must be two numbers"),
        ("betas=[0.9,1]", "optimizer.betas=[0.9, 1] must be two numbers"),
        ("betas=null", "optimizer.betas=null must be two numbers"),
        ("eps=a", "optimizer.eps=a must be a number in [0, inf)"),
        ("betas=[0.9,0.99]", None),
    ],
)
def test_settings_of_an_optimizer_that_its_choice_leaves_out_have_a_range_too(typed, said):
    cfg = composed("train", "optimizer=muon", f"+optimizer.{typed}")
    if said is None:
        check(cfg)
        return
    with pytest.raises(UserError) as caught:
        check(cfg)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("typed", "every", "said"),
    [
        ("monitor=val/kid", 99, "monitor=val/kid is never measured: take metrics.every_n_epochs=15 or less"),
        ("early_stop=val/kid", 9, "patience=5 is over before val/kid is measured again: take patience=9 or more"),
    ],
)
def test_a_figure_is_monitored_as_often_as_it_is_measured(typed, every, said):
    with pytest.raises(UserError, match=said):
        check(typed_after(typed, f"metrics.every_n_epochs={every}"))
    check(typed_after(typed, "metrics.every_n_epochs=5"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


@pytest.mark.parametrize(
    ("script", "typed", "message"),
    [
        ("sample", "checkpoint=7", "checkpoint=7 must be a word"),
        ("edit", "checkpoint=7", "checkpoint=7 must be a word"),
        ("evaluate", "checkpoint=7", "checkpoint=7 must be a word"),
        *((script, "accelerator=gpuu", "must be one of auto, cpu, gpu, cuda") for script in ("sample", "edit", "evaluate")),
        *((script, "precision=bf16", "must be one of") for script in ("sample", "edit", "evaluate")),
        *((script, "seed=9223372036854775808", "at most") for script in ("sample", "edit", "evaluate")),
        ("sample", "count=1e9", "count=1000000000.0 must be a whole number"),
        ("sample", "gif=5", "must be true or false"),
        ("evaluate", "trusted=torch", "must be a list"),
    ],
)
def test_the_other_programs_too(script, typed, message, checkpoint):
    more = ["edit=noise"] if script == "edit" else []
    with pytest.raises(UserError) as caught:
        check(composed(script, f"checkpoint={checkpoint}", *more, typed))
    assert message in str(caught.value)


VALUES = (
    *("xyz", "''", "-1", "0", "0.5", "-0.5", "1e30", "nan", "inf", "true", "null", "[]", "[1]", "[a,b]", "{a:1}", "{}"),
    *(str(2**70), "/dev/null", "'[/b]'", "äöü", "'${nosuch}'", "'${oc.env:HOME}'", "'???'"),
)
NOT_TRIED = ("choices", "name", "trial", "init_from", "compile")  # words of no meaning; files; and minutes of compiling
MORE = ("network.widths=[8,8]", "data.max_images=40", "batch_size=8", "metrics.samples=8", "sampler.steps=2", "logger=csv")


@functools.cache
def keys() -> list[str]:
    """Every setting of train.py."""
    return [key for key in keys_of(before(*TINY, *MORE)) if key.split(".")[0] not in NOT_TRIED]


def answer(monkeypatch, folder: Path, typed: str, compose: Callable) -> str | None:
    """What train.py says against `typed`, None where it would train. All is built that it would train with."""

    def built(task, module, images, setting, shorter, card) -> dict:
        module.optimizer(module.parameters())
        build({**setting.config["trainer"], "precision": setting.machine.precision}, "trainer", logger=False)
        fitting.standard_callbacks(setting.config, setting.run)
        return {}

    monkeypatch.setattr(fitting, "fit", built)
    try:
        run = Run(folder / "run")
        train.fit(train.training_config(compose(typed), run), run)
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            raise AssertionError(f"{typed} ends in a traceback") from error
        assert "\n" not in str(mistake).strip(), typed
        return str(mistake)
    return None


def pairs() -> list[str]:
    """Every setting with every value, in an order that is always the same."""
    found = [f"{key}={value}" for key in keys() for value in VALUES]
    random.Random(0).shuffle(found)
    return found


def test_no_setting_ends_in_a_traceback(monkeypatch, tmp_path):
    assert len(keys()) > 120
    traceback = pytest.raises(AssertionError, match="minutes=1e300 ends in a traceback")  # were it not refused
    with monkeypatch.context() as patched, traceback:
        patched.setattr(train, "check", lambda cfg: None)
        answer(monkeypatch, tmp_path, "minutes=1e300", lambda typed: typed_after(typed, *TINY[1:], *MORE))
    said = [answer(monkeypatch, tmp_path, typed, lambda typed: typed_after(typed, *TINY, *MORE)) for typed in pairs()[:25]]
    assert sum(each is not None for each in said) > 10


@pytest.mark.slow
def test_no_setting_whatever_ends_in_a_traceback(monkeypatch, tmp_path):
    for typed in pairs():
        answer(monkeypatch, tmp_path, typed, lambda typed: compose_config("train", [*TINY, *MORE, typed]))


def test_sound_values_are_not_refused():
    """Of each kind one that is near an end of its range."""
    sound = ["seed=9223372036854775807", "label_dropout=1", "ema.decay=0", "learning_rate.warmup=0", "data.max_images=null"]
    check(composed("train", *sound, "gradient_clip=1", "trainer.accelerator=cpu", "metrics.vlb_calls=20"))
    check(composed("train", "trainer=ddp", "trainer.devices=2"))


@pytest.mark.parametrize("end", ["schedule.signal_rate=0", "schedule.noise_rate=0"])
def test_one_level_may_be_pure_noise_or_a_clean_image(end):
    check(composed("train", "schedule=single_level", end))


def test_a_strategy_that_shards_is_refused():
    with pytest.raises(UserError, match="strategy=fsdp must be one of ddp, ddp_spawn"):
        check(composed("train", "+trainer.strategy=fsdp"))
