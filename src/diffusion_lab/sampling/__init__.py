"""Drawing images: pure functions over a Denoiser."""
