"""How near an autoencoder's images come to those that it was given."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from diffusion_lab.figures import L1, PSNR, RECONSTRUCTION_KID, SSIM
from diffusion_lab.metrics.features import features_of
from diffusion_lab.metrics.quality import kid

FEWEST = 4  # images: a KID takes as many


@torch.inference_mode()
def reconstruction_figures(
    remake: Callable[[Tensor], Tensor], batches: Callable[[], Iterable[Tensor]], extractor: nn.Module, seed: int, autocast
) -> dict:
    """`psnr` in dB, `ssim` (torchmetrics': a Gaussian window, without the borders that it does not fit into) and `l1`, each
    a mean over all images, and `reconstruction_kid` between them and what was made.

    Args:
        remake: uint8 pixels (B, C, H, W) to values from 0 to 1.
        batches: the images, uint8.
    """
    found, made = {"psnr": [], "ssim": [], "l1": []}, []
    for pixels in batches():
        with autocast:
            images = remake(pixels).float()
        real, each = pixels / 255, {"data_range": 1.0, "reduction": "none"}
        found["psnr"].append(peak_signal_noise_ratio(images, real, dim=(1, 2, 3), **each))
        found["ssim"].append(structural_similarity_index_measure(images, real, **each))
        found["l1"].append((images - real).abs().flatten(1).mean(1))
        made.append((images * 255).round().to(torch.uint8).cpu())
    results = {key: torch.cat(values).double().mean().item() for key, values in found.items()}
    real, remade = features_of(batches(), extractor), features_of(made, extractor)
    mean, std = kid(real, remade, seed)
    return {
        **results,
        "reconstruction_kid": mean,
        "reconstruction_kid_std": std,
        "real_images": len(real),
        "feature_extractor": extractor.identity,
        "extractor_resolution": extractor.resolution,
        "figures": {figure.key: figure.plain() for figure in (RECONSTRUCTION_KID, PSNR, SSIM, L1)},
    }
