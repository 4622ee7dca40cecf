"""Networks know nothing of diffusion: f(noisy, level, label) -> an image of the same size, or several."""
