"""What each entry point does once Hydra has composed its config. Torch is imported when the config is known to be good."""
