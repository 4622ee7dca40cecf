"""What a folder or a name that is no good pipeline gets: one line, before weights are read, and nothing of it is run."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from diffusion_lab.errors import UserError
from diffusion_lab.pretrained.pipeline import Pipeline, open_pipeline
from diffusion_lab.pretrained.prompts import texts_of


@pytest.fixture
def folder(folder_of, tmp_path):
    """A copy of the tiny Stable Diffusion, to be spoilt."""
    return shutil.copytree(folder_of("stable_diffusion"), tmp_path / "pipeline")


def changed(file, **changes):
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(content))


def refused(folder, message, monkeypatch=None, **settings):
    with pytest.raises(UserError, match=message) as caught:
        open_pipeline(str(folder), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "WuerstchenPipeline"}, "is a WuerstchenPipeline, which is not known here; known are Stable"),
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "edit=inpaint works with the plain one"),
        ({"_class_name": ["my_pipeline", "Mine"]}, "names no pipeline of diffusers"),
        ({"unet": ["os", "system"]}, "names os.system as unet, which is none of the classes that are loaded"),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "names diffusers.UNet3DConditionModel as unet"),
        ({"unet": ["my_code", "UNet2DConditionModel"]}, "names my_code.UNet2DConditionModel"),
        ({"unet": [["os"], "system"]}, "names .* as unet, which is none of the classes"),
        ({"more": ["subprocess", "run"]}, "names subprocess.run as more"),
        ({"vae": [None, None]}, "holds no vae, which a StableDiffusionPipeline needs"),
        ({"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, "forward process that is not known"),
    ],
)
def test_an_index_names_known_parts_only(folder, changes, message):
    changed(folder / "model_index.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"sample_size": 10**9}, "sample_size=1000000000 is none that a StableDiffusionPipeline has"),
        ("unet/config.json", {"sample_size": 0}, "sample_size=0 is none"),
        ("unet/config.json", {"sample_size": True}, "sample_size=True is none"),
        ("unet/config.json", {"sample_size": False}, "sample_size=False is none"),
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor=0 is none"),
        ("vae/config.json", {"scaling_factor": "1"}, "scaling_factor=1 is none"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}, "num_train_timesteps=0 is none"),
        ("scheduler/scheduler_config.json", {"prediction_type": ["epsilon"]}, "prediction_type=.* is none"),
        ("scheduler/scheduler_config.json", {"dynamic_thresholding_ratio": 2}, "dynamic_thresholding_ratio=2 is none"),
        ("scheduler/scheduler_config.json", {"sample_max_value": 0.5}, "sample_max_value=0.5 is none"),
        (
            "unet/config.json",
            {"quantization_config": {"quant_method": "x"}},
            "has quantization_config, which brings",
        ),
        (
            "text_encoder/config.json",
            {"attn_implementation": "evil/kernel"},
            "has attn_implementation, which brings",
        ),
    ],
)
def test_numbers_and_words_of_configs_are_looked_at(folder, file, changes, message):
    changed(folder / file, **changes)
    refused(folder, message)


def test_an_index_of_weights_leads_to_safetensors_beside_it_only(folder):
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    for name in ("evil.bin", "../vae/diffusion_pytorch_model.safetensors"):
        index.write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
        refused(folder, "names other files than safetensors beside it")


def test_folders_that_are_none(folder, tmp_path):
    refused(tmp_path / "nowhere", "is no folder, and no name of a model on the hub")
    refused(folder / "unet", r"holds no model_index.json.* \(it holds a single network, which init_from takes\)")
    (folder / "model_index.json").write_text("{")
    refused(folder, "model_index.json is no JSON")
    (folder / "model_index.json").write_text("[]")
    refused(folder, "is no mapping")


def test_nothing_pickled_is_read(folder):
    weights = next((folder / "unet").glob("*.safetensors"))
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    refused(folder, r"holds no safetensors in unet/: other files may hold code")


def test_nine_channels_are_an_inpainting_checkpoint(folder):
    changed(folder / "unet/config.json", in_channels=9)
    refused(folder, "is an inpainting checkpoint")


def test_weights_that_are_missing_or_damaged_are_no_secret(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    weights = load_file(file)
    save_file({key: value for key, value in weights.items() if key != "conv_in.weight"}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"weights are missing in it|cannot be loaded"):
        open_pipeline(str(folder), "a fox").model()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded: "):
        open_pipeline(str(folder), "a fox").model()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.GatedRepoError, "is gated: accept its licence"),
        (errors.RepositoryNotFoundError, "is not on the hub, or is private"),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached: download it where there is a network"),
        (errors.OfflineModeIsEnabled, "the hub cannot be reached"),
    ],
)
def test_the_hub_that_has_it_not_or_is_not_there(monkeypatch, kind, message):
    def raising(*_, **__):
        error = kind.__new__(kind)
        Exception.__init__(error, "what the library says,\nin several lines")
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising)
    refused("owner/model", message)


def test_a_model_on_the_hub_is_looked_at_before_it_is_downloaded(folder, monkeypatch):
    asked = []

    def fetched(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".later"))
    pipeline = open_pipeline("owner/model", "a fox")
    assert asked == [("owner/model", ["*.json", "*.txt", "*.model"])]
    assert pipeline.size == 16
    refused("owner/model", "tokens long", prompts="fox" * 100)


def test_packages_that_are_absent_are_named(monkeypatch, folder):
    monkeypatch.setattr("diffusion_lab.pretrained.packages.find_spec", lambda name: name == "diffusers")
    refused(folder, r"need transformers and accelerate: pip install 'diffusion-lab\[pretrained\]'")


def test_prompts_are_a_text_a_list_or_a_file(tmp_path):
    assert texts_of(None, "prompt") == []
    assert texts_of("", "prompt") == [""]
    assert texts_of(["a", "b"], "prompt") == ["a", "b"]
    file = tmp_path / "prompts.txt"
    file.write_text(" a fox \n\nzwei Füchse\n", encoding="utf-8")
    assert texts_of(str(file), "prompt") == ["a fox", "zwei Füchse"]
    file.write_text("\n")
    for wrong in ([], [1], str(file), str(tmp_path / "none.txt")):
        with pytest.raises(UserError, match=r"^prompt="):
            texts_of(wrong, "prompt")


def test_an_offloaded_pipeline_draws_the_same(folder_of, monkeypatch):
    """accelerate's hooks, to this processor in place of a GPU."""
    from accelerate import cpu_offload_with_hook

    folder = folder_of("stable_diffusion")
    moved = []

    def offload(pipe, device=None):
        for part in (pipe.text_encoder, pipe.unet, pipe.vae):
            cpu_offload_with_hook(part, device)
            moved.append(part)

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.enable_model_cpu_offload", offload)
    drawn = []
    for settings in ({}, {"offload": True}, {"attention_slicing": True}):
        denoiser = open_pipeline(str(folder), "a fox", accelerator="cpu", **settings).model()
        noise = torch.randn(1, *denoiser.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            estimate = denoiser(noise, torch.tensor([0.5]), torch.tensor([0])).image
            drawn.append(denoiser.space.decode(denoiser.space.encode(denoiser.space.decode(estimate)[:] * 255)))
        assert bool(settings.get("offload")) == (not list(denoiser.parameters()))
    assert len(moved) == 3
    torch.testing.assert_close(drawn[1], drawn[0])
    torch.testing.assert_close(drawn[2], drawn[0], rtol=0, atol=1e-5)


def test_sixteen_bits_are_close_to_thirty_two(folder_of):
    estimates = []
    for dtype in ("float32", "bfloat16"):
        denoiser = open_pipeline(str(folder_of("stable_diffusion")), "a fox", accelerator="cpu", dtype=dtype).model()
        noise = torch.randn(1, *denoiser.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            estimates.append(denoiser(noise, torch.tensor([0.5]), torch.tensor([0])).noise)
    assert estimates[1].dtype == torch.float32
    assert 0 < (estimates[1] - estimates[0]).abs().max() < 0.1


def test_the_same_weights_serve_other_prompts(folder_of):
    first = open_pipeline(str(folder_of("stable_diffusion")), "a fox", accelerator="cpu")
    first.model()
    other = first.asked(["a boat", "a fox"], None)
    assert isinstance(other, Pipeline)
    assert other.model().network.network is first.model().network.network
    torch.testing.assert_close(other.model().network.text_of_rows[1], first.model().network.text_of_rows[0])
