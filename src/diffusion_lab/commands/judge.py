"""`judge.py`: real images made worse in known steps, and which metric notices."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffusion_lab.commands.checks import check, plain
from diffusion_lab.commands.console import exit_on_user_error, short
from diffusion_lab.commands.data import decode_source, open_source
from diffusion_lab.commands.ladder import climb_ladder
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.names import data_name
from diffusion_lab.experiments.runs import Run
from diffusion_lab.files import write_text
from diffusion_lab.parts import build

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from diffusion_lab.judging.trial import Sizes
    from diffusion_lab.metrics.scoring import Metric

FEWEST = 4  # images of a set

log = logging.getLogger(__name__)


def judge(cfg: DictConfig, folder: str) -> None:
    """Judge `cfg.metrics.figures` on `cfg.data`; print what each sees, and write judge.csv, values.csv, .md and .png."""
    run = Run(Path(folder))
    try:
        said = exit_on_user_error(_judge, cfg, run.folder)
    finally:
        run.remove_if_empty()
    print("\n".join([*said, f"written to   {short(run.folder)}: judge.csv, values.csv, judge.md, judge.png"]))


def _judge(cfg: DictConfig, folder: Path) -> list[str]:
    check(cfg)
    from diffusion_lab.metrics.scoring import figures_of

    logging.getLogger("diffusion_lab.metrics.quality").setLevel(logging.WARNING)  # of its subsets, at every set
    nodes = plain(cfg)["metrics"]["figures"].items()  # of KID, where it is left out, what conf/judge.yaml says of it stays
    metrics = {name: build(node, f"metrics.figures.{name}") for name, node in nodes if list(node) != ["subsets"]}
    figures_of(metrics)
    found, values, said, figure = climb_ladder(cfg, metrics) if cfg.ladder is not None else _worsen(cfg, metrics)
    folder.mkdir(parents=True, exist_ok=True)
    found.to_csv(folder / "judge.csv", index=False, float_format="%.5g")
    values.groupby(["worsening", "step", "figure"], sort=False)["value"].agg(["mean", "std"]).to_csv(
        folder / "values.csv", float_format="%.5g"
    )
    write_text(folder / "judge.md", "".join(f"- {sentence}\n" for sentence in said))
    figure.savefig(folder / "judge.png")
    return said


def _worsen(cfg: DictConfig, metrics: dict[str, Metric]) -> tuple[pd.DataFrame, pd.DataFrame, list[str], Figure]:
    """Verdicts, values, sentences and a figure of the images of `cfg.data`, made worse."""
    import pandas as pd

    from diffusion_lab.figures import FIGURES
    from diffusion_lab.hardware import machine
    from diffusion_lab.judging.figure import judge_figure
    from diffusion_lab.judging.trial import trial
    from diffusion_lab.judging.verdicts import sentences, verdicts
    from diffusion_lab.judging.worsenings import WORSENINGS
    from diffusion_lab.metrics.scoring import figures_of

    config, figures = plain(cfg), figures_of(metrics)
    decoded = decode_source(config["data"], open_source(config["data"]))
    earlier = [_read(file) for file in config["beside"]]
    sizes = _sizes(cfg, decoded)
    labelled = bool(decoded.class_names)
    asked = cfg.only or WORSENINGS
    if not set(asked) <= set(WORSENINGS):
        raise UserError(f"only={list(asked)} must be some of {', '.join(WORSENINGS)}")
    chosen = {name: WORSENINGS[name] for name in asked if labelled or name != "dropped classes"}
    extractor = build(config["metrics"]["extractor"], "metrics.extractor")
    extractor = extractor.to(machine(cfg.accelerator, "32-true").device)
    values = trial(decoded, extractor, metrics, chosen, sizes, cfg.seed, cfg.metrics.batch_size)
    found = verdicts(values, figures, sizes.images)
    about = {"data": f"{data_name(config['data'])} {cfg.data.image_size} px", "extractor": extractor.identity}
    for place, (column, text) in enumerate(about.items()):
        found.insert(place, column, text)
    said = list(sentences(found, figures, extractor.identity))
    drawn = pd.concat([*earlier, found]).drop_duplicates(["data", "extractor", "images", "figure", "worsening"], keep="last")
    return found, values, said, judge_figure(drawn, {**FIGURES, **figures})


def _sizes(cfg: DictConfig, decoded) -> Sizes:
    """How many images there are to be, fewer where there are not so many.

    Raises:
        UserError: there are too few for any figure.
    """
    from diffusion_lab.judging.trial import Sizes

    pool = min(cfg.pool, len(decoded.train))
    images = min(cfg.images, pool // 2)
    if images < FEWEST:
        raise UserError(f"{len(decoded.train)} images are too few to be judged by: sets of {FEWEST} want twice as many")
    if images < cfg.images:
        log.info(
            "sets of %d images, for there are %d to take them from: small sets see large worsenings alone", images, pool
        )
    return Sizes(min(cfg.real, len(decoded.held_out)), pool, min(2 * pool, len(decoded.train)), images, cfg.sets)


def _read(file: str) -> pd.DataFrame:
    """An earlier judge.csv.

    Raises:
        UserError: it is none.
    """
    import pandas as pd

    wanted = {"data", "extractor", "figure", "worsening", "images", "smallest", "seen", "reversed"}
    try:
        found = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise UserError(f"beside={file} cannot be read: give the judge.csv of an earlier command") from error
    if not wanted <= set(found):
        raise UserError(f"beside={file} is no judge.csv: it has no {', '.join(sorted(wanted - set(found)))}")
    return found
