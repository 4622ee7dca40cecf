"""The forward process (how an image dissolves into noise) and what a network learns from it."""
