"""Where denoisers live: from pixels to the numbers that are noised, and back."""
