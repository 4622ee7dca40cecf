"""Hydra search path plugin: DIFFUSION_LAB_CONF names folders laid out like conf/, with choices of one's own.

The folder in which such a one lies is made importable, so that a package beside it can hold what the choices name.
"""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from diffusion_lab.conf_path import own_folders


class OwnConf(SearchPathPlugin):
    """Adds those folders behind conf/."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for path in own_folders():
            search_path.append("own", f"file://{path}")
            if str(path.parent) not in sys.path:
                sys.path.append(str(path.parent))
