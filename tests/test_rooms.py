"""The package is read from the bottom up: what stands higher imports only from below, and nothing in a circle."""

import ast

from tests.conftest import PROJECT

PACKAGE = PROJECT / "src/diffusion_lab"
ROOMS = (  # from the bottom up; each imports from those before it, and within itself
    *(
        "errors",
        "ranks",
        "wording",
        "processor",
        "files",
        "conf_path",
        "figures",
        "sizes",
        "hardware",
        "parts",
        "conditions",
    ),
    *("process", "data", "spaces", "networks", "denoiser", "classifier", "autoencoder"),
    *("older_checkpoints", "safetensors_files", "averages"),
    *(
        "checkpoints",
        "sampling",
        "pretrained",
        "metrics",
        "training",
        "experiments",
        "tasks",
        "reports",
        "judging",
        "export",
    ),
    *("commands", "benchmarks", "api"),
    *("torture", "programs"),
    "__main__",
)


def imports() -> set[tuple[str, str]]:
    """(module, the module that it imports) within the package, imports inside functions too."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffusion_lab"):
                base = node.module.removeprefix("diffusion_lab").removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".removeprefix(".")
                    path = PACKAGE / inner.replace(".", "/")
                    found.add((name, inner if path.with_suffix(".py").is_file() or path.is_dir() else base))
    return found


def test_every_module_has_its_room():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} == set(ROOMS)


def test_imports_run_one_way():
    upward = [
        (user, used)
        for user, used in imports()
        if user != "__init__" and ROOMS.index(user.split(".")[0]) < ROOMS.index(used.split(".")[0])
    ]
    assert not upward


def test_no_module_is_imported_by_what_it_imports():
    uses = {}
    for user, used in imports():
        uses.setdefault(user, set()).add(used)

    def reached(module: str, seen: set[str]) -> set[str]:
        for used in uses.get(module, set()) - seen:
            seen |= {used}
            reached(used, seen)
        return seen

    assert not [module for module in uses if module in reached(module, set())]
