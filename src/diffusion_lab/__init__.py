"""Experiment pipeline for image diffusion models: compose, train, sample, score, compare."""
