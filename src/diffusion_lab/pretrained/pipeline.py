"""A pretrained pipeline in place of a checkpoint: opened, looked at, and made a Denoiser for the prompts it is asked for."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_lab.conditions import Classes, Prompts, Synonyms
from diffusion_lab.denoiser import Denoiser, NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.hardware import pick_device
from diffusion_lab.pretrained import processes
from diffusion_lab.pretrained.families import FAMILIES, Family
from diffusion_lab.pretrained.folders import DISCRETE, FLOW, LEFT_OUT, PipelineFolder, found
from diffusion_lab.pretrained.networks import Autoencoder, Pretrained, Unmoved
from diffusion_lab.pretrained.packages import needed
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
    ):
        self.folder = folder
        self.family = _family(folder)
        self.prompts, self.negative_prompt = list(prompts), negative_prompt
        self.device = pick_device(accelerator)
        self.dtype = _dtype(dtype, self.device)
        self.offload, self.attention_slicing = offload, attention_slicing
        self.embedded_guidance = embedded_guidance
        self.size = self._size(image_size)
        self._check()

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
        times, dynamic = (
            {"_target_": f"diffusion_lab.sampling.{name}", "_partial_": True}
            for name in ("times.trailing", "thresholds.dynamic")
        )
        sampler = {
            "_target_": f"diffusion_lab.sampling.samplers.{family.sampler}",
            "_partial_": True,
            "steps": family.steps,
            "times": times,
            "threshold": {**dynamic, "quantile": 0.95} if family.threshold else None,
            **({"variance": "learned"} if family.sampler == "ddpm" else {}),
            **({"eta": 0.0} if family.sampler == "ddim" else {}),
        }
        guidance = {
            "_target_": "diffusion_lab.sampling.guidance.ClassifierFreeGuidance",
            "_partial_": True,
            "scale": family.scale if count else 1.0,
            "interval": None,
            "rescale": 0.0,
            "rescale_of": "image",
        }
        model = {"path": self.path, "pipeline": self.folder.kind, "conditions": {"count": count}}
        return {"model": model, "sampler": sampler, "guidance": guidance, "seed": 0, "data": {}}

    @torch.no_grad()
    def model(self, kind: type[Denoiser] = Denoiser) -> NetworkDenoiser:
        """The denoiser, in evaluation mode, for the prompts.

        Raises:
            UserError: its files cannot be downloaded or loaded, or do not fit together.
        """
        pipe = self._pipe
        network = getattr(pipe, self.family.network)
        hidden = Unmoved if self.offload else lambda module: module
        space = self._space(pipe, hidden)
        schedule, target, level = self._process(space)
        named = {"schedule": schedule, "target": target, "level": level, "space": space, "conditions": self.conditions}
        return NetworkDenoiser(Pretrained(hidden(network), self.family.call, self._tables()), **named).eval()

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
        with self._files_fault(), _reading():
            tables = self.family.tables(self._pipe, self.prompts, self.negative_prompt, self.size, self.device)
        for encoder in () if self.offload else encoders:
            encoder.to("cpu")
        if "guidance" in tables:
            tables["guidance"].fill_(self.embedded_guidance)
        return tables

    @cached_property
    def _pipe(self) -> Any:
        """diffusers' pipeline."""
        import diffusers

        kind = getattr(diffusers, self.folder.kind)
        path, variant = self.folder.path, self.folder.variant() if not self.folder.on_hub else None
        absent = {part: None for part in LEFT_OUT if part in self.folder.index}
        with self._files_fault(), _reading() as unfilled:
            if self.folder.on_hub:
                path = kind.download(self.path, use_safetensors=True, **absent)
            settings = {"use_safetensors": True, "local_files_only": True, "variant": variant, "torch_dtype": self.dtype}
            pipe = kind.from_pretrained(str(path), **settings, **absent)
        if unfilled:
            raise UserError(f"model.path={self.path}: weights are missing in it ({unfilled[0][:200]})")
        if self.attention_slicing:
            pipe.enable_attention_slicing()
        if self.offload:
            pipe.enable_model_cpu_offload(device=self.device)
        autoencoder = getattr(pipe, self.family.autoencoder) if self.family.autoencoder else None
        if autoencoder is not None and self.dtype == torch.float16 and autoencoder.config.get("force_upcast"):
            autoencoder.to(torch.float32)  # whose numbers grow too large for 16 bits
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
        return 2 ** (len(self.folder.config(self.family.autoencoder)["block_out_channels"]) - 1)

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

    def _check(self) -> None:
        """Raise UserError for what can be known before weights are read."""
        parts = self.folder.parts()
        for part in (self.family.network, self.family.autoencoder, "scheduler"):
            if part and part not in parts:
                raise UserError(f"model.path={self.path} holds no {part}, which a {self.folder.kind} needs")
        channels = self._network_config.get("in_channels")
        if channels == 9:
            raise UserError(
                f"model.path={self.path} is an inpainting checkpoint, whose network wants the hole beside the image (nine "
                "channels): take the plain one, edit=inpaint works with it"
            )
        if parts["scheduler"] not in (FLOW if self.family.flow else DISCRETE):
            raise UserError(f"model.path={self.path}: its {parts['scheduler']} has a forward process that is not known here")
        if not self.family.tables and (self.prompts or self.negative_prompt is not None):
            asked = "prompt" if self.prompts else "negative_prompt"
            hint = "it has classes: take label=" if len(self.conditions) else "it draws what it was trained on"
            raise UserError(f"{asked} was given, and {self.family.title} at model.path={self.path} reads no text; {hint}")
        self.folder.check_weights()
        if self.family.tables:
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
    path: str,
    prompts: str | Sequence[str] | None = None,
    more_prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
    image_size: int | None = None,
    accelerator: str = "auto",
    dtype: str = "auto",
    offload: bool = False,
    attention_slicing: bool = False,
    embedded_guidance: float = 3.5,
) -> Pipeline:
    """The pipeline of a folder or a name on the hub, looked at and not loaded yet.

    Args:
        prompts: one, several, or a text file with one a line.
        more_prompts: an edit's, that follow those.
        others: of a Pipeline.

    Raises:
        UserError: see Pipeline.
    """
    needed()
    asked = [*texts_of(prompts, "prompt"), *texts_of(more_prompts, "edit.prompts")]
    more = (negative_prompt, image_size, accelerator, dtype, offload, attention_slicing, embedded_guidance)
    return Pipeline(found(path), asked, *more)


def texts_of(prompts: str | Sequence[str] | None, key: str) -> list[str]:
    """Prompts as the user gave them: one, a list, or the name of a text file with one a line.

    Raises:
        UserError: they are something else, or the file is empty or no text.
    """
    if prompts is None:
        return []
    if isinstance(prompts, str) and prompts.endswith(".txt"):
        try:
            lines = [line.strip() for line in Path(prompts).expanduser().read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{key}={prompts} is no text file that can be read") from error
        if not any(lines):
            raise UserError(f"{key}={prompts} holds no prompts")
        return [line for line in lines if line]
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not all(isinstance(text, str) for text in texts) or not texts:
        raise UserError(f'{key}={texts} must be a text, or a list of texts such as ["a fox","a boat"]')
    return texts


def _family(folder: PipelineFolder) -> Family:
    if folder.kind not in FAMILIES:
        inpainting = "; edit=inpaint works with the plain pipeline" if "Inpaint" in folder.kind else ""
        raise UserError(
            f"model.path={folder.name} is a {folder.kind}, which is not known here; known are {', '.join(FAMILIES)}{inpainting}"
        )
    return FAMILIES[folder.kind]


def _dtype(asked: str, device: torch.device) -> torch.dtype:
    """The type of the weights: on a GPU 16 bits, bfloat16 where it has them in hardware."""
    if asked in DTYPES:
        return DTYPES[asked]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@contextlib.contextmanager
def _reading() -> Iterator[list[str]]:
    """Let diffusers and transformers read files without a word; the list is what they say of weights that they made up."""
    import diffusers
    import transformers

    said = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = " ".join(record.getMessage().split())
            if "newly initialized" in text:
                said.append(text)

    libraries = [diffusers.utils.logging, transformers.utils.logging]
    handler, levels = Listening(logging.WARNING), [library.get_verbosity() for library in libraries]
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    kept = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for library, logger in zip(libraries, loggers, strict=True):
        library.set_verbosity_warning()
        library.disable_progress_bar()
        logger.handlers, logger.propagate = [handler], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        for library, logger, level, (handlers, propagate) in zip(libraries, loggers, levels, kept, strict=True):
            library.set_verbosity(level)
            logger.handlers, logger.propagate = handlers, propagate
