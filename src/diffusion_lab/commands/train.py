"""`train.py`: one run, from its config to results.json; skipped if finished, resumed if interrupted."""

from __future__ import annotations

import copy
import logging
import math
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from diffusion_lab import ranks
from diffusion_lab.commands import threads
from diffusion_lab.commands.checks import check, check_labels, plain
from diffusion_lab.commands.console import command, print_figures, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.first import take_first
from diffusion_lab.commands.job import alone, attempt, to_minimise
from diffusion_lab.commands.latents import with_autoencoder
from diffusion_lab.commands.opening import say_data, say_network
from diffusion_lab.commands.stages import is_stage, with_teacher
from diffusion_lab.commands.stopping import follow_parent
from diffusion_lab.commands.suited import choices_said
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.continuing import checkpoint_of, run_of, shorter_one
from diffusion_lab.experiments.hashes import config_hash, content_of, one_number, sha256_of
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from diffusion_lab.wording import counted

if TYPE_CHECKING:
    from diffusion_lab.checkpoints import Checkpoint
    from diffusion_lab.data.cache import Decoded
    from diffusion_lab.data.images import Images
    from diffusion_lab.data.sources import Source
    from diffusion_lab.denoiser import NoisyModel
    from diffusion_lab.tasks.task import Task

BUDGET = ("epochs=", "steps=", "minutes=")
NOT_AGAIN = (*BUDGET, "resume_from=", "out=", "trusted=")
IMAGES = ("data=", "data.", "data/", "experiment=", "name=")  # words that say which images, and beside what
MEASURED = 2**30  # bytes of training images, at the most, whose mean and deviation the space is told
COMPARED = ("loss=mae,mse", "schedule=linear,cosine")

log = logging.getLogger(__name__)


def train(cfg: DictConfig, folder: str, is_multirun: bool) -> float:
    """Run one experiment in `folder` and return `cfg.objective`'s figure, for Hydra's sweepers to minimise.

    In a multirun a failure is written to results.json and returns infinity, so that the other jobs go on.
    """
    run = Run(Path(folder))
    logging.getLogger("diffusion_lab.commands.opening").disabled = is_multirun  # where there is a line a job
    if ranks.count() > 1:
        follow_parent()
    if not ranks.is_first():
        logging.disable(logging.INFO)
    results = attempt(run_once, partial(training_config, run=run), cfg, run, is_multirun)
    if not ranks.is_first():
        return math.inf
    if not is_multirun:
        _print_end(run, results, cfg)
    return to_minimise(results, cfg.objective, is_multirun)


def run_once(cfg: DictConfig, run: Run) -> dict:
    """The results of `cfg` in `run`'s folder: those that are there, or else made now."""
    take_first(cfg, run, training_config, run_once)
    config = training_config(cfg, run)
    with alone(run, config) as work:
        if work.results is None:
            offer(run, config)
            say_data(config, run)
            said = choices_said(cfg)
            if said:
                log.info(said)
        return work.results or work.finish(fit(config, run))


def offer(run: Run, config: dict) -> None:
    """Say that a finished run could be gone on from, where this one is the same with a larger budget."""
    other = shorter_one(run, config)
    if other is None:
        return
    results, folder = other.results(), other.folder
    if folder == run.folder:  # which is set aside now
        folder = folder.with_name(f"{folder.name}~{config_hash(other.config())}")
    done = f"{counted(results['epochs'], 'epoch')}, {counted(results['steps'], 'step')}"
    log.info("begins at step 0; to go on from the same run after %s, add resume_from=%s", done, short(folder))


def training_config(cfg: DictConfig, run: Run) -> dict:
    """The checked and resolved config of a run; that of a stage names the run of the stage before as its teacher.

    Raises:
        UserError: a mistake that can be found without importing torch.
    """
    cfg = copy.deepcopy(cfg)  # what was typed stays, so that it can be resolved again
    take_first(cfg, run, training_config)
    check(cfg)
    if cfg.steps or cfg.minutes:
        cfg.epochs = None
    classes = len(open_source(plain(cfg)["data"]).class_names)
    if cfg.data.num_classes is None:  # a folder's classes are known once it is listed
        cfg.data.num_classes = classes
    config = plain(cfg)
    check_labels(config)
    if config["resume_from"]:
        file = checkpoint_of(config["resume_from"])
        if run_of(file).folder.resolve() == run.folder.resolve():
            raise UserError(f"resume_from={run.folder} is the folder that this run is to have: give it another")
        cfg.resume_from = config["resume_from"] = str(file)
    # By content: another file of the same name, or other images in the same folder, make another run.
    contents = {"data": open_source(config["data"]).fingerprint[:16]}
    if is_stage(config):
        contents["first_teacher"] = sha256_of(Path(config["teacher"]["checkpoint"]))
        contents["first_scale"] = config["teacher"]["scale"]  # a stage's own is 1, for its teacher has learned it
        with_teacher(cfg, run, contents)
        config = plain(cfg)
    files = {"init_from": config["init_from"], "teacher": config["teacher"].get("checkpoint")}
    files["resume_from"] = config["resume_from"]
    contents |= {key: content_of(Path(file)) for key, file in files.items() if file}
    config = with_autoencoder(config)
    if (config["model"].get("space") or {}).get("sha256"):
        contents["autoencoder"] = config["model"]["space"]["sha256"]
    return {**config, "contents": contents}


def fit(config: dict, run: Run) -> dict:
    """Open the data, build the model, train and score it; returns the results."""
    threads.settle(config["threads"])
    import torch

    from diffusion_lab.hardware import machine
    from diffusion_lab.tasks import fitting, going_on
    from diffusion_lab.tasks.rehearsal import rehearse
    from diffusion_lab.tasks.task import Setting
    from diffusion_lab.training.latents import images_for

    source = open_source(config["data"])
    config = with_names(config, source)
    torch.manual_seed(config["seed"])
    model = build(config["model"], "model")
    with ranks.first_before_others():
        decoded = decode_source(config["data"], source)
    task = build(config["task"], "task")
    computer = machine(config["trainer"]["accelerator"], config["trainer"]["precision"])
    with ranks.first_before_others():
        images = images_for(model, config, decoded, computer.device)
    setting = Setting(config, run, decoded, computer)
    prepare(model, config, images)
    fitting.check_figures(task, config)
    task.check(model, setting)
    shorter = going_on.shorter_training(config)
    module = fitting.training_of(task, model, setting)
    if shorter:
        going_on.check_sound(shorter, module)
    say_network(config, module, computer, len(images.train))
    if ranks.is_first():
        if config["rehearsal"] and not (shorter or run.has_begun(config)):
            rehearse(task, module, setting)
        run.begin(setting.config)
    ranks.wait()
    return fitting.fit(task, module, images, setting, shorter, card_of)


def card_of(checkpoint: Checkpoint, model: NoisyModel, results: dict) -> str | None:
    """The model card of a checkpoint that was trained and scored now; None for another model than a denoiser."""
    from diffusion_lab.denoiser import Denoiser
    from diffusion_lab.export.card import card
    from diffusion_lab.export.subject import Exported, Subject

    if not isinstance(model, Denoiser):
        return None
    usage = 'import diffusion_lab as lab\nmodel = lab.load("last.ckpt")\nimages = model.sample(16, seed=0)'
    return card(Subject(checkpoint, model, results), Exported(checkpoint.path, usage))


def with_names(config: dict, source: Source | Decoded) -> dict:
    """The config with the names of the classes, so that a checkpoint knows what its labels mean."""
    if "conditions" not in config["model"]:
        return config
    conditions = {**config["model"]["conditions"], "names": source.class_names}
    return {**config, "model": {**config["model"], "conditions": conditions}}


def prepare(model: NoisyModel, config: dict, images: Images) -> None:
    """Give a new model what it knows before training: of the images, and of another training where one is given."""
    from diffusion_lab.data.images import batches_of
    from diffusion_lab.training.starts import start_from

    measured = images.train.thinned(MEASURED)
    at_once = max(1, min(4096, 2**26 // measured.images[0].nbytes))
    model.space.measure(batch.pixels for batch in batches_of(measured, at_once))
    if config["init_from"]:
        start_from(model, config["init_from"], config["trusted"], config["init_from_strict"])


def next_commands(task: type[Task], run: Run, results: dict, typed: list[str]) -> list[tuple[str, str]]:
    """What is worth typing after a training that was `typed` so: scripts and their arguments. What its task says, with the
    same images where that trains; the same for longer, and beside other choices, each as long as this one where that was
    typed."""
    from diffusion_lab.checkpoints import trusting

    place, images = short(run.last_checkpoint), shlex.join(word for word in typed if word.startswith(IMAGES))
    found = [(script, f"{words} {images}".strip() if script == "train" else words) for script, words in task.next(place)]
    budget = [word for word in typed if word.startswith(BUDGET)] or ["epochs=2"]
    typed = [word for word in typed if not word.startswith(NOT_AGAIN)]
    words = shlex.join(typed).split(" ") if typed else []
    longer = [*words, _twice(run.config(), results), f"resume_from={shlex.quote(short(run.folder))}"]
    found.append(("train", " ".join(longer)))
    if {"loss", "schedule"} <= set(task.groups) and "trainer=ddp_cluster" not in typed:  # which wants one job
        compared = [*(word for word in words if not word.startswith(("loss=", "schedule="))), *COMPARED]
        found.append(("train", " ".join(["-m", *compared, *budget])))
    trusted = trusting(run.config())
    return [(script, f"{words} {trusted}") for script, words in found] if trusted else found


def _twice(config: dict, results: dict) -> str:
    """A training twice as long, in the unit that this one was given."""
    unit = next((unit for unit in ("minutes", "steps") if config.get(unit)), None)
    return f"{unit}={one_number(2 * config[unit])}" if unit else f"epochs={math.ceil(2 * results['epochs'])}"


def _own_choices() -> str:
    """The option that a command begins with which is to find the choices of one's own that this one was shown."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [short(Path(source.path)) for source in sources if source.provider == "command-line"]
    return "".join(f"--config-dir {shlex.quote(folder)} " for folder in folders)


def _print_end(run: Run, results: dict, cfg: DictConfig) -> None:
    from hydra.utils import get_object

    task = get_object(cfg.task._target_)
    print_figures(results, "Final figures")
    said = {
        "trained in": f"{results['train_seconds']:.0f} s, {results['train_images_per_second']:.0f} images/s",
        "run folder": run.folder,
        **task.end(run, results),
    }
    for alarm in results.get("alarms", []):
        print(f"{'alarm':12} {alarm}")
    for title, text in said.items():
        print(f"{title:12} {short(text) if isinstance(text, Path) else text}")
    for i, (script, arguments) in enumerate(next_commands(task, run, results, HydraConfig.get().overrides.task)):
        print(f"{'' if i else 'next':12} {command(script, _own_choices() + arguments)}")
    sys.stdout.flush()
