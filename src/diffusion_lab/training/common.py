"""Random numbers that the processes of a training have in common."""

import torch


class Common:
    """A context in which PyTorch's own random numbers are those of a stream of `seed`, which goes on where it was left;
    after it they are as if nothing had been drawn."""

    def __init__(self, seed: int, device: torch.device):
        index = device.index if device.index is not None else torch.cuda.current_device() if device.type == "cuda" else None
        self.generator = torch.default_generator if index is None else torch.cuda.default_generators[index]
        self.state = torch.Generator(device).manual_seed(seed).get_state()

    def __enter__(self) -> None:
        self.own = self.generator.get_state()
        self.generator.set_state(self.state)

    def __exit__(self, *_) -> None:
        self.state = self.generator.get_state()
        self.generator.set_state(self.own)
