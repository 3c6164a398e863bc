"""The floors of `CONTRIBUTING.md`: no file imports from a floor above its own, and no two files import each other."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("errors", "files", "hardware", "resources", "signals"),
    ("motion", "networks", "images", "pictures", "metadata"),
    (
        "hydra_app",
        "menu",
        "schemas",
        "rules",
        "values",
        "typed",
        "checkpoints",
        "style_info",
        "style_file",
        "style_import",
        "sweep",
        "overrides",
        "perceptual",
    ),
    ("training", "inference"),
    ("study",),
    ("cli", "commands"),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules() -> dict[str, Path]:
    """Every file of the package but the package's own, by its dotted name below `fst`."""
    paths = (path.relative_to(ROOT / "fst").with_suffix("") for path in (ROOT / "fst").rglob("*.py"))
    return {".".join(path.parts): path for path in paths if path.name != "__init__"}


def imports(name: str, path: Path) -> Iterator[str]:
    """What a file imports from `fst`, also within functions and for types only."""
    known = modules()
    for node in ast.walk(ast.parse((ROOT / "fst" / path).with_suffix(".py").read_text())):
        found: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        for imported in found:
            below = imported.removeprefix("fst.")
            if imported.startswith("fst.") and below in known and below != name:
                yield below


def test_every_file_has_a_floor() -> None:
    assert {name.split(".")[0] for name in modules()} == FLOOR.keys()


def test_no_file_imports_from_above() -> None:
    upwards = [
        (name, imported)
        for name, path in modules().items()
        for imported in imports(name, path)
        if FLOOR[imported.split(".")[0]] > FLOOR[name.split(".")[0]]
    ]
    assert upwards == []


def test_no_two_wings_import_each_other() -> None:
    crossing = [
        (name, imported)
        for name, path in modules().items()
        for imported in imports(name, path)
        if {name.split(".")[0], imported.split(".")[0]} == {"training", "inference"}
    ]
    assert crossing == []


def test_there_is_no_circle() -> None:
    graph = {name: set(imports(name, path)) for name, path in modules().items()}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(graph)  # raises CycleError on a circle
