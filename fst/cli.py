"""The command `fst`: finds the sub-command, and turns errors into one line and an exit status."""

import argparse
import importlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from fst import __version__
from fst.commands import bench, evaluate, export, import_, styles, stylize, web
from fst.errors import RunError, UserError, find_cause, one_line
from fst.signals import Interrupted

_HYDRA = ("train", "optimize", "compare", "search")
_WITH_FLAGS = (stylize, web, styles, import_, evaluate, export, bench)
_COMMANDS = (*_HYDRA, *(command.__name__.rpartition(".")[2].rstrip("_") for command in _WITH_FLAGS))
_EPILOG = """
train, optimize, compare and search are Hydra applications: fst train --help lists their keys, fst train … --cfg job
prints the configuration, and eval "$(fst -sc install=bash)" makes the shell complete keys and values.
--debug shows the whole traceback of an error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (failed at run time), 2 (a mistake in the command)."""
    _set_up_output()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _flushed_output():
            return _run(arguments)
    except Interrupted as stop:
        return stop.exit_status
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fst styles | head`
        return 0
    except Exception as error:
        if debug:
            raise
        cause = find_cause(error)
        unexpected = one_line(f"{type(error).__name__}: {error}", 250) + " (--debug shows where)"
        print(f"fst: {one_line(cause) if cause else unexpected}", file=sys.stderr)
        return cause.exit_status if cause else 1


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        return _complete(arguments)
    if arguments and arguments[0] in _HYDRA:
        return _hydra_application(*arguments)
    options = _parser().parse_args(arguments)
    return options.run(options)


@contextmanager
def _flushed_output() -> Iterator[None]:
    """Writes at the end what was printed; if that fails, Python does not try it again when it ends."""
    try:
        yield
    finally:
        try:
            if sys.stdout is not None:  # closed by whoever started this process
                sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise RunError(f"standard output: cannot be written: {error.strerror}") from error


class _LogRecord(logging.LogRecord):
    """A log record that is safe to print: file names in it may hold control characters."""

    def getMessage(self) -> str:  # noqa: N802 (logging's)
        return one_line(super().getMessage(), None)


def _set_up_output() -> None:
    """Write characters that the terminal cannot show, or that act on it, as escapes; leave out what needs no action."""
    if sys.stderr is None:  # closed: messages would be printed to standard output
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (until the process ends)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's
            stream.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(_LogRecord)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks about odd metadata; damage is an error


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that names the command's help."""

    def parse_known_args(self, *arguments: Any, **keywords: Any) -> Any:
        options, unknown = super().parse_known_args(*arguments, **keywords)
        if unknown:  # argparse would name `fst` instead of this command
            self.error(f"unknown: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        if flag := re.fullmatch(r"argument (?:-\w/)?(--[\w-]+): expected one argument", message):
            message += f"; where that begins with -, write {flag[1]}=…"
        raise UserError(f"{one_line(message)}; see {self.prog} --help")


def _complete(arguments: list[str]) -> int:
    """Shell completion: sub-commands are completed here, keys and values by Hydra."""
    if not any(argument.startswith("query=") for argument in arguments):
        return _hydra_application("train", *arguments)  # the installation, the same for all
    program, *words = os.environ.get("COMP_LINE", "").split(" ", 2)
    if len(words) < 2:
        print(" ".join(_COMMANDS))
    elif words[0] in _HYDRA:
        os.environ["COMP_LINE"] = f"{program} {words[1]}"
        return _hydra_application(words[0], *arguments)
    return 0  # the shell completes file names


def _hydra_application(command: str, *arguments: str) -> int:
    importlib.import_module(f"fst.commands.{command}").main(list(arguments))  # on demand: Hydra takes long to load
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("fst", description="Train style transfer networks and use them.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"fst {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a style: fst train style.image=PAINTING data.root=PHOTOS")
    commands.add_parser("optimize", help="the slow method: fst optimize content=PHOTO style.image=PAINTING")
    commands.add_parser("compare", help="layer sets side by side: fst compare study=recipes content=… style.image=…")
    commands.add_parser("search", help="find layers and weights: fst search style.image=PAINTING photos=FOLDER")
    for command in _WITH_FLAGS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
