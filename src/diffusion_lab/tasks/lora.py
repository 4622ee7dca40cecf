"""Adapters of a pretrained text-to-image model, trained on images with captions."""

from pathlib import Path

from diffusion_lab.denoiser import NetworkDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.pretrained.lora import FILE, save_lora
from diffusion_lab.tasks.denoiser import DenoiserTask
from diffusion_lab.tasks.task import Outcome, Setting

FOLDER = "lora"  # of a run's


class LoraTask(DenoiserTask):
    """Learns a style, or a subject, by adapters; the rest of the network stays. Arguments are those of a DenoiserTask."""

    groups = ("task", "data", "loss", "weighting", "times", "criterion", "teacher", "guidance", "sampler")

    def check(self, model: NetworkDenoiser, setting: Setting) -> None:
        super().check(model, setting)
        if setting.config["ema"]:
            raise UserError("ema averages whole models, and LoRA's adapters are a part of one: take ema=null")

    def outcome(self, model: NetworkDenoiser, setting: Setting) -> Outcome:
        save_lora(model, setting.run.folder / FOLDER)
        return super().outcome(model, setting)

    @staticmethod
    def end(run: Run, results: dict) -> dict[str, Path | str]:
        return {"adapters": run.folder / FOLDER / FILE, "sample grid": run.final_grid}

    @staticmethod
    def next(checkpoint: str) -> list[tuple[str, str]]:
        file = Path(checkpoint).parent.parent / FOLDER / FILE
        return [("sample", f'model=pipeline model.path=FOLDER model.lora={file} prompt="..."')]
