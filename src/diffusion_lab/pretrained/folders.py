"""Pipeline folders looked at before any weights are read: where they are, what they say they are, what they hold.

A folder from outside is data: its model_index.json may name only classes that are listed here, and weights are read from
safetensors alone, so that nothing pickled is loaded and nothing that a file names is imported.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diffusion_lab.errors import UserError

INDEX = "model_index.json"
SMALL_FILES = ["*.json", "*.txt", "*.model"]  # all but the weights
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")  # of what they hold, not loaded
NETWORKS = (
    *("UNet2DModel", "UNet2DConditionModel", "SD3Transformer2DModel", "FluxTransformer2DModel", "PixArtTransformer2DModel"),
    *("DiTTransformer2DModel", "Transformer2DModel", "AutoencoderKL", "VQModel"),
)
TEXTS = (
    *("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"),
    *("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast"),
)
DISCRETE = tuple(
    f"{name}Scheduler"
    for name in (
        *(
            "DDIM",
            "DDPM",
            "PNDM",
            "LMSDiscrete",
            "EulerDiscrete",
            "EulerAncestralDiscrete",
            "HeunDiscrete",
            "UniPCMultistep",
        ),
        *("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "KDPM2Discrete", "KDPM2AncestralDiscrete"),
    )
)
FLOW = ("FlowMatchEulerDiscreteScheduler",)
KNOWN = {"diffusers": (*NETWORKS, *DISCRETE, *FLOW), "transformers": TEXTS}


@dataclass(frozen=True)
class PipelineFolder:
    """A diffusers pipeline's files.

    Attributes:
        name: as the user gave it, a folder or a name on the hub.
        path: of the files; those of a hub's model are its configs and tokenizers, until `download`.
        on_hub: whether the weights are yet to be downloaded.
    """

    name: str
    path: Path
    on_hub: bool = False

    @cached_property
    def index(self) -> dict:
        """What model_index.json says.

        Raises:
            UserError: there is none, or it is no mapping that names a pipeline.
        """
        return self._json(INDEX)

    @property
    def kind(self) -> str:
        """The name of the pipeline's class."""
        kind = self.index.get("_class_name")
        if not isinstance(kind, str):
            raise UserError(f"model.path={self.name}: its {INDEX} names no pipeline of diffusers")
        return kind

    def parts(self) -> dict[str, str]:
        """The names of the parts that it has and that are loaded, each with its class's.

        Raises:
            UserError: a class is none that is known here.
        """
        found = {}
        for part, named in self.index.items():
            if not isinstance(named, list) or part.startswith("_") or part in LEFT_OUT or named == [None, None]:
                continue
            library, kind = named if len(named) == 2 else (None, None)
            if not (isinstance(library, str) and kind in KNOWN.get(library, ())):
                raise UserError(
                    f"model.path={self.name}: its {INDEX} names {library}.{kind} as {part}, which is none of the classes "
                    "that are loaded"
                )
            found[part] = kind
        return found

    def config(self, part: str) -> dict:
        """The config of a part: its settings."""
        return self._json(f"{part}/{'scheduler_config' if 'scheduler' in part else 'config'}.json")

    def check_weights(self) -> None:
        """Raise UserError where a network's weights are no safetensors."""
        for part, kind in {} if self.on_hub else self.parts().items():
            if kind in NETWORKS or kind.endswith(("Model", "Projection")):
                self.variant_of(part)
                self._check_files(part)

    def _check_files(self, part: str) -> None:
        """Raise UserError where a part's small files lead elsewhere than to the safetensors beside them."""
        for index in (self.path / part).glob("*.index.json"):
            named = self._json(f"{part}/{index.name}").get("weight_map")
            names = [str(name) for name in named.values()] if isinstance(named, dict) else [""]
            if not all(name.endswith(".safetensors") and "/" not in name and "\\" not in name for name in names):
                raise UserError(f"model.path={self.name}: {part}/{index.name} names other files than safetensors beside it")
        for key in ("attn_implementation", "_attn_implementation", "quantization_config"):
            if self.config(part).get(key) is not None:
                raise UserError(f"model.path={self.name}: {part}/config.json has {key}, which brings code in: take it out")

    def variant(self) -> str | None:
        """ "fp16" where only the files of that variant are there."""
        found = {self.variant_of(part) for part, kind in self.parts().items() if kind in NETWORKS}
        return "fp16" if found == {"fp16"} else None

    def variant_of(self, part: str) -> str | None:
        names = [file.name for file in (self.path / part).glob("*.safetensors")]
        if not names:
            raise UserError(
                f"model.path={self.name} holds no safetensors in {part}/: other files may hold code, which is never run; "
                "save it again with safe_serialization=True"
            )
        return "fp16" if all(".fp16." in name for name in names) else None

    def _json(self, name: str) -> dict:
        file = self.path / name
        if not file.is_file():
            single = " (it holds a single network, which init_from takes)" if (self.path / "config.json").is_file() else ""
            raise UserError(f"model.path={self.name} holds no {name}, so it is no pipeline that diffusers saved{single}")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"model.path={self.name}: {name} is no JSON") from error
        if not isinstance(content, dict):
            raise UserError(f"model.path={self.name}: {name} is no mapping")
        return content


def found(name: str) -> PipelineFolder:
    """The pipeline of that name: a folder, or a model on the hub, of which the small files are fetched.

    Raises:
        UserError: it is neither, or cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return PipelineFolder(name, path)
    if path.exists() or not is_hub_name(name):
        raise UserError(f"model.path={name} is no folder, and no name of a model on the hub, which is owner/model")
    return PipelineFolder(name, _fetched(name), on_hub=True)


def is_hub_name(name: str) -> bool:
    """Whether a model on the hub could be called so: owner/model, and no file of ours."""
    owner, slash, model = name.partition("/")
    return bool(slash and owner.strip("~.") and model) and "/" not in model and not name.endswith(".ckpt")


def _fetched(name: str) -> Path:
    """The folder of the hub's cache with a model's small files."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=SMALL_FILES))
    except errors.GatedRepoError as error:
        raise UserError(
            f"model.path={name} is gated: accept its licence on its page, then log in with `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"model.path={name} is not on the hub, or is private: look at its name, or log in with `hf auth login`"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        raise UserError(
            f"model.path={name} is not in the hub's cache, and the hub cannot be reached: download it where there is a "
            "network (`hf download`), and give its folder"
        ) from error
