"""What every training shares: loggers, Lightning's loop, what was saved opened again, and what it all cost."""

import logging
import multiprocessing
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import torch
from hydra.utils import get_class
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment

from diffusion_lab import ranks
from diffusion_lab.averages import FOLDER
from diffusion_lab.checkpoints import Checkpoint, load_checkpoint
from diffusion_lab.data.images import Images
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.errors import Diverged, StoppedEarly, Terminated, UserError
from diffusion_lab.experiments import overfitting, tracking
from diffusion_lab.experiments.runs import Run
from diffusion_lab.experiments.shared_search import RunningTrial
from diffusion_lab.figures import FIGURES, Figure, declared
from diffusion_lab.hardware import choose_compile, keep_freed_memory, processes, training_layout
from diffusion_lab.metrics import copies, spread
from diffusion_lab.metrics.scoring import figures_of
from diffusion_lab.networks.checkpointing import checkpoint_blocks
from diffusion_lab.parts import build
from diffusion_lab.tasks.denoiser import metrics
from diffusion_lab.tasks.going_on import ends_an_epoch, start_of
from diffusion_lab.tasks.task import Outcome, Setting, Task
from diffusion_lab.training.budget import Budget
from diffusion_lab.training.callbacks import (
    EpochLine,
    GradientNorm,
    Heartbeat,
    ProgressBar,
    StopDiverged,
    StopEarly,
    Throughput,
)
from diffusion_lab.training.midway import Midway
from diffusion_lab.training.module import Training
from diffusion_lab.training.saving import Kept, KeptEvery, SafeCheckpoints
from diffusion_lab.training.snapshots import Snapshots

HEARTBEAT_S = 30


Card = Callable[[Checkpoint, NoisyModel, dict], str | None]


def fit(
    task: Task,
    module: Training,
    images: Images,
    setting: Setting,
    shorter: Checkpoint | None = None,
    card: Card = lambda checkpoint, model, results: None,
) -> dict:
    """Train a module, from the last checkpoint where there is one, and score what was saved; returns the run's results.

    Args:
        module: from `training_of`.
        shorter: of another run, from `shorter_training`, that this one goes on from.
        card: what lies beside checkpoints that are sent away.
    """
    quiet_lightning()
    keep_freed_memory()
    config, run = setting.config, setting.run
    start = start_of(run, config, shorter)
    if not ranks.is_first():
        _train(task, module, images, setting, [tracking.Unheard()], start)
        help_to_score(task, setting)
        return {}
    done = start.state["global_step"] if start else None
    loggers = [
        tracking.metrics_csv(run, done),
        build(config["logger"], "logger")(run, {**config, "choices": _choices(task, config)}),
    ]
    loggers = [logger for logger in loggers if logger]
    failed = True
    try:
        _train(task, module, images, setting, loggers, start)
        checkpoint = load_checkpoint(run.last_checkpoint, trusted=None)
        checkpoint = replace(checkpoint, config=config)  # what is built is what was typed: the file may be another person's
        loggers[0] = tracking.metrics_csv(run, checkpoint.state["global_step"])  # processes of their own may have written it
        scored = checkpoint.model(task.kind)
        results = _results(task, checkpoint, scored, images, setting, loggers)
        tracking.log_summary(loggers, run, results, checkpoint.state["global_step"])
        about = {"choices": results["choices"], **{key: results[key] for key in declared(results)}, "config": config}
        tracking.log_checkpoints(loggers, run, card(checkpoint, scored, results), about)
        failed = False
    except StoppedEarly:
        failed = False
        raise
    except Diverged as error:
        tracking.alert(loggers, f"{run.folder.name} diverged", str(error))
        raise
    except Terminated:
        tracking.mark_preempted(loggers)
        raise
    finally:
        tracking.close(loggers, failed)
    return results


def _train(
    task: Task, module: Training, images: Images, setting: Setting, loggers: list[Logger], start: Checkpoint | None
) -> None:
    """Run Lightning's loop; what it leaves is the last checkpoint."""
    config, run = setting.config, setting.run
    settings = {
        **config["trainer"],
        "max_epochs": config["epochs"] or -1,
        "precision": setting.machine.precision,
        "enable_progress_bar": _is_watched(),
        "use_distributed_sampler": False,  # `Images` brings its own
    }
    here = ranks.place()
    if setting.machine.device.type == "cuda" and processes(config["trainer"]) == 1:
        settings["devices"] = [torch.cuda.current_device()]  # Lightning would take the first
    if here:
        settings |= {"devices": here.local_count, "num_nodes": here.count // here.local_count}
    environment = TorchElasticEnvironment() if here and here.count > 1 else LightningEnvironment()  # it would guess: SLURM's
    plugins = [SafeCheckpoints(), environment]
    callbacks = [*task.callbacks(setting), *standard_callbacks(config, run), *_stopped_by_its_sweep(config)]
    more = {"callbacks": callbacks, "logger": loggers, "plugins": plugins, "default_root_dir": str(run.folder)}
    trainer: Trainer = build(settings, "trainer", **more)
    with ranks.others_here():
        trainer.fit(module, datamodule=images, ckpt_path=start and start.path, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt


def _stopped_by_its_sweep(config: dict) -> list[Callback]:
    if not config["trial"]:
        return []
    less_is_better = mode_of(config["monitor"], config) == "min"
    return [StopEarly(config["monitor"], RunningTrial(**config["trial"]).is_to_stop, less_is_better)]


def training_of(task: Task, model: NoisyModel, setting: Setting) -> Training:
    """What Lightning trains."""
    config, device = setting.config, setting.machine.device
    if config["gradient_checkpointing"]:
        checkpoint_blocks(model.network)
    return task.training(
        model.to(memory_format=training_layout(device)),
        optimizer=build(config["optimizer"], "optimizer"),
        learning_rate=build(config["learning_rate"], "learning_rate"),
        seed=config["seed"],
        config=config,
        compiled=choose_compile(config["compile"], device),
        budget=budget_of(config),
        lr_scaling=config["lr_scaling"],
    )


def budget_of(config: dict) -> Budget:
    return Budget(config["epochs"], config["steps"], config["minutes"])


def standard_callbacks(config: dict, run: Run) -> list[Callback]:
    """Lightning's callbacks of every training: averaging, clocks, curves, checkpoints."""
    averaging = [build(config["ema"], "ema")] if config["ema"] else []
    between = config["checkpoints"]
    keep = {"dirpath": run.checkpoints, "save_on_train_epoch_end": True, "enable_version_counter": False}
    return [
        Quietly(),
        *averaging,
        *([Snapshots(run.checkpoints / FOLDER, config["snapshots"])] if config["snapshots"] else []),
        *budget_of(config).callbacks(),
        StopDiverged(),
        Throughput(),
        GradientNorm(),
        Heartbeat(None if _is_watched() else HEARTBEAT_S, _seen_by_scores(config)),
        *_early_stopping(config),
        Midway(run.last_checkpoint, between["every_minutes"], between["every_steps"]),
        *([KeptEvery(run.checkpoints, between["keep_every_epochs"])] if between["keep_every_epochs"] else []),
        LearningRateMonitor(logging_interval="step"),
        ProgressBar() if _is_watched() else EpochLine(),
        Kept(filename="best", monitor=config["monitor"], mode=mode_of(config["monitor"], config), **keep),
        Kept(filename="last", **keep),
    ]


def _early_stopping(config: dict) -> list[Callback]:
    curve, patience = config["early_stop"], config["patience"]
    if curve is None:
        return []
    figure = _figure_of(curve, config)
    every = config["metrics"]["every_n_epochs"] if figure and "samples" in figure.depends_on else 1
    # Not each epoch has one that is drawn for: patience is in epochs, Lightning's in times that it was measured.
    return [EarlyStopping(curve, patience=-(-patience // every), mode=mode_of(curve, config), strict=False)]


def mode_of(curve: str, config: dict) -> str:
    """Whether the best of a curve is its "min" or "max"."""
    figure = _figure_of(curve, config)
    return "min" if figure is None or figure.less_is_better else "max"


def _figure_of(curve: str, config: dict) -> Figure | None:
    key = curve.removeprefix("val/")
    own = {figure.key: figure for figure in get_class(config["task"]["_target_"]).figures}
    return FIGURES.get(key) or own.get(key) or (figures_of(metrics(config)).get(key) if config.get("metrics") else None)


def check_figures(task: Task, config: dict) -> None:
    """Raise UserError where a task is asked for what is none of the figures that it declares."""
    keys = [figure.key for figure in task.figures]
    for setting in ("objective", "monitor", "early_stop") if keys else ():
        before = "" if setting == "objective" else "val/"
        wanted = [f"{before}{key}" for key in keys]
        if config[setting] is not None and config[setting] not in wanted:
            raise UserError(
                f"{setting}={config[setting]} must be {' or '.join(wanted)}, which {type(task).__name__} measures"
            )


def _seen_by_scores(config: dict) -> int:
    """How many images the network sees while it draws what is scored: 0 where nothing is drawn."""
    samples, steps = ((config.get(part) or {}).get(key) or 0 for part, key in (("metrics", "samples"), ("sampler", "steps")))
    guided = (config.get("guidance") or {}).get("scale", 1) != 1
    return samples * steps * (1 + guided)


def _is_watched() -> bool:
    """Whether a person looks at a terminal of this process alone, where a progress bar can be drawn."""
    return sys.stdout.isatty() and multiprocessing.current_process().name == "MainProcess"


def help_to_score(task: Task, setting: Setting) -> None:
    """Do this process's share of the scores of what was saved."""
    ranks.wait()  # until it is
    if task.shares:
        task.outcome(load_checkpoint(setting.run.last_checkpoint, trusted=None).model(task.kind), setting)


def _outcome(task: Task, model: NoisyModel, setting: Setting) -> Outcome:
    """What came of it, with the help of the others; where Lightning's processes have ended, of as many again."""
    if ranks.count() > 1 or not task.shares or processes(setting.config["trainer"]) == 1:
        ranks.wait()
        return task.outcome(model, setting)
    with ranks.helped(processes(setting.config["trainer"]), help_to_score, task, setting):
        ranks.wait()
        return task.outcome(model, setting)


def _results(
    task: Task, checkpoint: Checkpoint, model: NoisyModel, images: Images, setting: Setting, loggers: list[Logger]
) -> dict:
    """The figures of what was saved, and what they cost; its pictures go to the loggers."""
    began = time.perf_counter()
    outcome = _outcome(task, model, setting)
    for key, file in outcome.pictures.items():
        tracking.log_image(loggers, key, file, checkpoint.state["global_step"])
    if outcome.samples:
        tracking.log_samples(loggers, outcome.samples, checkpoint.state["global_step"])
    curves, monitor = setting.run.sound_curves(), setting.config["monitor"]
    of_drawn = [*copies.alarms(outcome.results), *spread.alarms(outcome.results)]
    alarms = [*of_drawn, *overfitting.alarms(curves, monitor)]
    for said in alarms:
        tracking.alert(loggers, f"{setting.run.folder.name}: {said.partition(':')[0]}", said, level="WARN")
    return {
        **outcome.results,
        "alarms": alarms,
        "weights": "averaged" if checkpoint.averaged else "last",
        **_cost(checkpoint, images, model),
        "seed": setting.config["seed"],
        "precision": setting.machine.precision,
        **_devices(checkpoint),
        "choices": _choices(task, setting.config),
        "versions": _versions(),
        "score_seconds": time.perf_counter() - began,
    }


def _choices(task: Task, config: dict) -> dict[str, str]:
    """The words that play a part."""
    return {group: word for group, word in config["choices"].items() if group in task.groups}


def _devices(checkpoint: Checkpoint) -> dict:
    """On how many devices was trained, at the end at least, and how many images made a step."""
    devices, config = checkpoint.state.get("devices", 1), checkpoint.config
    return {"devices": devices, "images_per_step": devices * config["batch_size"] * config.get("accumulate", 1)}


def _cost(checkpoint: Checkpoint, images: Images, model: NoisyModel) -> dict:
    clocks = checkpoint.state["callbacks"]  # of all sessions of a resumed run
    seconds, epochs = clocks["Throughput"]["seconds"], checkpoint.state["epoch"] + 1
    seen = clocks["Throughput"].get("images") or epochs * len(images.train)  # an older version did not count them
    if not ends_an_epoch(checkpoint):
        epochs = round(seen / len(images.train), 2)
    return {
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "epochs": epochs,
        "steps": checkpoint.state["global_step"],
        "train_seconds": seconds,
        "fit_seconds": clocks["Timer"]["time_elapsed"]["train"],  # validation and pictures as well
        "train_images_per_second": seen / seconds,
    }


def _versions() -> dict:
    packages = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "wandb")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


class Quietly(Callback):
    """Brings the quiet along into the processes that Lightning starts, which are given the callbacks."""

    def __reduce__(self) -> tuple:
        return _quietly, ()


def _quietly() -> Quietly:
    quiet_lightning()
    return Quietly()


def quiet_lightning() -> None:
    """Say what happens in our own lines; Lightning's remarks on workers and loggers do not apply."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # which others it ends where one has ended
    for message in (
        ".*module\\(s\\) in eval mode.*",
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists.*",
        ".*smaller than the logging.*",
        ".*your dataloader is not resumable.*",  # it is: its sampler
        ".*Grad strides do not match bucket view strides.*",  # one copy more
        ".*`srun` command is available.*",  # and not used by intention
        ".*sync_dist=True.*",  # clocks are the first process's
        ".*The dirpath has changed.*",  # from that of the shorter training
    ):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", ".*Experiment logs directory.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
