"""Training a denoiser with Lightning."""
