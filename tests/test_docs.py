"""Links between the documents lead somewhere."""

import re

import pytest

from tests.conftest import PROJECT

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_relative_link_exists(document):
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    relative = [link for link in links if "://" not in link]
    assert not [link for link in relative if not (document.parent / link).exists()]
