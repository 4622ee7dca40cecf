"""A safetensors file is a checkpoint: the same samples, the same distrust."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import diffusion_lab as lab
from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.export.safetensors import safetensors
from diffusion_lab.export.subject import opened
from diffusion_lab.safetensors_files import read_model, write_model
from tests.commands.test_edit import written_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


@pytest.fixture(scope="module")
def file(checkpoint, tmp_path_factory):
    return safetensors(opened(load_checkpoint(checkpoint)), tmp_path_factory.mktemp("exported")).file


def test_the_same_samples_bit_for_bit(checkpoint, file):
    options = {"label": 3, "guidance": 2.0, "steps": 3, "seed": 5}
    assert torch.equal(lab.load(file).sample(2, **options), lab.load(checkpoint).sample(2, **options))


def test_other_programs_read_the_weights(checkpoint, file):
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    read = load_file(file)
    assert {f"model.{name}" for name in read} == set(weights)
    assert all(torch.equal(tensor, weights[f"model.{name}"]) for name, tensor in read.items())
    with safe_open(file, "pt") as content:
        assert json.loads(content.metadata()["config"])["data"]["name"] == "mnist_5k"


@pytest.mark.parametrize("averaged", [True, False])
def test_whether_weights_are_averages_is_kept(file, tmp_path, averaged):
    config, weights, _ = read_model(file)
    write_model(tmp_path / "model.safetensors", config, weights, averaged)
    assert load_checkpoint(tmp_path / "model.safetensors").averaged == averaged


def test_its_config_is_distrusted_as_a_checkpoints_is(file, tmp_path):
    config, weights, _ = read_model(file)
    for part, node in {
        "network": {"_target_": "os.mkdir", "path": "sprung"},
        "schedule": "${oc.create:{_target_: os.mkdir, path: sprung}}",
        "space": {**config["model"]["space"], "size": 100_000},
    }.items():
        write_model(tmp_path / "hostile.safetensors", config | {"model": config["model"] | {part: node}}, weights, False)
        with pytest.raises(UserError, match=r"checkpoint=.*hostile\.safetensors (names|holds|is of images)"):
            lab.load(tmp_path / "hostile.safetensors")


def test_damage_is_named(file, tmp_path):
    whole, damaged = file.read_bytes(), tmp_path / "damaged.safetensors"
    places = {len(whole) - 1, len(whole) // 2, 3, *range(8, 2000, 41), *(whole.index(word) for word in (b"false", b"F32"))}
    for place in places:
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"damaged\.safetensors (is damaged|cannot be read|was not written)"):
            load_checkpoint(damaged)
    damaged.write_bytes(whole[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(damaged)
    save_file({"weight": torch.ones(2)}, damaged)
    with pytest.raises(UserError, match="was not written by diffusion-lab's export"):
        load_checkpoint(damaged)
