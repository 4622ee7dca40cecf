"""What the numbers, words and switches of a config may be, key by key. Needs no torch."""

from collections.abc import Iterator
from math import isfinite

from omegaconf import DictConfig, ListConfig, OmegaConf

from diffusion_lab.errors import UserError

MOST = 1_000_000  # that a whole number may be: more is a slip, and asks for all memory or all time
LARGEST = 4096  # side of an image, in pixels
LARGEST_REAL = 1e30  # that any number may be: float32 ends not far beyond
WHOLE = {  # key: (least, most)
    "epochs": (1, MOST),
    "steps": (1, MOST),
    "snapshots": (1, MOST),
    "threads": (1, 1024),
    "patience": (1, MOST),
    "accumulate": (1, MOST),
    "checkpoints.every_steps": (1, MOST),
    "checkpoints.keep_every_epochs": (1, MOST),
    "batch_size": (1, MOST),
    "count": (1, MOST),
    "seed": (0, 2**63 - 1),
    "data.num_classes": (0, MOST),
    "data.repeat": (1, MOST),
    "data.shift": (0, 4096),
    "data.max_images": (2, 10**12),
    "data.held_out_images": (1, MOST),
    "metrics.samples": (2, MOST),
    "samples": (0, MOST),
    "metrics.batch_size": (1, MOST),
    "metrics.every_n_epochs": (1, MOST),
    "metrics.vlb_calls": (1, MOST),
    "metrics.figures.kid.subsets": (1, 10_000),
    "metrics.figures.kid.subset_size": (2, MOST),
    "metrics.figures.kid.batch_size": (2, MOST),
    "model.conditions.count": (0, MOST),
    "variance.outputs": (1, 2),
    "variance.steps": (2, MOST),
    "criterion.vlb_steps": (2, MOST),
    "criterion.stages": (1, 100),
    "teacher.steps": (1, MOST),
    "times.steps": (1, MOST),
    "sampler.steps": (1, MOST),
    "sampler.resamples": (1, MOST),
    "sampler.jump": (1, MOST),
    "schedule.betas.steps": (2, MOST),
    "schedule.steps": (2, MOST),
    "schedule.intervals": (1, MOST),
    "edit.factor": (2, 4096),
    "model.image_size": (8, 4096),
    "model.second_steps": (1, MOST),
    "model.noise_level": (0, 999),
    "model.rank": (1, 4096),
    "edit.columns": (2, MOST),
    "edit.corrections": (0, MOST),
    "grid.every_n_epochs": (1, MOST),
    "grid.count": (1, 10_000),
    "trainer.log_every_n_steps": (1, MOST),
    "trainer.num_sanity_val_steps": (-1, MOST),
    "trainer.accumulate_grad_batches": (1, MOST),
    "network.blocks": (1, 100),
    "network.patch": (1, 4096),
    "network.width": (1, 100_000),
    "network.depth": (1, 1000),
    "network.mlp_ratio": (1, 100),
    "network.head_channels": (0, 100_000),
    "network.outputs": (1, 2),
    "rounds": (1, MOST),
    "images": (4, MOST),
    "pool": (8, MOST),
    "real": (4, MOST),
    "sets": (3, MOST),
    "network.augmented": (0, MOST),
}
REAL = {  # key: an interval
    "seconds": f"(0, {MOST}]",
    "minutes": f"(0, {MOST}]",
    "checkpoints.every_minutes": f"(0, {MOST}]",
    "gradient_clip": "(0, inf)",
    "label_dropout": "[0, 1]",
    "model.embedded_guidance": "[0, inf)",
    "ema.decay": "[0, 1)",
    "optimizer.lr": "(0, inf)",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.momentum": "[0, 1)",
    "optimizer.eps": "[0, inf)",
    "learning_rate.warmup": "[0, 1]",
    "trainer.gradient_clip_val": "(0, inf)",
    "variance.vlb_weight": "[0, inf)",
    "criterion.vlb_weight": "[0, inf)",
    "criterion.q": "(1, inf)",
    "criterion.k": "[0, inf)",
    "criterion.b": "[0, inf)",
    "criterion.c": "[0, inf)",
    "criterion.sigma_data": "(0, inf)",
    "space.sigma_data": "(0, inf)",
    "weighting.sigma_data": "(0, inf)",
    "weighting.gamma": "[0, inf)",
    "weighting.k": "(0, inf)",
    "loss.delta": "(0, inf)",
    "loss.c": "(0, inf)",
    "target.sigma_data": "(0, inf)",
    "times.std": "(0, inf)",
    "schedule.max_signal_rate": "(0, 1]",
    "schedule.min_signal_rate": "[0, 1)",
    "schedule.max_alpha_bar": "(0, 1]",
    "schedule.min_alpha_bar": "(0, 1)",
    "schedule.sigma_min": "(0, inf)",
    "schedule.sigma_max": "(0, inf)",
    "schedule.rho": "(0, inf)",
    "schedule.shift": "(0, inf)",
    "schedule.tau": "(0, inf)",
    "schedule.signal_rate": "[0, inf)",
    "schedule.noise_rate": "[0, inf)",
    "schedule.min_noise_rate": "[0, 1)",
    "schedule.max_noise_rate": "(0, 1]",
    "schedule.betas.start": "(0, 1)",
    "schedule.betas.end": "(0, 1)",
    "sampler.eta": "[0, 1]",
    "sampler.churn": "[0, inf)",
    "sampler.times.rho": "(0, inf)",
    "sampler.threshold.quantile": "(0, 1]",
    "sampler.threshold.most": "[1, inf)",
    "metrics.figures.cmmd.sigma": "(0, inf)",
    "metrics.figures.mifid.threshold": "(0, 1]",
    "augmentation.probability": "[0, 1]",
    "augmentation.scale": "[0, inf)",
    "augmentation.stretch": "[0, inf)",
    "augmentation.move": "[0, inf)",
}
RISING = (  # the first is below the second
    *(f"schedule.min_{what} schedule.max_{what}" for what in ("signal_rate", "noise_rate", "alpha_bar", "log_snr")),
    *("schedule.sigma_min schedule.sigma_max", "schedule.start schedule.end", "schedule.betas.start schedule.betas.end"),
)
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
CHOICES = {
    "data.on_error": ("raise", "skip"),
    "save_as": ("png", "npz"),
    "format.quantise": ("fp16", "int8"),
    "logger.mode": ("offline", "online", "disabled"),
    "data.channels": (1, 3, 4),
    "compile": ("auto", True, False),
    "lr_scaling": ("linear", "sqrt"),
    "model.dtype": ("auto", "float32", "bfloat16", "float16"),
    "sampler.variance": ("small", "large", "learned"),
    "sampler.order": (1, 2, 3),
    "guidance.rescale_of": ("image", "output"),
    "loss.reduction": ("none",),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda"),
    "trainer.precision": PRECISIONS,
    "trainer.strategy": ("ddp", "ddp_spawn"),  # averaged weights are whole on each device: nothing is sharded
    "accelerator": ("auto", "cpu", "gpu", "cuda"),
    "precision": PRECISIONS,
    "metrics.figures.bits.decoder": ("posterior", "noise"),
}
SWITCHES = (
    *("open", "format.webgpu", "data.flip", "data.antialias", "gif", "network.pyramid", "network.fourier"),
    *(
        "criterion.per_gap",
        "init_from_strict",
        "gradient_checkpointing",
        "rehearsal",
        "model.offload",
        "model.attention_slicing",
    ),
)
WORDS = (
    *(
        "name",
        "objective",
        "monitor",
        "early_stop",
        "out",
        "metrics.protocol",
        "metrics.classifier",
        "init_from",
        "resume_from",
        "guidance.checkpoint",
    ),
    *("data.name", "data.root", "data.cache_dir", "teacher.checkpoint", "checkpoint", "logger.project", "logger.entity"),
)
LISTS = ("only", "beside", "trusted", "network.widths", "network.attention", "network.multipliers", "network.taps")
MAY_BE_NULL = (
    *(
        "model.image_size",
        "data.max_images",
        "data.held_out_images",
        "metrics.vlb_calls",
        "metrics.every_n_epochs",
        "trainer.gradient_clip_val",
    ),
    *("gradient_clip", "threads", "steps", "minutes", "checkpoints.every_steps", "checkpoints.every_minutes"),
    *("sampler.threshold.most", "snapshots", "checkpoints.keep_every_epochs", "metrics.figures.mifid.threshold"),
)
FOUND = ("data.num_classes", "model.conditions.count")  # of a folder
NEVER_NULL = {*WHOLE, *REAL, *SWITCHES, "data.cache_dir", "data.name", "data.on_error", "data.image_size", "compile"}
NEVER_NULL |= {"data.channels", "optimizer.betas"}
NEVER_NULL -= {*MAY_BE_NULL, *FOUND}
PARTS = (  # each has a _target_
    *("task", "model", "network", "space", "schedule", "level", "target", "loss", "weighting", "criterion", "teacher"),
    *("times", "optimizer", "learning_rate", "guidance", "sampler", "trainer", "logger", "data.source", "task.criterion"),
    *(
        "augmentation",
        "task.augmentation",
        "task.times",
        "metrics.extractor",
        "criterion.loss",
        "criterion.weighting",
        "criterion.teacher",
    ),
    *(f"model.{part}" for part in ("network", "schedule", "target", "level", "space", "conditions")),
)
MAPPINGS = (*PARTS, "data", "checkpoints", "variance", "metrics", "metrics.figures", "grid", "edit")
SAME = (  # a part's setting, and where it is to be set
    *(("network.channels", "data.channels"), ("space.channels", "data.channels"), ("trainer.max_epochs", "epochs")),
    *(("network.image_size", "data.image_size"), ("space.size", "data.image_size")),
    *(("trainer.gradient_clip_val", "gradient_clip"), ("trainer.accumulate_grad_batches", "accumulate")),
    *(("task.label_dropout", "label_dropout"), ("network.outputs", "variance.outputs")),
)


def check_ranges(cfg: DictConfig) -> None:
    """Raise UserError for a number out of range, an unknown word, or something else than either where one belongs."""
    training = "epochs" in cfg
    for key in MAPPINGS:
        there = _is_there(cfg, key)
        if (there or (training and key in ("task", "model"))) and not isinstance(_selected(cfg, key), DictConfig):
            raise UserError(f"{key}={_selected(cfg, key)} must be one of its choices, or a mapping of settings: see --help")
        if training and there and key in PARTS and "_target_" not in _selected(cfg, key):
            raise UserError(f"{key}={_selected(cfg, key)} has no `_target_`: take one of its choices, see --help")
    for key, value in _leaves(cfg):
        _check_any(key, value)
    for key, wrong, wanted in _rules():
        value = _selected(cfg, key)
        if value is None and not (training and key in NEVER_NULL and _is_there(cfg, key)):
            continue
        if value is None or wrong(value):
            raise UserError(f"{key}={'null' if value is None else value} must be {wanted}")
    for low, high in (pair.split() for pair in RISING):
        below, above = _selected(cfg, low), _selected(cfg, high)
        if below is not None and above is not None and not below < above:
            raise UserError(f"{low}={below} must be below {high}={above}")
    for key, source in SAME:
        if source.startswith("data.") and _is_there(cfg, "space.autoencoder"):  # whose latents have another shape
            continue
        if _is_there(cfg, key) and _is_there(cfg, source) and _selected(cfg, key) != _selected(cfg, source):
            raise UserError(f"{key}={_selected(cfg, key)} follows from {source}={_selected(cfg, source)}: set that")
    widths, heads = _selected(cfg, "network.widths"), _selected(cfg, "network.heads")
    if isinstance(widths, ListConfig) and isinstance(heads, ListConfig) and len(widths) != len(heads):
        raise UserError(f"network.heads={heads} must be as many as network.widths={widths}")
    classes, shown = _selected(cfg, "data.num_classes"), _selected(cfg, "network.num_classes")
    if classes is not None and shown not in (None, 0, classes):
        raise UserError(f"network.num_classes={shown} must be 0, or as many as the data has: {classes}")


def _rules() -> Iterator[tuple]:
    """(key, whether a value is wrong, what it must be)"""
    for key, (least, most) in WHOLE.items():
        wanted = f"a whole number, at least {least}" + (f" and at most {most}" if most != MOST else "")
        yield key, lambda value, least=least, most=most: type(value) is not int or not least <= value <= most, wanted
    yield "data.image_size", _is_no_size, f"a whole number of pixels, at most {LARGEST}, or two of them, [height,width]"
    for key, interval in REAL.items():
        yield key, lambda value, interval=interval: not _is_within(value, interval), f"a number in {interval}"
    for key, choices in CHOICES.items():
        known = {str(choice) for choice in choices}
        wrong = lambda value, known=known: str(value) not in known or isinstance(value, ListConfig | DictConfig)  # noqa: E731
        yield key, wrong, f"one of {', '.join(map(str, choices))}"
    yield "optimizer.betas", _are_no_betas, "two numbers in [0, 1), such as [0.9,0.95]"
    for key in SWITCHES:
        yield key, lambda value: not isinstance(value, bool), "true or false"
    for key in WORDS:
        yield key, lambda value: not isinstance(value, str) or not value, "a word"
    for key in LISTS:
        yield key, lambda value: not isinstance(value, ListConfig), "a list, such as [1, 2]"


def _is_no_size(value) -> bool:
    pair = list(value) if isinstance(value, ListConfig) and len(value) == 2 else [value]
    return not all(type(side) is int and 1 <= side <= LARGEST for side in pair)


def _are_no_betas(value) -> bool:
    return not (isinstance(value, ListConfig) and len(value) == 2 and all(_is_within(each, "[0, 1)") for each in value))


def _check_any(key: str, value) -> None:
    """Raise UserError for what no setting may be."""
    if isinstance(value, float) and not isfinite(value):
        raise UserError(f"{key}={value} must be a finite number")
    if isinstance(value, float) and abs(value) > LARGEST_REAL:
        raise UserError(f"{key}={value} must be a number of at most {LARGEST_REAL:g}")
    if isinstance(value, int) and abs(value) > MOST and key not in ("seed", "data.max_images"):
        raise UserError(f"{key}={value} must be a number of at most {MOST}")
    if key.endswith("._partial_") and not isinstance(value, bool):
        raise UserError(f"{key}={value} must be true or false")
    if key.endswith("_target_") and not (isinstance(value, str) and value):
        raise UserError(f"{key}={value} must be the name of a class or a function")


def _leaves(node, place: str = "") -> Iterator[tuple[str, object]]:
    """Everything in a config that is neither a mapping nor a list, nor found only by resolving it, with its place."""
    for key in node if isinstance(node, DictConfig) else range(len(node)):
        child = node._get_node(key)
        inner = f"{place}.{key}" if place else str(key)
        if child is None or child._is_interpolation() or child._is_missing() or child._is_none():
            continue
        if isinstance(child, DictConfig | ListConfig):
            yield from _leaves(child, inner)
        else:
            yield inner, child._value()


def _is_there(cfg: DictConfig, key: str) -> bool:
    *parents, leaf = key.split(".")
    node = _selected(cfg, ".".join(parents)) if parents else cfg
    return isinstance(node, DictConfig) and leaf in node and not OmegaConf.is_missing(node, leaf)


def _selected(cfg: DictConfig, key: str):
    """The value of `key`; None where it is null, missing or not there."""
    node = cfg
    for name in key.split("."):
        if not isinstance(node, DictConfig) or name not in node or OmegaConf.is_missing(node, name):
            return None
        node = node[name]
    return node


def _is_within(value, interval: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)
