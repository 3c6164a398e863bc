"""Commands with a mistake in them, run in this process, and what they say."""

import contextlib
import io
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fst.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: the exit status.
        out, err: what it printed.
        left: files and folders it left behind in the current folder.
    """

    command: str
    status: int
    out: str
    err: str
    left: tuple[str, ...]

    def faults(self) -> list[str]:
        """What is wrong with the answer; none for a mistake that is refused in one clear line."""
        lines = self.err.strip().splitlines()
        found = {
            f"status {self.status}, not 2": self.status != 2,
            f"{len(lines)} lines": len(lines) != 1,
            "does not begin with 'fst: '": not self.err.startswith("fst: "),
            f"prints {self.out!r}": bool(self.out.strip()),
            f"longer than 300 characters ({len(self.err)})": len(self.err) > 300,
            f"left {', '.join(self.left)}": bool(self.left),
        }
        return [fault for fault, is_so in found.items() if is_so]


def run(command: str | Sequence[str]) -> Outcome:
    """`fst` with these arguments, in the current folder.

    Args:
        command: what follows `fst`, as typed in a shell or as a list.
    """
    arguments = shlex.split(command) if isinstance(command, str) else list(command)
    before = set(Path().iterdir())
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as stop:  # argparse
            status = stop.code if isinstance(stop.code, int) else 1
    logging.getLogger().handlers.clear()  # Hydra's, which would write to the closed buffers
    left = tuple(str(path) for path in sorted(set(Path().iterdir()) - before))
    return Outcome(shlex.join(arguments), status, out.getvalue(), err.getvalue(), left)


def run_without_torch(commands: Sequence[str | Sequence[str]]) -> list[Outcome]:
    """`run` for each, in the current folder, by a process in which importing torch is an error."""
    program = """
import json, sys
sys.modules["torch"] = None
from dataclasses import asdict
from tests.mistakes import run
print(json.dumps([asdict(run(command)) for command in json.load(sys.stdin)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    return [Outcome(**outcome | {"left": tuple(outcome["left"])}) for outcome in json.loads(done.stdout)]
