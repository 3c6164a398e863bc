import tarfile
from pathlib import Path

import pytest

from fst.errors import UserError
from fst.inference.web.runtime import BUILDS, PACK, read_runtime

NAMES = [name for parts in BUILDS.values() for name in parts]


def test_the_package_of_npm_has_the_pinned_hashes(runtime: Path, tmp_path: Path) -> None:
    """Also the CDN's: it serves the files of the package as they are."""
    packed = read_runtime(runtime)
    assert list(packed) == NAMES
    with tarfile.open(runtime) as package:
        package.extractall(tmp_path, filter="data")
    assert read_runtime(tmp_path / "package") == packed
    assert read_runtime(tmp_path / "package" / "dist") == packed


def test_what_is_not_the_package_is_refused_with_the_command_that_gets_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tgz").write_text("no archive")
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES:
        (other / name).write_text("of another version")
    with tarfile.open(tmp_path / "foreign.tgz", "w:gz") as archive:
        archive.add(other / NAMES[0], "package/package.json")
    cases = {"missing": "no such file", "empty": "not the npm", "text.tgz": "not the npm", "foreign.tgz": "not the npm"}
    for name, reason in (cases | {"other": "is not that of version"}).items():
        with pytest.raises(UserError, match=reason) as caught:
            read_runtime(tmp_path / name)
        assert PACK in str(caught.value)
