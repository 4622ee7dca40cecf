"""Pretrained diffusers pipelines as Denoisers."""
