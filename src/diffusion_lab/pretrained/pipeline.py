"""A pretrained pipeline in place of a checkpoint: opened, looked at, and made a Denoiser for the prompts it is asked for."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_lab.conditions import Classes, Prompts, Synonyms
from diffusion_lab.denoiser import Denoiser, NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.hardware import pick_device
from diffusion_lab.parts import build
from diffusion_lab.pretrained import processes
from diffusion_lab.pretrained.checks import check_folder
from diffusion_lab.pretrained.families import FAMILIES, Family
from diffusion_lab.pretrained.folders import FLOW, LEFT_OUT, PipelineFolder, found
from diffusion_lab.pretrained.networks import Autoencoder, Pretrained, Unmoved
from diffusion_lab.pretrained.packages import needed, reading
from diffusion_lab.pretrained.prompts import texts_of
from diffusion_lab.sampling.draw import Sampler
from diffusion_lab.sampling.enlarging import Cascade, Enlarger
from diffusion_lab.spaces.latents import Latents
from diffusion_lab.spaces.pixels import Symmetric
from diffusion_lab.spaces.space import Space

SHOWN = 40  # letters of a prompt in a message
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Pipeline:
    """A pretrained pipeline; what it holds is loaded when it is first needed.

    Args:
        folder: where it is.
        prompts: that its labels are rows of.
        negative_prompt: what no condition is; None: what the model itself has for that, the empty prompt.
        image_size: pixels a side; None: what it was trained on.
        accelerator: "auto", "cpu" or "gpu".
        dtype: "auto", "float32", "bfloat16" or "float16".
        offload: each part is on the GPU only while it works.
        attention_slicing: attention in parts, slower and with less memory.
        embedded_guidance: that FLUX is told.
        second: the pipeline that enlarges what this one draws.
        second_steps, second_guidance: its network calls, and its scale of guidance.
        noise_level: of the small images that an enlarging network is shown, a step of its own schedule for that.
        is_second: another pipeline reads the prompts for it.
        lora: a safetensors file with adapters, that is added to it.
        variant: of the weights' files, such as "fp16"; None: the plain ones, or what a folder has.

    Raises:
        UserError: it is of no family that is known, holds what must not be loaded, or is asked for what it has not.
    """

    def __init__(
        self,
        folder: PipelineFolder,
        prompts: Sequence[str] = (),
        negative_prompt: str | None = None,
        image_size: int | None = None,
        accelerator: str = "auto",
        dtype: str = "auto",
        offload: bool = False,
        attention_slicing: bool = False,
        embedded_guidance: float = 3.5,
        second: "Pipeline | None" = None,
        second_steps: int = 50,
        second_guidance: float = 4.0,
        noise_level: int = 250,
        is_second: bool = False,
        lora: str | None = None,
        variant: str | None = None,
    ):
        self.folder = folder
        self.family = _family(folder)
        self.prompts, self.negative_prompt = list(prompts), negative_prompt
        self.device = pick_device(accelerator)
        self.dtype = _dtype(dtype, self.device)
        self.offload, self.attention_slicing = offload, attention_slicing
        self.embedded_guidance = embedded_guidance
        self.second, self.second_steps, self.second_guidance = second, second_steps, second_guidance
        self.noise_level = noise_level
        self.is_second = is_second
        self.lora, self.variant = lora, variant
        self.size = self._size(image_size)
        self._loaded: list = []  # what was loaded, which `asked` shares
        check_folder(self.folder, self.family)
        self._check_lora()
        self._check_texts()

    def asked(self, prompts: Sequence[str], negative_prompt: str | None) -> "Pipeline":
        """The same pipeline, loaded once for both, with other prompts.

        Raises:
            UserError: it reads no text, or not so much.
        """
        other = copy.copy(self)
        other.prompts, other.negative_prompt = list(prompts), negative_prompt
        other._check_texts()
        return other

    @property
    def path(self) -> str:
        """As the user gave it."""
        return self.folder.name

    @property
    def conditions(self) -> Classes:
        """What labels mean: prompts, ImageNet's classes, or nothing."""
        if self.family.tables:
            return Prompts(self.prompts, self.negative_prompt)
        if "num_embeds_ada_norm" in self._network_config:
            names = self.folder.index.get("id2label") or {}
            names = {str(row): name for row, name in names.items()} if isinstance(names, dict) else {}
            return Synonyms([str(names.get(str(row), row)) for row in range(self._network_config["num_embeds_ada_norm"])])
        return Classes()

    @property
    def config(self) -> dict:
        """What a checkpoint's config is to a checkpoint: how it is usually drawn with; plain values."""
        count, family = len(self.conditions), self.family
        own = {"ddpm": {"variance": "learned"}, "ddim": {"eta": 0.0}}
        sampler = {
            **_part(f"samplers.{family.sampler}"),
            "steps": family.steps,
            "times": _part("times.trailing"),
            "threshold": self._threshold,
            **own.get(family.sampler, {}),
        }
        guidance = {
            **_part("guidance.ClassifierFreeGuidance"),
            "scale": family.scale if count else 1.0,
            "interval": None,
            "rescale": 0.0,
            "rescale_of": "image",
        }
        model = {"path": self.path, "pipeline": self.folder.kind, "conditions": {"count": count}, "prompts": self.prompts}
        model |= {"enlarges": self.enlarges, "second": self.second and self.second.path}
        if family.autoencoder:
            model["space"] = {"_target_": "diffusion_lab.spaces.latents.Latents"}
        return {"model": model, "sampler": sampler, "guidance": guidance, "seed": 0, "data": {}}

    def check_labels(self, label: int | str | Sequence[int | str] | None) -> None:
        """Raise UserError where a label that is asked for is no row of its conditions."""
        if label is None or (label == "all" and len(self.conditions)):
            return
        for each in [label] if isinstance(label, str) or not isinstance(label, Sequence) else label:
            self.conditions.row(each)

    def check_draws(self, label: object = None) -> None:
        """Raise UserError where it cannot draw from noise alone, or reads text, and was given none."""
        if self.enlarges:
            raise UserError(
                f"model.path={self.path} enlarges images: give both stages, model.path=[STAGE_I,STAGE_II], or edit=superres"
            )
        if self.family.tables and not self.prompts and label is None:
            raise UserError(f'prompt="..." is missing, which {self.family.title} reads; prompt="" is the empty one')

    @torch.no_grad()
    def model(
        self,
        kind: type[Denoiser] = Denoiser,
        tables: dict[str, Tensor] | None = None,
        hidden: Callable | None = None,
    ) -> NetworkDenoiser:
        """The denoiser, in evaluation mode, for the prompts.

        Args:
            kind: Denoiser.
            tables: what the prompts become, where that is known.
            hidden: what network and autoencoder are put into, so that the denoiser's parameters are not theirs.

        Raises:
            UserError: its files cannot be downloaded or loaded, or do not fit together.
        """
        pipe = self._pipe
        network = getattr(pipe, self.family.network)
        hidden = hidden or (Unmoved if self.offload else lambda module: module)
        space = self._space(pipe, hidden)
        schedule, target, level = self._process(space)
        tables = self._tables() if tables is None else tables
        parts = (Pretrained(hidden(network), self.family.call, tables), schedule, target, level, space, self.conditions)
        if not self.enlarges:
            return NetworkDenoiser(*parts).eval()
        augmentation, _, _ = processes.discrete(self.folder.config("image_noising_scheduler"))
        return Enlarger(*parts, augmentation=augmentation, noise_level=self.noise_level).eval()

    def cascade(self, sampler: Sampler, denoiser: NetworkDenoiser, threshold: dict | None) -> Sampler:
        """The sampler, or, where there is a second stage, one that draws with both; for the denoiser of the first.

        Args:
            threshold: the sampler's, as its config says. Where it is the first stage's own, the second has its own too.
        """
        if not self.second:
            return sampler
        tables = {name: getattr(denoiser.network, f"{name}_of_rows") for name in denoiser.network.tables}  # of the same T5
        enlarger = self.second.model(Denoiser, tables).to(denoiser.device)
        way = {"steps": self.second_steps}
        if threshold == self._threshold:
            way["threshold"] = self.second._threshold and build(self.second._threshold, "sampler.threshold")
        return Cascade(sampler, enlarger, way, self.second_guidance)

    @property
    def enlarges(self) -> bool:
        """Whether it draws from small images."""
        return self.folder.kind == "IFSuperResolutionPipeline"

    @property
    def _threshold(self) -> dict | None:
        """How its image estimates are usually kept among possible pixels, as its scheduler says."""
        scheduler = self.folder.config("scheduler")
        if self.family.autoencoder or not scheduler.get("thresholding"):
            return None
        quantile, most = scheduler.get("dynamic_thresholding_ratio", 0.995), scheduler.get("sample_max_value", 1.0)
        return {**_part("thresholds.dynamic"), "quantile": quantile, "most": most}

    def _space(self, pipe, hidden) -> Space:
        channels = self._network_config.get("in_channels", 3)
        if not self.family.autoencoder:
            return Symmetric(3, self.size)
        autoencoder = getattr(pipe, self.family.autoencoder)
        factor, scale, shift = self._factor, autoencoder.config.scaling_factor, autoencoder.config.get("shift_factor") or 0.0
        channels = channels // 4 if self.folder.kind == "FluxPipeline" else channels  # packed two by two
        return Latents(Autoencoder(hidden(autoencoder)), channels, self.size // factor, factor, scale, shift)

    def _process(self, space: Space):
        config = self.folder.config("scheduler")
        if self.folder.parts()["scheduler"] in FLOW:
            return processes.flow(config, tokens=(space.shape[-1] // 2) ** 2)
        return processes.discrete(config)

    def _tables(self) -> dict[str, Tensor]:
        """What prompts become. The encoders are on the device only meanwhile."""
        if not self.family.tables:
            count = len(self.conditions)
            return {"row": torch.arange(count + 1)} if count else {}
        encoders = [part for name, part in self._pipe.components.items() if name.startswith("text_encoder") and part]
        for encoder in () if self.offload else encoders:
            encoder.to(self.device)
        with self._files_fault(), reading():
            tables = self.family.tables(self._pipe, self.prompts, self.negative_prompt, self.size, self.device)
        for encoder in () if self.offload else encoders:
            encoder.to("cpu")
        if "guidance" in tables:
            tables["guidance"].fill_(self.embedded_guidance)
        return tables

    @property
    def _pipe(self) -> Any:
        """diffusers' pipeline."""
        if not self._loaded:
            self._loaded.append(self._load())
        return self._loaded[0]

    def _load(self) -> Any:
        import diffusers

        kind = getattr(diffusers, self.folder.kind)
        path, variant = self.folder.path, self.variant or (None if self.folder.on_hub else self.folder.variant())
        absent = {part: None for part in LEFT_OUT if part in self.folder.index}
        if self.is_second:
            absent |= {"text_encoder": None, "tokenizer": None}
        with self._files_fault(), reading() as unfilled:
            if self.folder.on_hub:
                path = kind.download(self.path, use_safetensors=True, variant=variant, **absent)
            settings = {"use_safetensors": True, "local_files_only": True, "variant": variant, "torch_dtype": self.dtype}
            pipe = kind.from_pretrained(str(path), **settings, **absent)
        if unfilled:
            raise UserError(f"model.path={self.path}: weights are missing in it ({unfilled[0][:200]})")
        if self.lora:
            with self._files_fault(), reading():
                file = Path(self.lora).expanduser().resolve()
                pipe.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True)
        if self.attention_slicing:
            pipe.enable_attention_slicing()
        if self.offload:
            pipe.enable_model_cpu_offload(device=self.device)
        autoencoder = getattr(pipe, self.family.autoencoder) if self.family.autoencoder else None
        if autoencoder is not None and self.dtype == torch.float16 and autoencoder.config.get("force_upcast"):
            autoencoder.to(torch.float32)  # whose numbers grow too large for 16 bits
        for part in (autoencoder, getattr(pipe, self.family.network)):
            if part is not None:
                part.requires_grad_(False)
        return pipe

    @contextlib.contextmanager
    def _files_fault(self) -> Iterator[None]:
        """Whatever goes wrong in here, it is for the pipeline's files that it does."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"model.path={self.path} is too large for this machine's memory: take model.offload=true"
            ) from error
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"model.path={self.path} cannot be loaded: {reason}") from error

    @property
    def _network_config(self) -> dict:
        return self.folder.config(self.family.network)

    @property
    def _factor(self) -> int:
        """Pixels a side of a latent."""
        if not self.family.autoencoder:
            return 1
        widths = self.folder.config(self.family.autoencoder).get("block_out_channels")
        if not isinstance(widths, list):
            raise UserError(f"model.path={self.path}: {self.family.autoencoder}/config.json has no block_out_channels")
        return 2 ** (len(widths) - 1)

    def _size(self, asked: int | None) -> int:
        """Pixels a side of its images."""
        own = self.family.latent_size(self.folder) * self._factor
        if asked is None or asked == own:
            return own
        unit = self._factor * self.family.patch
        if not self.family.resizable:
            raise UserError(f"model.image_size={asked}: {self.family.title} draws its own {own} px only")
        if asked < 1 or asked % unit:
            raise UserError(f"model.image_size={asked} must be a multiple of {unit} for {self.family.title}")
        return asked

    def _check_lora(self) -> None:
        if self.lora is not None:
            needed("peft")
            if not (self.lora.endswith(".safetensors") and Path(self.lora).expanduser().is_file()):
                raise UserError(f"model.lora={self.lora} is no safetensors file")

    def _check_texts(self) -> None:
        """Raise UserError for prompts that it does not read."""
        if not self.family.tables and (self.prompts or self.negative_prompt is not None):
            asked = "prompt" if self.prompts else "negative_prompt"
            hint = "it has classes: take label=" if len(self.conditions) else "it draws what it was trained on"
            raise UserError(f"{asked} was given, and {self.family.title} at model.path={self.path} reads no text; {hint}")
        if self.family.tables and not self.is_second:
            self._check_lengths([*self.prompts, self.negative_prompt or ""])

    def _check_lengths(self, texts: Sequence[str]) -> None:
        part, most = self.family.tokenizer
        kind = self.folder.parts().get(part)
        if kind is None:  # Stable Diffusion 3 works without T5
            return
        import transformers

        with self._files_fault():
            tokenizer = getattr(transformers, kind).from_pretrained(str(self.folder.path / part), local_files_only=True)
        for text in texts:
            count = len(tokenizer(text, verbose=False).input_ids)
            if count > most:
                shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
                raise UserError(f'prompt "{shown}" is {count} tokens long, and {self.family.title} reads {most}: shorten it')


def open_pipeline(
    path: str | Sequence[str],
    prompts: str | Sequence[str] | None = None,
    more_prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
    image_size: int | None = None,
    accelerator: str = "auto",
    dtype: str = "auto",
    offload: bool = False,
    attention_slicing: bool = False,
    embedded_guidance: float = 3.5,
    second_steps: int = 50,
    second_guidance: float = 4.0,
    noise_level: int = 250,
    lora: str | None = None,
    variant: str | None = None,
) -> Pipeline:
    """The pipeline of a folder or a name on the hub, looked at and not loaded yet.

    Args:
        path: that; two of DeepFloyd IF, the first stage and the second.
        prompts: one, several, or a text file with one a line.
        more_prompts: an edit's, that follow those.
        others: of a Pipeline.

    Raises:
        UserError: see Pipeline.
    """
    needed()
    asked = [*texts_of(prompts, "prompt"), *texts_of(more_prompts, "edit.prompts")]
    machine = {"accelerator": accelerator, "dtype": dtype, "offload": offload, "attention_slicing": attention_slicing}
    machine["variant"] = variant
    first, *others = [path] if isinstance(path, str) else path
    second = Pipeline(found(others[0]), asked, **machine, is_second=True, noise_level=noise_level) if others else None
    more = {"embedded_guidance": embedded_guidance, "noise_level": noise_level, "lora": lora}
    more |= {"second": second, "second_steps": second_steps, "second_guidance": second_guidance}
    pipeline = Pipeline(found(first), asked, negative_prompt, image_size, **machine, **more)
    if len(others) > 1 or (second and not (second.enlarges and pipeline.folder.kind == "IFPipeline")):
        raise UserError(f"model.path={list(path)} must be the first and the second stage of DeepFloyd IF")
    return pipeline


def _family(folder: PipelineFolder) -> Family:
    if folder.kind not in FAMILIES:
        known = (
            "; edit=inpaint works with the plain one" if "Inpaint" in folder.kind else f"; known are {', '.join(FAMILIES)}"
        )
        raise UserError(f"model.path={folder.name} is a {folder.kind}, which is not known here{known}")
    return FAMILIES[folder.kind]


def _part(name: str) -> dict:
    """The config of a part of `diffusion_lab.sampling`."""
    return {"_target_": f"diffusion_lab.sampling.{name}", "_partial_": True}


def _dtype(asked: str, device: torch.device) -> torch.dtype:
    """The type of the weights: on a GPU 16 bits, bfloat16 where it has them in hardware."""
    if asked in DTYPES:
        return DTYPES[asked]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
