"""`fst` on the package index is another project: nobody may be sent there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "fast-style-transfer"


def test_extras_are_this_projects_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    assert project["scripts"] == {"fst": "fst.cli:main"}
    extras = project["optional-dependencies"]
    inner = [entry for entries in extras.values() for entry in entries if entry.startswith(NAME)]
    assert len(inner) == 3
    for entry in inner:
        assert set(entry.removeprefix(f"{NAME}[").removesuffix("]").split(",")) <= extras.keys()


def test_no_message_or_page_installs_another_project() -> None:
    suffixes = {".py", ".md", ".yaml", ".toml", ".html"}
    pages = [path for path in ROOT.rglob("*") if path.suffix in suffixes and path != Path(__file__).resolve()]
    pages = [path for path in pages if path.relative_to(ROOT).parts[0] in {"fst", "conf", "scripts", "README.md"}]
    commands = [
        (path.name, line.strip())
        for path in pages
        for line in path.read_text().splitlines()
        if re.search(r"(pip3?|uv|pipx) (install|add) .*|\bfst\[", line)
    ]
    assert commands
    for path, line in commands:
        assert NAME in line or "-e ." in line or "-e '." in line, (path, line)
