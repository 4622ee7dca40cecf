"""How good a denoiser is: denoising errors, KID and FID."""
