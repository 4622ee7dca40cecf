import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from diffusion_lab.commands.composition import prepare_hydra
from tests.conftest import PROJECT


@pytest.fixture
def within_benchmark():
    """The state that Hydra is in while benchmark.py runs."""
    prepare_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        HydraConfig.instance().set_config(compose("benchmark", return_hydra_config=True))
        yield
