"""The reference system's published table: D. Falbel, "denoising-diffusion", one seed a cell, validation KID."""

import pandas as pd

FACTORS = ["loss", "target", "schedule"]
LEVELS = {"loss": {"mae", "mse"}, "target": {"noise", "image"}, "schedule": {"cosine", "linear_clipped"}}
NETWORK = "reference_unet"  # runs of this network are set beside the table

KID = {  # (loss, target, schedule); torchvision's Inception v3 at 299 px, 4 network calls, 64 px, 50 epochs
    "flowers": {
        ("mse", "image", "cosine"): 0.1390,
        ("mse", "image", "linear_clipped"): 0.2125,
        ("mse", "noise", "cosine"): 0.1315,
        ("mse", "noise", "linear_clipped"): 0.1652,
        ("mae", "image", "cosine"): 0.1038,
        ("mae", "image", "linear_clipped"): 0.1912,
        ("mae", "noise", "cosine"): 0.0934,
        ("mae", "noise", "linear_clipped"): 0.1674,
    },
    "pets": {
        ("mse", "image", "cosine"): 0.1501,
        ("mse", "image", "linear_clipped"): 0.1742,
        ("mse", "noise", "cosine"): 0.1886,
        ("mse", "noise", "linear_clipped"): 0.1187,
        ("mae", "image", "cosine"): 0.1487,
        ("mae", "image", "linear_clipped"): 0.2122,
        ("mae", "noise", "cosine"): 0.1971,
        ("mae", "noise", "linear_clipped"): 0.1811,
    },
}
RANGES = {"noise_loss": (0.139, 0.171), "image_loss": (0.250, 0.313)}  # over all cells


def table(data: str) -> pd.DataFrame:
    """The published KIDs of one data set: columns loss, target, schedule, kid."""
    return pd.DataFrame([(*cell, kid) for cell, kid in KID[data].items()], columns=[*FACTORS, "kid"])
