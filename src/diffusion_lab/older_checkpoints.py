"""Checkpoints of before version 0.2, whose config had the parts of a model side by side and no `model` or `space`."""

PARTS = ("network", "schedule", "target", "level")
METRICS = "diffusion_lab.metrics"


def converted(state: dict) -> dict:
    """A checkpoint as it would be written now; one that is not older, as it is."""
    config = state["config"]
    if "model" in config or not {"network", "schedule", "level", "pixels", "data"} <= config.keys():
        return state
    weights = {_renamed(key): value for key, value in state["state_dict"].items()}
    space, reads = (
        _space(config),
        "target" not in config or any(key.startswith("classifier.") for key in state["state_dict"]),
    )
    parts = {part: config[part] for part in PARTS if part in config and not (reads and part == "target")}
    classes = config["data"]["num_classes"] if reads else config["network"].get("num_classes", 0)
    conditions = {"_target_": "diffusion_lab.conditions.Classes", "count": classes, "names": None}
    kind = "classifier.NoisyClassifier" if reads else "denoiser.NetworkDenoiser"
    model = {"_target_": f"diffusion_lab.{kind}", **parts, "space": space, "conditions": conditions}
    config = {**config, "space": space, "model": model, "metrics": _metrics(config)}
    return {**state, "config": config, "state_dict": weights}


def _renamed(key: str) -> str:
    for old in ("denoiser.", "classifier."):
        if key.startswith(old):
            name = key.removeprefix(old)
            return f"model.space.{name}" if name in ("mean", "std") else f"model.{name}"
    return key


def _space(config: dict) -> dict:
    data, pixels = config["data"], config["pixels"]
    shape = {"channels": data["channels"], "size": data["image_size"], "sigma_data": pixels.get("sigma_data", 1.0)}
    if pixels["mean"] is None:
        return {"_target_": "diffusion_lab.spaces.pixels.Standardised", **shape}
    return {"_target_": "diffusion_lab.spaces.pixels.Symmetric", **shape, "mean": pixels["mean"], "std": pixels["std"]}


def _metrics(config: dict) -> dict:
    """The metrics, whose functions were chosen by the program."""
    metrics = config["metrics"]
    batches = metrics["protocol"] == "reference"
    settings = {key: value for key, value in metrics["kid"].items() if not key.startswith("_")}
    figures = {
        "errors": {"_target_": f"{METRICS}.errors.measure_errors"},
        "bits": {
            "_target_": f"{METRICS}.likelihood.measure_bits",
            "calls": metrics.get("vlb_calls"),
            "steps": config["variance"]["steps"],
            "variance": config["sampler"].get("variance"),
        },
        "labels": {"_target_": f"{METRICS}.labels.measure_labels", "classifier": metrics.get("classifier")},
        "kid": {"_target_": f"{METRICS}.quality.measure_kid{'_per_batch' if batches else ''}", **settings},
        "fid": {"_target_": f"{METRICS}.quality.measure_fid"},
    }
    figures = {name: {**node, "_partial_": True} for name, node in figures.items()}
    return {**{key: value for key, value in metrics.items() if key != "kid"}, "figures": figures}
