"""The files of ONNX Runtime Web that the page loads: from a CDN, or from a local copy of the npm package."""

import hashlib
import tarfile
import zlib
from base64 import b64encode
from pathlib import Path

from fst.errors import UserError
from fst.files import refusal_to_read

VERSION = "1.30.0"
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
PACK = f"npm pack onnxruntime-web@{VERSION}"

# What each build is made of, a script and a WebAssembly module, with the SHA-384 of the files in the npm package:
# a browser loads no other. `jspi` needs a browser that can suspend WebAssembly; `asyncify` does not and is larger.
BUILDS = {
    "wasm": {
        "ort.wasm.bundle.min.mjs": "PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
        "ort-wasm-simd-threaded.wasm": "vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    },
    "jspi": {
        "ort.jspi.bundle.min.mjs": "9RUgRCKe1ziB7Sof69RRpoybxSmnC67IsfHFamx/k+9m39GbvHvw5Sets/Xpsro+",
        "ort-wasm-simd-threaded.jspi.wasm": "bMP/XSpH5FjIIaVnUc1eR3cDsGZGdO1ZPjcHGEtvMwOgZZFcOEN8VrGooR81HSFO",
    },
    "asyncify": {
        "ort.webgpu.bundle.min.mjs": "1ntMeyj+z5diX6vBR5h+zlJBPc4iNvhCxE6nlammh8daBYcLBZkzrwDkuJjhwI+f",
        "ort-wasm-simd-threaded.asyncify.wasm": "EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
    },
}


def describe_runtime(base: str) -> dict[str, object]:
    """Where the page finds the runtime, for its `site.json`.

    Args:
        base: folder of the files, ending in a slash; relative to the page, or `CDN`.
    """
    files = {
        build: [{"url": base + name, "integrity": f"sha384-{digest}"} for name, digest in parts.items()]
        for build, parts in BUILDS.items()
    }
    return {"version": VERSION, "local": base != CDN, "files": files}


def read_runtime(package: Path) -> dict[str, bytes]:
    """The runtime's files from a local copy of the npm package, by name.

    Args:
        package: the `.tgz` that `npm pack` writes, the folder in it, or that folder's `dist`.

    Raises:
        UserError: no such file or folder, a file is missing, or it is not the one of version `VERSION`.
    """
    advice = f"get it by: {PACK}"
    if not package.exists():
        raise UserError(f"--runtime {package}: no such file or folder; {advice}")
    names = [name for parts in BUILDS.values() for name in parts]
    try:
        found = _read_packed(package, names) if package.is_file() else _read_unpacked(package, names)
    except (OSError, KeyError, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"--runtime {package}: not the npm package onnxruntime-web, or damaged; {advice}") from error
    for name, digest in (item for parts in BUILDS.values() for item in parts.items()):
        if b64encode(hashlib.sha384(found[name]).digest()).decode() != digest:
            raise UserError(f"--runtime {package}: {name} is not that of version {VERSION}; {advice}")
    return found


def _read_packed(archive: Path, names: list[str]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(archive) as package:
        for member in package:  # in the order of the file, which is compressed as a whole
            name = member.name.removeprefix("package/dist/")
            if name in names and (file := package.extractfile(member)):
                found[name] = file.read()
    return {name: found[name] for name in names}


def _read_unpacked(folder: Path, names: list[str]) -> dict[str, bytes]:
    inner = folder / "dist" if (folder / "dist").is_dir() else folder
    if any(refusal_to_read(inner / name) for name in names):
        raise KeyError
    return {name: (inner / name).read_bytes() for name in names}
