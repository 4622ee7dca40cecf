"""From Python what the commands do: `import diffusion_lab as lab`. Each function is a thin door to theirs.

model = lab.load("outputs/mnist_5k/default/checkpoints/last.ckpt")
images = model.sample(16, label=3, guidance=2.0, steps=20, seed=0)
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffusion_lab.checkpoints import Checkpoint, load_checkpoint
from diffusion_lab.commands import evaluate as evaluation
from diffusion_lab.commands import train as training
from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.composition import compose_config
from diffusion_lab.commands.edit import Inputs, Result, edit_of, edited, inputs_of
from diffusion_lab.commands.opened import drawing_of, open_model
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.artifacts import fetched, is_artifact
from diffusion_lab.experiments.runs import Run
from diffusion_lab.experiments.sweeps import hydra_text
from diffusion_lab.pretrained.folders import is_hub_name
from diffusion_lab.pretrained.pipeline import Pipeline, open_pipeline
from diffusion_lab.pretrained.prompts import texts_of
from diffusion_lab.reports.collect import find_runs
from diffusion_lab.reports.report import Report
from diffusion_lab.reports.report import report as report_on
from diffusion_lab.sampling.edits import needs_of


class Model:
    """A trained denoiser, opened from a checkpoint, or a pretrained pipeline.

    Attributes:
        checkpoint: the file, its config and weights; or the pipeline.
    """

    def __init__(self, checkpoint: Checkpoint | Pipeline):
        self.checkpoint = checkpoint

    @property
    def config(self) -> dict:
        """What it was trained with, plain values; of a pipeline, what it is usually drawn with."""
        return self.checkpoint.config

    @property
    def denoiser(self) -> Denoiser:
        """The Denoiser itself, on the CPU: `denoiser(noisy, time, label)`."""
        return self.checkpoint.model(Denoiser)

    @property
    def classes(self) -> list[str]:
        """The names of what `label` can ask for; empty for a model without labels."""
        return self.denoiser.conditions.names

    def sample(
        self,
        count: int = 16,
        label: int | str | Sequence[int | str] | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        overrides: Iterable[str] = (),
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | None = None,
    ) -> Tensor:
        """Draw images (count, C, H, W), values from 0 to 1, on the CPU. Image i is the same whatever `count` is.

        Args:
            label: a class, by name or number, for all images, or one each; None takes each class in turn, -1 none.
            guidance: its scale; 1 is as trained. None, here and below: what the model was trained with.
            sampler, steps: a choice of conf/sampler, and its network calls.
            overrides: further ones of sample.py, such as "sampler/times=karras".
            prompt, negative_prompt: of a pipeline that reads text: one for all images, or several, each in turn.

        Raises:
            UserError: there is no such class, sampler or setting.
        """
        cfg = self._composed("sample", guidance, sampler, steps, seed, overrides)
        opened, config = open_model(cfg, self._asked(prompt, negative_prompt))
        drawing = drawing_of(opened, config, cfg)
        labels = drawing.classes_in_turn(count) if label is None else drawing.labels(label, count)
        return torch.cat(list(drawing.images(count, labels, batch_size)))

    def edit(
        self,
        name: str,
        images: Tensor | str | Path | Sequence[str | Path] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        count: int = 4,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | None = None,
        **settings,
    ) -> Result:
        """Do an edit of conf/edit, such as "inpaint" or "sdedit".

        Args:
            images: (N, C, H, W), uint8 or values from 0 to 1, of the model's size; or files or folders; None takes the first
                held-out images of the data set that it was trained on. Edits that draw from noise alone take none.
            label: a class for all images, or one each; None: no class.
            guidance, sampler, steps, seed: as in `sample`.
            count: images at most, or images to draw.
            prompt, negative_prompt: as in `sample`.
            settings: of the edit, such as strengths=[0.5] or box=[7, 7, 21, 21].

        Returns:
            Columns of images by their titles, the last being the result; what was measured; and network calls an image.

        Raises:
            UserError: what is given does not go with the edit.
        """
        given = not isinstance(images, Tensor) and images is not None
        files = [images] if isinstance(images, str | Path) else images
        more = [f"edit.{key}={hydra_text(value)}" for key, value in settings.items()]
        more += [f"count={count}", f"edit={name}"]
        more += [f"image={hydra_text([str(file) for file in files])}"] if given else []
        cfg = self._composed("edit", guidance, sampler, steps, seed, more)
        asked = [*texts_of(prompt, "prompt"), *texts_of(settings.get("prompts"), "prompts")]
        opened, config = open_model(cfg, self._asked(asked or None, negative_prompt))
        work = edit_of(cfg, config, given=isinstance(images, Tensor))
        drawing = drawing_of(opened, config, cfg)
        if isinstance(images, Tensor):
            inputs = _inputs(images, drawing.denoiser.space.pixel_shape)
        else:
            inputs = inputs_of(cfg, needs_of(work), drawing, config)
        if prompt is not None and inputs.labels is not None:
            inputs = inputs._replace(labels=drawing.classes_in_turn(len(inputs.pixels)))
        if label is not None:
            inputs = inputs._replace(labels=drawing.labels(label, len(inputs.pixels)))
        if not len(drawing.conditions):
            inputs = inputs._replace(labels=None)
        return edited(work, drawing, inputs, cfg.batch_size)

    def _asked(self, prompt, negative_prompt: str | None) -> Checkpoint | Pipeline:
        """The model, for these prompts."""
        if isinstance(self.checkpoint, Pipeline):
            return self.checkpoint.asked(texts_of(prompt, "prompt"), negative_prompt)
        if prompt is not None or negative_prompt is not None:
            raise UserError("prompt was given, and this model reads no text")
        return self.checkpoint

    def _composed(self, name: str, guidance, sampler, steps, seed: int, overrides: Iterable[str]):
        """The checked config of sample.py or edit.py with these choices."""
        chosen = {"guidance.scale": guidance, "sampler": sampler, "sampler.steps": steps, "seed": seed}
        words = [f"{key}={value}" for key, value in chosen.items() if value is not None]
        path = hydra_text(str(self.checkpoint.path))
        if isinstance(self.checkpoint, Pipeline):
            where = ["model=pipeline", f"model.path={path}"]
        else:
            where = [f"checkpoint={path}", f"trusted=[{','.join(self.checkpoint.trusted or ('diffusion_lab',))}]"]
        cfg = compose_config(name, [*overrides, *words, *where])
        check(cfg)
        return cfg


def load(path: str | Path | Sequence[str | Path], trusted: Sequence[str] = ("diffusion_lab",), **settings) -> Model:
    """Open a checkpoint, or a pretrained pipeline. Nothing in it is run, and only known parts are built.

    Args:
        path: a checkpoint file, or wandb:entity/project/name:alias; a folder that diffusers saved; owner/model on the hub;
            or two of them, for DeepFloyd IF.
        trusted: packages whose classes a checkpoint may name.
        settings: of a pipeline, as below `model` in sample.py model=pipeline: image_size, dtype, offload and so on.

    Raises:
        UserError: the file is no checkpoint of a denoiser, the folder no pipeline that is known.
    """
    if not isinstance(path, str | Path):
        return Model(open_pipeline([str(each) for each in path], **settings))
    path = fetched(path) if is_artifact(path) else path
    folder = Path(path).expanduser()
    if folder.is_dir() or (not folder.exists() and is_hub_name(str(path))):
        return Model(open_pipeline(str(path), **settings))
    if settings:
        raise UserError(f"{', '.join(settings)}: settings of a pipeline, and {path} is a checkpoint")
    checkpoint = load_checkpoint(Path(path).expanduser(), trusted)
    checkpoint.model(Denoiser)
    return Model(checkpoint)


def compose(*overrides: str) -> dict:
    """The config of `train.py` with these overrides, plain values: `compose("loss=mae", "epochs=3")`."""
    return plain(compose_config("train", overrides))


def train(*overrides: str, folder: str | Path | None = None) -> Run:
    """Train, sample and score, or show what is finished: `train("loss=mae", "epochs=3")`; returns the run.

    Args:
        folder: of the run; None: outputs/<name>/<run name>, as the command has it.

    Raises:
        UserError: a mistake in the overrides or the data.
    """
    return _run("train", overrides, folder, training.run_once)


def evaluate(path: str | Path, *overrides: str, folder: str | Path | None = None) -> dict:
    """The figures of a checkpoint, as results.json has them: `evaluate(file, "sampler.steps=50", "seed=1")`."""
    words = [f"checkpoint={hydra_text(str(path))}", *overrides]
    return _run("evaluate", words, folder, evaluation.run_once).results()


def report(folder: str | Path, objective: str = "kid") -> Report:
    """The report on all runs below a folder: its sections, and `cells`, every figure as a pandas table.

    Raises:
        UserError: there are no runs.
    """
    runs = find_runs(Path(folder))
    if not runs:
        raise UserError(f"{folder} holds no runs (looked for results.json and config.yaml, also in subfolders)")
    return report_on(runs, objective, title=f"Runs of {Path(folder).resolve().name}")


def _run(name: str, overrides: Iterable[str], folder: str | Path | None, work) -> Run:
    from hydra.core.hydra_config import HydraConfig

    cfg = compose_config(name, list(overrides))
    # Composed outside of a program, Hydra does not say by which overrides a run is to be named.
    run = Run(Path(folder or HydraConfig.get().run.dir))
    work(cfg, run)
    return run


def _inputs(images: Tensor, shape: tuple[int, int, int]) -> Inputs:
    if images.ndim != 4 or tuple(images.shape[1:]) != shape:
        raise UserError(f"images of shape {tuple(images.shape)} must be (N, {', '.join(map(str, shape))})")
    pixels = images if images.dtype == torch.uint8 else (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return Inputs(pixels, torch.full((len(pixels),), -1), [f"image {i}" for i in range(len(pixels))])
