"""Mistakes in a config that can be found without importing torch, each answered in one line."""

from importlib.util import find_spec
from math import isfinite
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from diffusion_lab import ranks
from diffusion_lab.commands.additions import check_additions
from diffusion_lab.commands.latents import check_latents
from diffusion_lab.commands.ranges import check_ranges
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.artifacts import fetched, is_artifact
from diffusion_lab.figures import FIGURES
from diffusion_lab.files import check_beginning

PATHS = (
    ("data", "root"),
    ("guidance", "checkpoint"),
    ("metrics", "classifier"),
    ("init_from",),
    ("resume_from",),
    ("teacher", "checkpoint"),
    ("space", "autoencoder"),
    ("model", "space", "autoencoder"),
)
DENOISED = ("val/image_loss", "val/noise_loss")
HELD_OUT_CURVES = {  # of each epoch, by task; one's own has its own
    **dict.fromkeys(("denoiser", "scaled_denoiser", "lora"), DENOISED),
    "classifier": ("val/cross_entropy", "val/accuracy"),
    "autoencoder": ("val/l1", "val/psnr"),
}
FILES = ("guidance.checkpoint", "metrics.classifier", "init_from", "teacher.checkpoint")
MEASURED_WITH = {  # an objective: the setting without which it is not measured
    "bits_per_dimension": "metrics.vlb_calls",
    "label_accuracy": "metrics.classifier",
    "real_label_accuracy": "metrics.classifier",
}


def check(cfg: DictConfig) -> None:
    """Raise UserError for a number out of range, an unknown word, or a data.root that does not exist."""
    check_additions(cfg)
    _check_processes(cfg)
    check_ranges(cfg)
    _fetch_artifacts(cfg)
    check_latents(cfg)
    if "teacher" in cfg and OmegaConf.is_missing(cfg.teacher, "checkpoint"):
        raise UserError("teacher.checkpoint=FILE is missing; a run's are in outputs/<name>/<run>/checkpoints/")
    _check_objective(cfg)
    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise UserError("checkpoint=FILE is missing; a run's are in outputs/<name>/<run>/checkpoints/")
    _check_pretrained(cfg)
    _check_budget(cfg)
    _check_together(cfg)
    _check_guidance(cfg)
    _check_edit(cfg)
    for key in FILES:
        file = OmegaConf.select(cfg, key)
        path = None if file is None else Path(file).expanduser()
        if path and not path.is_file() and not (key == "init_from" and path.is_dir()):
            raise UserError(f"{key}={file} is not a file{', nor a folder' if key == 'init_from' else ''}")
    if cfg.get("checkpoint"):
        check_beginning(Path(cfg.checkpoint).expanduser())  # before torch, which takes seconds to come
    root = OmegaConf.select(cfg, "data.root")
    if root is not None and not Path(root).expanduser().is_dir():
        raise UserError(f"data.root={root} is not a folder")


def _fetch_artifacts(cfg: DictConfig) -> None:
    """Put the files of W&B artifacts in their place."""
    for key in (*FILES, "checkpoint", "resume_from"):
        if key == "checkpoint" and OmegaConf.is_missing(cfg, key):
            continue
        name = OmegaConf.select(cfg, key)
        if is_artifact(name):
            OmegaConf.update(cfg, key, str(fetched(name).resolve()))


def check_taken(config: dict) -> None:
    """Raise UserError for what the config of a checkpoint asks for beside its model and nobody could have typed."""
    keys = ("sampler", "guidance", "data", "seed", *(() if "pipeline" in config["model"] else ("metrics",)))
    for key in keys:
        if key not in config:
            raise UserError(f"the checkpoint's config has no {key}: train.py did not write it")
    cfg = OmegaConf.create({key: config[key] for key in keys})
    check_ranges(cfg)
    _check_guidance(cfg)


def _check_pretrained(cfg: DictConfig) -> None:
    """Raise UserError for a pretrained model without a place, or prompts for a model that was trained here."""
    model = cfg.get("model") or {}
    pretrained = "negative_prompt" in model
    if OmegaConf.is_config(model) and OmegaConf.is_missing(model, "path"):
        raise UserError("model.path=FOLDER is missing: a pipeline that diffusers saved, or owner/model on the hub")
    for key in ("prompt", "negative_prompt", "edit.prompts"):
        if OmegaConf.select(cfg, key) is not None and not pretrained:
            raise UserError(f"{key} needs a model that reads text: model=pipeline model.path=FOLDER")
    for key in ("prompt", "negative_prompt"):
        asked = OmegaConf.select(cfg, key)
        for text in asked if isinstance(asked, ListConfig) else [asked]:
            if isinstance(text, int | float):
                raise UserError(f"{key}={asked} must be text: a number wants quotes in quotes, {key}=\"'{text}'\"")


def _check_processes(cfg: DictConfig) -> None:
    """Raise UserError where the processes that train are not those that were started."""
    strategy, count = OmegaConf.select(cfg, "trainer.strategy"), ranks.count()
    if count > 1 and strategy != "ddp":
        raise UserError(
            f"torchrun or srun has started {count} processes: train.py shares the work among them with trainer=ddp_cluster, "
            "all else wants one"
        )
    if strategy == "ddp" and ranks.place() is None:
        raise UserError(
            "trainer=ddp_cluster is for processes that torchrun or srun has started: type `torchrun --nproc-per-node=2` for "
            "`python`, or take trainer=ddp, which starts them itself on this machine"
        )
    if count > 1 and "BasicLauncher" in str(OmegaConf.select(HydraConfig.get(), "launcher._target_")) and _is_multirun():
        raise UserError("-m runs one job after the other in one process: start each with torchrun or srun, or take submitit")


def _is_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _check_objective(cfg: DictConfig) -> None:
    """Raise UserError for an objective that nothing measures; metrics of one's own may measure anything."""
    own = {"errors", "bits", "labels", "kid", "fid"}
    others = set(OmegaConf.select(cfg, "metrics.figures") or ()) - own
    objective, task = cfg.get("objective"), OmegaConf.select(cfg, "choices.task")
    if task is not None and task not in HELD_OUT_CURVES:  # one's own, which measures what it declares
        return
    if objective is not None and objective not in FIGURES and not others:
        raise UserError(f"objective={objective} must be one of {', '.join(FIGURES)}")
    setting = MEASURED_WITH.get(objective)
    if setting and "epochs" in cfg and OmegaConf.select(cfg, setting) is None:
        raise UserError(f"objective={objective} is measured only where {setting} is set")


def _check_budget(cfg: DictConfig) -> None:
    """Raise UserError for epochs that were typed beside what is in their place; the default's just give way."""
    other = next((key for key in ("steps", "minutes") if cfg.get(key)), None)
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    if other and any(word.lstrip("+").startswith("epochs=") for word in typed):
        raise UserError(f"epochs={cfg.epochs} and {other}={cfg[other]} do not go together: take one of the two")


def _check_together(cfg: DictConfig) -> None:
    """Raise UserError for choices that do not go together."""
    schedule, times, task = (OmegaConf.select(cfg, f"choices.{group}") for group in ("schedule", "times", "task"))
    devices, strategy = (OmegaConf.select(cfg, f"trainer.{key}") for key in ("devices", "strategy"))
    if devices not in (None, 1, "1") and not strategy:
        raise UserError(f"trainer.devices={devices} needs trainer=ddp: else one device trains")
    for key in ("objective", "monitor") if task else ():
        if key not in cfg:
            raise UserError(f"task={task} sets no {key}: conf/task/{task}.yaml is to say {key}: and the name of a figure")
    if task == "classifier":
        _check_classifier(cfg)
    elif task and (task == "autoencoder") != cfg.choices.network.startswith("autoencoder"):
        raise UserError(
            f"network={cfg.choices.network} and task={task} do not go together: task=autoencoder alone has those"
        )
    elif task and (cfg.choices.network == "classifier" or cfg.objective == "cross_entropy"):
        raise UserError(
            "network=classifier and objective=cross_entropy want task=classifier: take experiment=noisy_classifier"
        )
    if task:
        _check_curve(cfg, "monitor", task)
        if cfg.early_stop is not None:
            _check_curve(cfg, "early_stop", task)
    if schedule == "learned" and times not in ("uniform", "stratified"):
        raise UserError(f"schedule=learned finds the density of noise levels itself: take times=stratified, not {times}")
    sampler = cfg.get("sampler") or {}
    if sampler.get("variance") == "learned" and OmegaConf.select(cfg, "variance.outputs") == 1:
        raise UserError("sampler.variance=learned needs variance=learned: else the network predicts no variance")
    if "diffusers" in str(sampler.get("_target_")):
        if OmegaConf.is_missing(sampler, "name"):
            raise UserError("sampler.name=NAME is missing: a scheduler of diffusers, such as DEISMultistepScheduler")
        if sampler.get("times"):
            raise UserError(f"sampler/times does not go with sampler={sampler.name}: diffusers chooses the times itself")
        if not find_spec("diffusers"):
            raise UserError("sampler=unipc and sampler=diffusers need diffusers: pip install diffusers")


def _check_curve(cfg: DictConfig, key: str, task: str) -> None:
    """Raise UserError where `key` names no curve. Figures of one's own are looked at when they are built."""
    curves, name = HELD_OUT_CURVES.get(task), str(cfg[key])
    if curves is None or name in curves:
        return
    wanted, every = f"must be {' or '.join(curves)}, held out and measured each epoch", cfg.metrics.get("every_n_epochs")
    if task in ("classifier", "autoencoder") or not name.startswith("val/"):
        raise UserError(f"{key}={name} {wanted}")
    if not every:
        raise UserError(f"{key}={name} {wanted}; or a figure of drawn images, as val/kid, with metrics.every_n_epochs=1")
    if cfg.epochs is not None and cfg.epochs < every:
        raise UserError(f"{key}={name} is never measured: take metrics.every_n_epochs={cfg.epochs} or less")
    if key == "early_stop" and cfg.patience < every:
        raise UserError(f"patience={cfg.patience} is over before {name} is measured again: take patience={every} or more")


def _check_guidance(cfg: DictConfig) -> None:
    """Raise UserError for a setting of guidance that means nothing."""
    if "guidance" in cfg and OmegaConf.is_missing(cfg.guidance, "checkpoint"):
        raise UserError("guidance.checkpoint=FILE is missing: one that experiment=noisy_classifier leaves")
    scale, rescale, interval = (OmegaConf.select(cfg, f"guidance.{key}") for key in ("scale", "rescale", "interval"))
    scales = scale if isinstance(scale, ListConfig) and "gif" in cfg else [scale]  # sample.py draws a column for each
    if not scales or not all(each is None or _is_number(each) for each in scales):
        raise UserError(f"guidance.scale={scale} must be a number, or for sample.py a list of numbers")
    if len(scales) > 1 and cfg.gif:
        raise UserError("gif=true shows one guidance.scale, not several")
    if rescale is not None and not (_is_number(rescale) and 0 <= rescale <= 1):
        raise UserError(f"guidance.rescale={rescale} must be a number from 0 to 1")
    if interval is not None and not (_are_numbers(interval) and len(interval) == 2 and 0 <= interval[0] < interval[1]):
        raise UserError(f"guidance.interval={interval} must be [lowest, highest], two noise levels sigma from 0 up")


def _check_edit(cfg: DictConfig) -> None:
    """Raise UserError for an edit's time or strength that is none."""
    for key in ("edit.times", "edit.strengths"):
        times = OmegaConf.select(cfg, key)
        if times is not None and not (_are_numbers(times) and len(times) and all(0 < time <= 1 for time in times)):
            raise UserError(f"{key}={times} must be a list of times above 0 and up to 1, which is pure noise")
    sigma = OmegaConf.select(cfg, "edit.sigma")
    if sigma is not None and not (_is_number(sigma) and sigma > 0):
        raise UserError(f"edit.sigma={sigma} must be a number of pixels above 0")


def _are_numbers(values) -> bool:
    return isinstance(values, ListConfig) and all(_is_number(value) for value in values)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _check_classifier(cfg: DictConfig) -> None:
    """Raise UserError for what belongs to a denoiser."""
    if cfg.objective != "cross_entropy" or cfg.monitor not in HELD_OUT_CURVES["classifier"]:
        raise UserError(
            "task=classifier needs objective=cross_entropy and monitor=val/cross_entropy: take experiment=classifier"
        )
    if "outputs" in cfg.network:
        raise UserError(
            f"network={cfg.choices.network} gives images, and task=classifier needs classes: take network=classifier"
        )


def check_labels(config: dict) -> None:
    """Raise UserError for guidance without labels to guide by, in the config of a run or of a checkpoint."""
    scale = config["guidance"].get("scale", 1)
    labels = "checkpoint" in config["guidance"] or config["model"].get("conditions", {}).get("count")
    if scale != 1 and not labels:
        raise UserError(f"guidance.scale={scale} needs labels, and the network is trained without")


def plain(cfg: DictConfig) -> dict:
    """The resolved config as nested plain values, with its paths made absolute so that they mean the same from anywhere."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    for *groups, key in PATHS:
        node = config
        for group in groups:
            node = node.get(group) or {}
        if isinstance(node.get(key), str) and node[key]:
            node[key] = str(Path(node[key]).expanduser().resolve())
    data = config.get("data") or {}
    if isinstance(data.get("path"), str) and Path(data["path"]).expanduser().is_dir():  # else it is a name on the hub
        data["path"] = str(Path(data["path"]).expanduser().resolve())
        data |= {"source": {**data["source"], "path": data["path"]}} if "source" in data else {}
    place = (config.get("model") or {}).get("path")
    if isinstance(place, str) and Path(place).expanduser().is_dir():  # else it is a name on the hub
        config["model"]["path"] = str(Path(place).expanduser().resolve())
    return config
