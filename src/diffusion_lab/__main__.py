"""`diffusion-lab COMMAND ...`, the same commands as the scripts in src/: python -m diffusion_lab works too."""

import sys

from diffusion_lab import programs

COMMANDS = {
    "train": "train, sample and score one experiment, or with -m a grid of them",
    "sample": "draw images from a checkpoint",
    "edit": "edit images with a checkpoint",
    "export": "a checkpoint as ONNX, safetensors, a torch program, diffusers, or a page in the browser",
    "evaluate": "score a checkpoint, or with -m score it in several ways",
    "sweep": "run a W&B sweep file here, without an account",
    "report": "put all runs under a folder side by side",
    "plot": "draw every noise schedule side by side",
    "dashboard": "compare the runs of a W&B project, in a workspace and a report",
    "torture": "kill it, damage its files, feed it nonsense, and count what falls short",
    "judge": "make real images worse in known steps, and see which metric notices",
    "benchmark": "measure how fast this project is on this machine",
}


def main() -> None:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        lines = [f"  {command:10} {text}" for command, text in COMMANDS.items()]
        print("\n".join(["usage: diffusion-lab COMMAND [key=value ...]", "", *lines, "", "diffusion-lab COMMAND --help"]))
    elif name not in COMMANDS:
        sys.exit(f"error: {name} is not a command; there are {', '.join(COMMANDS)}")
    else:
        sys.argv = [f"diffusion-lab {name}", *sys.argv[2:]]
        getattr(programs, name)()


if __name__ == "__main__":
    main()
