"""Figures: everything that is measured, each declared once. Consoles, reports, checks, sweeps, dashboards and W&B read this.

Needs no torch. A metric of one's own declares its figures beside its function, see `diffusion_lab.metrics.scoring`;
results.json carries the declarations of what is in it, so a report knows figures of packages that are not installed.
"""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Figure:
    """One number that says how good a model is.

    Attributes:
        key: its name in results.json, in W&B and in `objective=`.
        label: its name in tables and sentences.
        unit: behind the label; "%" shows a share from 0 to 1 as a percentage.
        digits: behind the decimal point.
        less_is_better: whether a lower one is a better one.
        depends_on: keys of results.json; two runs in which one of these differs are not compared by it.
        error: the key in results.json of its standard error or deviation, shown behind a ±.
        curve: whether it is also a curve while training, `val/<key>`.
        ranked: whether a report ranks by it or shows it only beside others.
    """

    key: str
    label: str
    unit: str = ""
    digits: int = 4
    less_is_better: bool = True
    depends_on: tuple[str, ...] = ()
    error: str | None = None
    curve: bool = False
    ranked: bool = True

    @property
    def title(self) -> str:
        """Label and unit, the head of a column."""
        return f"{self.label} ({self.unit})" if self.unit not in ("", "%") else self.label

    @property
    def better(self) -> str:
        return "less is better" if self.less_is_better else "more is better"

    def text(self, value: float) -> str:
        """A value with the digits that make sense of it; a dash where there is none."""
        if value != value:
            return "–"
        kind = "%" if self.unit == "%" else "f"
        return f"{value:z.{self.digits}{kind}}"  # z: no minus before nothing

    def text_in(self, results: dict) -> str:
        """Its value in results.json, with its error where it has one."""
        value, error = results[self.key], results.get(self.error)
        return self.text(value) if error is None else f"{self.text(value)} ± {self.text(error)}"

    def plain(self) -> dict:
        """As results.json carries it."""
        return asdict(self)


HELD_OUT = ("data", "image_size", "real_images", "held_out")
DRAWN = (*HELD_OUT, "samples", "network_calls", "feature_extractor", "extractor_resolution", "protocol")

KID = Figure("kid", "KID", depends_on=DRAWN, error="kid_std", curve=True)
FID = Figure("fid", "FID", digits=2, depends_on=DRAWN, curve=True)
MIND = Figure("mind", "MIND", digits=2, depends_on=DRAWN, curve=True)
FID_INFINITY = Figure("fid_infinity", "FID-infinity", digits=2, depends_on=DRAWN, ranked=False)
CMMD = Figure("cmmd", "CMMD", digits=3, depends_on=DRAWN, curve=True)
MIFID = Figure("mifid", "MiFID", digits=2, depends_on=DRAWN, ranked=False)
TRAINING_DISTANCE = Figure(
    *("training_distance", "distance to training images"), less_is_better=False, depends_on=DRAWN, ranked=False
)
TRAINING_DISTANCE_HELD_OUT = Figure(
    *("training_distance_held_out", "that of held-out ones"),
    less_is_better=False,
    depends_on=(*HELD_OUT, "feature_extractor"),
    ranked=False,
)
KID_BY_CLASS = Figure("kid_by_class", "KID by class", depends_on=DRAWN, error="kid_by_class_std", ranked=False)
PRECISION = Figure("improved_precision", "precision", digits=3, less_is_better=False, depends_on=DRAWN, ranked=False)
RECALL = Figure("improved_recall", "recall", digits=3, less_is_better=False, depends_on=DRAWN, ranked=False)
DENSITY = Figure("density", "density", digits=3, less_is_better=False, depends_on=DRAWN, ranked=False)
COVERAGE = Figure("coverage", "coverage", digits=3, less_is_better=False, depends_on=DRAWN, ranked=False)
COPIED = (*HELD_OUT, "samples", "network_calls")
COPIES = Figure("copies", "copies", "%", 1, depends_on=COPIED, ranked=False)
COPIES_HELD_OUT = Figure("copies_held_out", "copies among held-out", "%", 1, depends_on=HELD_OUT, ranked=False)
NOISE_LOSS = Figure("noise_loss", "noise_loss", depends_on=(*HELD_OUT, "units"), curve=True)
IMAGE_LOSS = Figure("image_loss", "image_loss", depends_on=(*HELD_OUT, "units"), curve=True)
BITS = Figure(
    *("bits_per_dimension", "bits/dim"), digits=3, depends_on=HELD_OUT, error="bits_per_dimension_error", ranked=False
)
READ_AS_ASKED = Figure("label_accuracy", "read as asked", "%", 1, less_is_better=False, depends_on=DRAWN, ranked=False)
REAL_READ = Figure(
    *("real_label_accuracy", "real images read right", "%", 1), less_is_better=False, depends_on=HELD_OUT, ranked=False
)
CROSS_ENTROPY = Figure("cross_entropy", "cross_entropy", depends_on=HELD_OUT, curve=True)
ACCURACY = Figure("accuracy", "accuracy", less_is_better=False, depends_on=HELD_OUT, curve=True)
REMADE = (*HELD_OUT, "factor", "latent_channels")
RECONSTRUCTION_KID = Figure(
    *("reconstruction_kid", "reconstruction KID"), depends_on=(*REMADE, "feature_extractor"), error="reconstruction_kid_std"
)
PSNR = Figure("psnr", "PSNR", "dB", 2, less_is_better=False, depends_on=REMADE, curve=True)
SSIM = Figure("ssim", "SSIM", less_is_better=False, depends_on=REMADE)
L1 = Figure("l1", "L1", depends_on=REMADE, curve=True)

OWN = (KID, FID, NOISE_LOSS, IMAGE_LOSS, BITS, READ_AS_ASKED, REAL_READ, CROSS_ENTROPY, ACCURACY)
OWN += (MIND, CMMD, FID_INFINITY, KID_BY_CLASS, PRECISION, RECALL, DENSITY, COVERAGE, COPIES, COPIES_HELD_OUT)
OWN += (MIFID, TRAINING_DISTANCE, TRAINING_DISTANCE_HELD_OUT)
OWN += (RECONSTRUCTION_KID, PSNR, SSIM, L1)
FIGURES = {figure.key: figure for figure in OWN}  # of this package, in the order of tables


def declared(results: dict) -> dict[str, Figure]:
    """The figures that a results.json has, by key, in the order of tables.

    It declares them itself under "figures"; an older one has those of this package.
    """
    told = {key: _read(key, values) for key, values in (results.get("figures") or {}).items()}
    known = {key: FIGURES.get(key, figure) for key, figure in told.items()}  # of its own, this package knows better
    known = known or FIGURES
    order = [*(key for key in FIGURES if key in known), *(key for key in known if key not in FIGURES)]
    return {key: known[key] for key in order if isinstance(results.get(key), int | float)}


def _read(key: str, values: dict) -> Figure:
    """A declaration out of a file; what it does not know of is left out."""
    names = {field.name for field in fields(Figure)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in names}
    return Figure(**{"label": key, **values, "key": key})
