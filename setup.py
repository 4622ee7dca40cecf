"""The wheel carries conf/ inside the package, so that commands work without a checkout; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConf(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("conf", Path(self.build_lib, "diffusion_lab", "conf"), dirs_exist_ok=True)


setup(cmdclass={"build_py": WithConf})
