"""A file is data: nothing that its config names acts, but the known parts that make a model."""

import copy
import importlib
import inspect
import pkgutil
import random
from pathlib import Path

import pytest
import torch

import diffusion_lab
from diffusion_lab.checkpoints import load_checkpoint, parts_of_conf, refuse_strangers
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import Diverged, UserError
from diffusion_lab.parts import build
from tests.commands.test_edit import written_checkpoint


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "good.ckpt")


@pytest.fixture
def changed(file, tmp_path):
    """changed({"model.network.width": 3}): a copy of the good file in which these places of the config are others."""

    def write(places: dict) -> Path:
        state = torch.load(file, weights_only=True)
        config = copy.deepcopy(state["config"])
        for place, value in places.items():
            *parents, leaf = place.split("/")
            node = config
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        torch.save({**state, "config": config}, tmp_path / "changed.ckpt")
        return tmp_path / "changed.ckpt"

    return write


def opened(path: Path, trusted=()) -> Denoiser:
    return load_checkpoint(path, trusted).model(Denoiser)


def callables() -> list[str]:
    """Every callable that a module of the package knows, its own, and those of others that it imports."""
    found = set()
    for module in pkgutil.walk_packages(diffusion_lab.__path__, "diffusion_lab."):
        if module.name.endswith(("__main__", "peers")):
            continue
        names = vars(importlib.import_module(module.name))
        for name, value in names.items():
            if callable(value):
                found.add(f"{module.name}.{name}")
            if inspect.ismodule(value):  # re-exported: os, shutil, torch and so on
                inner = (each for each in dir(value) if callable(getattr(value, each, None)))
                found |= {f"{module.name}.{name}.{each}" for each in list(inner)[:60]}
    return sorted(found)


def test_no_callable_but_a_part_of_conf_can_be_named(file):
    model = {"_target_": load_checkpoint(file).config["model"]["_target_"]}
    names = callables()
    assert len(names) > 2000
    assert "diffusion_lab.experiments.sweeps.save" in names
    for name in {
        *names,
        "os.system",
        "builtins.eval",
        "joblib.load",
        "pandas.read_pickle",
        "hydra.utils.call",
    } - parts_of_conf():
        for group in ("network", "schedule"):
            with pytest.raises(UserError, match="names "):
                refuse_strangers({"model": {**model, group: {"_target_": name}}}, "file")
        with pytest.raises(UserError, match="names "):
            refuse_strangers({"sampler": {"_target_": name, "_partial_": True}}, "file", ("diffusion_lab",))


def test_the_parts_that_are_allowed_write_nothing_and_read_no_pickles():
    """Few enough to be looked at, one by one: a new one is to be looked at too."""
    rooms = {".".join(name.split(".")[:2]) for name in parts_of_conf()}
    assert all(name.startswith("diffusion_lab.") for name in parts_of_conf())
    assert rooms == {
        *("diffusion_lab.autoencoder", "diffusion_lab.classifier", "diffusion_lab.conditions", "diffusion_lab.data"),
        "diffusion_lab.denoiser",
        *("diffusion_lab.metrics", "diffusion_lab.networks", "diffusion_lab.process", "diffusion_lab.sampling"),
        *("diffusion_lab.spaces", "diffusion_lab.pretrained"),  # which reads safetensors, in a folder that is there
    }


SPRUNG = "${oc.create:{_target_: os.mkdir, path: sprung}}"
ODD = {
    "a string to be resolved": {"model/network/channels": "${oc.env:HOME}"},
    "a node to be made": {"model/network": SPRUNG},
    "within a list": {"model/network/widths": [16, SPRUNG]},
    "in a part that is not built": {"optimizer/lr": SPRUNG},
    "as a key": {"model/${oc.env:HOME}": 1},
    "as a target": {"model/network/_target_": "${oc.env:HOME}"},
    "arguments without names": {"model/network/_args_": ["x"]},
    "a target deep inside": {"model/schedule/extra": {"a": [{"_target_": "os.mkdir", "path": "sprung"}]}},
    "a target that is no text": {"model/network/_target_": ["os.mkdir"]},
    "a partial model": {"model/_partial_": True},
    "a pretrained model from the hub": {"model": {"_target_": "diffusion_lab.pretrained.lora.lora_denoiser", "path": "a/b"}},
    "a part that is no model": {"model": {"_target_": "diffusion_lab.process.schedules.Cosine"}},
    "a network that takes all memory": {"model/network/widths": [100_000, 100_000]},
    "a network without end": {"model/network/blocks": 900_000},
    "more steps than memory": {"model/schedule": {"_target_": "diffusion_lab.process.discrete.Discrete", "betas": {
        "_target_": "diffusion_lab.process.discrete.linear", "steps": 10**12}}},
    "images larger than memory": {"model/space/size": 100_000},
    "a setting that is none": {"model/network/depth": 3},
    "a list for a number": {"model/network/heads": 3},
    "another network's settings": {"model/network/widths": [8, 8]},
    "no model": {"model": None},
    "a tuple": {"model/network/widths": (16, 16)},
    "a tensor": {"model/network/patch": torch.tensor(2)},
}  # fmt: skip


@pytest.mark.parametrize("places", ODD.values(), ids=ODD)
def test_odd_configs_get_one_line_and_do_not_act(changed, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as caught:
        opened(changed(places))
    error = caught.value
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    assert error is not None, repr(caught.value)
    assert "\n" not in str(error)
    assert not (tmp_path / "sprung").exists()


def test_the_good_one_is_opened(file):
    assert opened(file).shape == (1, 28, 28)


class OwnNetwork(torch.nn.Identity):
    """Of a package that is not this one."""


def test_a_trusted_package_may_bring_its_own_definitions_and_no_one_elses(changed):
    path = changed({"model/network": {"_target_": f"{__name__}.OwnNetwork"}})
    with pytest.raises(UserError, match=r'if you trust it, add "trusted=\[diffusion_lab,tests\]'):
        opened(path)
    load_checkpoint(path, ("diffusion_lab", "tests"))
    path = changed({"model/network": {"_target_": f"{__name__}.copy.deepcopy"}})
    with pytest.raises(UserError, match="is not defined in tests"):
        load_checkpoint(path, ("diffusion_lab", "tests"))


def test_a_checkpoint_of_before_is_opened_as_it_was(file, tmp_path):
    """Its parts lay side by side, its space was called pixels, and its weights were the denoiser's."""
    state = torch.load(file, weights_only=True)
    config = {key: value for key, value in state["config"].items() if key not in ("model", "space", "task", "criterion")}
    config["metrics"] = {**config["metrics"], "kid": {"_target_": "diffusion_lab.metrics.quality.kid", "subsets": 7}}
    del config["metrics"]["figures"]
    config |= {"pixels": {"mean": None, "std": None, "sigma_data": 1.0}}
    names = {"model.space.mean": "denoiser.mean", "model.space.std": "denoiser.std"}
    weights = {names.get(key, key.replace("model.", "denoiser.")): value for key, value in state["state_dict"].items()}
    torch.save({"config": config, "state_dict": weights}, tmp_path / "older.ckpt")
    noisy, time, label = torch.randn(2, 1, 28, 28), torch.tensor([0.2, 0.9]), torch.tensor([3, -1])
    old, new = (opened(path)(noisy, time, label).image for path in (tmp_path / "older.ckpt", file))
    assert torch.equal(old, new)
    assert load_checkpoint(tmp_path / "older.ckpt").config["metrics"]["figures"]["kid"]["subsets"] == 7


def test_a_setting_is_looked_at_before_the_call(caplog):
    with pytest.raises(UserError, match=r"network\.depth does not belong to UNet, which takes channels, image_size"):
        build({"_target_": "diffusion_lab.networks.unet.UNet", "channels": 1, "image_size": 8, "depth": 3}, "network")
    with pytest.raises(UserError, match=r"network\.image_size is missing: UNet needs it"):
        build({"_target_": "diffusion_lab.networks.unet.UNet", "channels": 1}, "network")
    with pytest.raises(UserError, match=r"sampler\.etta does not belong to ddim, which takes .*times, threshold"):
        build({"_target_": "diffusion_lab.sampling.samplers.ddim", "_partial_": True, "etta": 1}, "sampler")
    with pytest.raises(UserError, match=r"sampler\.a, sampler\.b do not belong to ddim, .* '~sampler\.a' '~sampler\.b'$"):
        build({"_target_": "diffusion_lab.sampling.samplers.ddim", "_partial_": True, "a": 1, "b": 2}, "sampler")
    with pytest.raises(UserError, match="schedule cannot be made of its settings: no such end"):
        build({"_target_": f"{__name__}.refused", "end": 3}, "schedule")
    for wrong in ("3", 3.5, True, [3], None):
        with pytest.raises(UserError, match=r"schedule\.end=.* does not suit refused: "):
            build({"_target_": f"{__name__}.refused", "end": wrong}, "schedule")
    with pytest.raises(UserError, match=r"network\._target_=no\.such cannot be imported"):
        build({"_target_": "no.such"}, "network")
    assert not caplog.records  # the error is all that is said
    with pytest.raises(UserError, match="network=5 is no part"):
        build(5, "network")


def refused(end: int) -> None:
    raise ValueError("no such end")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_diverged_draw_nothing(file, tmp_path, value):
    """Their images would be black, and scored."""
    state = torch.load(file, weights_only=True)
    name = next(name for name in state["state_dict"] if name.startswith("model.network."))
    state["state_dict"][name].view(-1)[0] = value
    torch.save(state, tmp_path / "diverged.ckpt")
    with pytest.raises(Diverged, match=r"diverged\.ckpt is of a training that diverged: the weights .* are not finite"):
        opened(tmp_path / "diverged.ckpt")


def test_any_bit_that_was_turned_is_noticed(file, tmp_path):
    """torch.load does not look at the sums in the file, and would give other weights."""
    whole, damaged = file.read_bytes(), tmp_path / "damaged.ckpt"
    sound = torch.load(file, weights_only=True)
    for place in random.Random(0).sample(range(len(whole)), 60):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        try:
            state = load_checkpoint(damaged).state
        except UserError as error:
            assert "\n" not in str(error)
        else:  # the bit meant nothing: padding
            assert all(torch.equal(state["state_dict"][key], weights) for key, weights in sound["state_dict"].items())
