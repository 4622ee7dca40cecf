"""What some tests need that not every machine has."""

import pytest

from diffusion_lab.hardware import has_compiler
from tests.conftest import PROJECT

SHARED_DATA = PROJECT.parent / "shared" / "data"

needs_shared_data = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"REAL PHOTOGRAPHS NOT TESTED: {SHARED_DATA} is absent"
)
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="torch.compile NOT TESTED: there is no C++ compiler")
