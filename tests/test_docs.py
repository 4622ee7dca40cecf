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


def test_the_table_of_choices_has_every_choice():
    groups = [folder for folder in (PROJECT / "conf").rglob("*") if folder.is_dir()]
    table = (PROJECT / "docs/choices.md").read_text()
    for group in groups:
        name = group.relative_to(PROJECT / "conf").as_posix()
        if name.startswith(("hydra", "benchmark")):
            continue
        row = next((line for line in table.splitlines() if f"`{name}`" in line), "")
        choices = {file.stem for file in group.glob("*.yaml")} - {"_common", "as_trained"}
        assert not {choice for choice in choices if f"`{choice}`" not in row}, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_what_is_to_be_typed_has_its_brackets_in_quotes(document):
    """As zsh wants it."""
    typed = [line.partition(" #")[0] for line in document.read_text().splitlines() if re.match(r"    .*\w=", line)]
    assert not [line for line in typed if "=[" in re.sub(r"\"[^\"]*\"|'[^']*'", "", line) and " = " not in line]
