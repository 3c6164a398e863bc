"""The names of the runtimes, and which extras are installed; found without importing any of them."""

import importlib.util

from fst.errors import UserError

BACKENDS = ("torch", "compile", "openvino", "onnxruntime")
EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}
_PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "int8": ("nncf",),
    "search": ("optuna",),
}


def installed_backends() -> list[str]:
    """Those of `BACKENDS` whose packages are installed."""
    return [name for name in BACKENDS if name not in EXTRAS or not missing_packages(EXTRAS[name])]


def check_backend(name: str) -> None:
    """Raises a `UserError` unless `name` is one of `BACKENDS` and its packages are installed."""
    if name not in BACKENDS:
        raise UserError(f"no backend '{name}'; there are {', '.join(BACKENDS)}")
    if name in EXTRAS:
        require(EXTRAS[name])


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    return [name for name in _PACKAGES[extra] if importlib.util.find_spec(name) is None]


def require(extra: str) -> None:
    """Raises a `UserError` with the command that installs an extra, unless it is installed."""
    if missing := missing_packages(extra):
        raise UserError(f"{extra} needs {', '.join(missing)}: pip install 'fast-style-transfer[{extra}]'")
