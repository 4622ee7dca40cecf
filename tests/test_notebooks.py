"""Each notebook runs from top to bottom in an empty folder, and is committed with its outputs: `make notebooks`."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
SAID = {"reading_a_sweep": "over 4 pairs (loss)", "denoising_ladder": "PSNR at sigma = 0.5"}


@pytest.mark.ci
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_runs_from_top_to_bottom(file, tmp_path):
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not any(output.output_type == "stream" and output.name == "stderr" for output in outputs)
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert SAID[file.stem] in said


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_reads_on_a_code_host(file):
    """With its pictures, in order, small, and without a word about the machine that it ran on."""
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert file.stat().st_size < 1_200_000
    text = re.sub(r'"image/png": "[^"]*"', "", file.read_text())
    assert not re.search(r"/(home|root|tmp|work|Users|opt)/", text)
