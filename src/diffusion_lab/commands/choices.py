"""What a model was trained with, and what is chosen now in its place."""

from omegaconf import DictConfig, OmegaConf

from diffusion_lab.commands.checks import check_labels, check_taken, plain
from diffusion_lab.errors import UserError

ASKED_BY = {"bits": "vlb_calls", "labels": "classifier"}  # a figure: the setting of metrics that asks for it


def with_choices(trained: dict, cfg: DictConfig) -> dict:
    """The config that a model was trained with, with what was chosen on the command line (what is not null) in its place.

    Raises:
        UserError: guidance was chosen, and there are no labels; or the model's config asks for what cannot be.
    """
    chosen = plain(OmegaConf.merge({"data": {}}, cfg))
    words = chosen.get("choices", {})
    chosen["choices"] = {group: word for group, word in words.items() if word != "as_trained"}
    if "sampler" in chosen:
        chosen["sampler"] = _sampler(chosen["sampler"], trained.get("sampler") or {})
    config = _merge(trained, {key: chosen[key] for key in chosen if key in trained and key != "model"})
    _leave_out_unknown_figures(config)
    check_taken(config)
    check_labels(config)
    return config


def _sampler(chosen: dict, trained: dict) -> dict:
    """What is said of the sampler. `as_trained` it may have a `_target_` of one's own, which takes the steps then."""
    if chosen.get("_target_") is None:
        return {key: value for key, value in chosen.items() if key != "_target_"}
    steps = trained.get("steps") if chosen.get("steps") is None else chosen["steps"]
    said = {key: value for key, value in chosen.items() if value is not None}
    return {**said, "steps": steps}


def _leave_out_unknown_figures(config: dict) -> None:
    """Drop what the command line has to say of figures that the model was not trained to be scored by.

    Raises:
        UserError: it asks for one of them.
    """
    metrics = config.get("metrics") or {}
    figures = metrics.get("figures")
    for name in [name for name, node in figures.items() if "_target_" not in node] if isinstance(figures, dict) else ():
        setting = ASKED_BY.get(name)
        if metrics.get(setting) is not None:
            raise UserError(
                f"metrics.{setting}={metrics[setting]} asks for {name}, which is none of the figures that the checkpoint "
                "was trained to be scored by: take metrics=standard"
            )
        del figures[name]


def _merge(old, new):
    """`new` where it says something: null keeps the old value, a node with a `_target_` of its own replaces it whole."""
    if new is None:
        return old
    if isinstance(old, dict) and isinstance(new, dict) and "_target_" not in new:
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items() if value is not None}}
    return new
