"""MODEL_CARD.md: what an exported model is, what it was made of, how good it was found, and how to use it."""

from html import escape
from pathlib import Path

from diffusion_lab.experiments.names import data_name
from diffusion_lab.export.subject import Exported, Subject
from diffusion_lab.figures import declared
from diffusion_lab.files import write_text
from diffusion_lab.sizes import size_text
from diffusion_lab.wording import counted

LICENCES = {  # of the images, by data.name, as their makers state it
    "mnist_5k": 'CC BY-SA 3.0 (LeCun, Cortes and Burges, "The MNIST database of handwritten digits")',
    "mnist": 'CC BY-SA 3.0 (LeCun, Cortes and Burges, "The MNIST database of handwritten digits")',
    "fashion_mnist": "MIT (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747)",
    "cifar10": 'none stated (Krizhevsky 2009, "Learning multiple layers of features from tiny images")',
    "flowers": "none stated; the photographs are their owners' (Nilsback and Zisserman 2008, Oxford 102 flowers)",
    "pets": "CC BY-SA 4.0; the photographs are their owners' (Parkhi et al. 2012, Oxford-IIIT pets)",
}
KINDS = {1: "grey", 3: "colour", 4: "transparent colour"}
PARTS = ("network", "space", "schedule", "target", "level", "loss", "weighting", "guidance", "sampler")


def write_card(subject: Subject, exported: Exported, folder: Path) -> None:
    """Write `MODEL_CARD.md` into `folder`."""
    write_text(folder / "MODEL_CARD.md", card(subject, exported))


def card(subject: Subject, exported: Exported) -> str:
    """The card, Markdown."""
    config, denoiser = subject.config, subject.denoiser
    channels, *size = denoiser.space.pixel_shape
    parameters = sum(parameter.numel() for parameter in denoiser.parameters())
    names = ", ".join(map(escape, denoiser.conditions.names[:20])) + (" ..." if len(denoiser.conditions) > 20 else "")
    about = [
        f"A diffusion model of {KINDS[channels]} images of {size_text(size)} px, {parameters:,} parameters, "
        f"trained with diffusion-lab on {_data(config)}.",
        f"It can be asked for {len(denoiser.conditions)} classes: {names}." if names else "It knows no classes.",
    ]
    licence = LICENCES.get(config["data"]["name"], "not known here")
    sections = {
        "Training data": [f"{data_name(config['data'])}. Licence: {licence}."],
        "Choices": _choices(config),
        "Figures": _figures(subject.results),
        "Use": [f"```{exported.language}", exported.usage, "```", "", *(f"- {note}." for note in exported.notes)],
        "Limits": [
            "It draws what its training images show, their biases and faults included, and nothing else. Small models "
            "trained for minutes are for play and study."
        ],
    }
    text = [f"# {subject.name}", "", *about]
    for title, lines in sections.items():
        text += ["", f"## {title}", "", *lines]
    return "\n".join(text) + "\n"


def _data(config: dict) -> str:
    most = config["data"].get("max_images")
    return f"{data_name(config['data'])}" + (f", its first {most:,} images" if most else "") + f", {_budget(config)}"


def _budget(config: dict) -> str:
    """How long it was trained: epochs, or steps or minutes in place of them."""
    given = [counted(config[key], key.removesuffix("s")) for key in ("epochs", "steps", "minutes") if config.get(key)]
    return " or ".join(given)


def _choices(config: dict) -> list[str]:
    words = config.get("choices", {})
    rows = [f"| {part} | {words[part]} |" for part in PARTS if words.get(part)]
    keys = ("epochs", "steps", "minutes", "batch_size", "seed")
    more = [f"| {key} | {config[key]} |" for key in keys if config.get(key) is not None]
    drawn = [
        f"| steps of the sampler | {config['sampler']['steps']} |",
        f"| scale of guidance | {config['guidance'].get('scale', 1)} |",
    ]
    return ["| choice | |", "|---|---|", *rows, *more, *drawn]


def _figures(results: dict) -> list[str]:
    figures = [f"| {figure.title} | {figure.text_in(results)} |" for figure in declared(results).values()] if results else []
    if not figures:
        return ["None: this file is not the last checkpoint of a finished run."]
    said = f"Of {results['real_images']} held-out images, {results['weights']} weights"
    if "feature_extractor" in results:
        said += (
            f"; {results['samples']} generated ones, {results['network_calls']} network calls each; features of "
            f"{results['feature_extractor']} at {results['extractor_resolution']} px, protocol {results['protocol']}"
        )
    return ["| figure | |", "|---|---|", *figures, "", f"{said}."]
