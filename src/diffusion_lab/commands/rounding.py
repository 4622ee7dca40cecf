"""What a model with rounded weights draws, beside what the model itself does: the KID that its smaller file costs."""

from dataclasses import replace

from diffusion_lab.commands.console import calls_progress
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.errors import UserError
from diffusion_lab.export.subject import Subject
from diffusion_lab.figures import KID
from diffusion_lab.hardware import keep_freed_memory, machine
from diffusion_lab.metrics.quality import measure_kid
from diffusion_lab.metrics.scoring import check_counts, measure
from diffusion_lab.sampling.drawing import drawing
from diffusion_lab.tasks.denoiser import metrics, scoring


def cost_of_rounding(subject: Subject, rounded: Denoiser, samples: int | None) -> str:
    """KID of both, drawn from the same noise as the checkpoint's config says, against the held-out images; a sentence.

    Args:
        samples: images that each draws; None: as many as after training.

    Raises:
        UserError: the data set is not here, or they are too few.
    """
    config = subject.config
    try:
        decoded = decode_source(config["data"], open_source(config["data"]))
    except UserError as error:
        raise UserError(f"KID cannot be measured ({error}): give samples=0 to do without it") from error
    asked = {"kid": metrics(config).get("kid", measure_kid)}
    count = config["metrics"]["samples"] if samples is None else samples
    check_counts(asked, count, len(decoded.held_out))
    keep_freed_memory()
    found = []
    for denoiser in (subject.denoiser, rounded):
        ready = drawing(config, denoiser, machine("cpu", "32-true"), subject.checkpoint.trusted or ())
        drawn = replace(scoring(config, ready, decoded), samples=count)
        with calls_progress([denoiser], None, "Drawing"):
            found.append(measure(drawn, asked))
    exact, rough = found
    return (
        f"KID {KID.text_in(rough)}, and {KID.text_in(exact)} before its weights were rounded: {count} images of each, of "
        f"the same noise, {exact['network_calls']} network calls each, against {exact['real_images']} held-out ones; "
        f"features of {exact['feature_extractor']}"
    )
