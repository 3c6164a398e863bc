"""The runs of a sweep (`-m`): each, perhaps in a process of its own, notes how it ended; one table shows them all."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fst.files import write_atomically, write_errors_of

STOPPED = "stopped"  # begins the result of a run that a signal has stopped
_RUNS = "[0-9]*.json"  # without the hidden files that are being written


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        text: printed at its end.
        result: for the table: the file that was made, or why there is none.
        scores: for the table; the first is what a sweep minimises. Empty if there are none, or if the run failed.
    """

    text: str
    result: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def objective(self) -> float | None:
        return next(iter(self.scores.values()), None)


class Notes:
    """What the runs of a sweep have noted, in a folder that their processes share. A context manager."""

    def __enter__(self) -> "Notes":
        with write_errors_of(here := Path.cwd()):  # seen by the nodes of a cluster, too
            self._folder = Path(tempfile.mkdtemp(prefix=".sweep-", dir=here))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, number: int, overrides: Sequence[str], outcome: Outcome) -> None:
        """Note how run `number` ended, and what it was asked for."""
        document = json.dumps({"overrides": list(overrides), **asdict(outcome)})
        write_atomically(self._folder / f"{number:06}.json", document.encode())

    def is_stopped(self) -> bool:
        """Whether a run was stopped by a signal: then no other begins."""
        return any(json.loads(path.read_text())["result"].startswith(STOPPED) for path in self._folder.glob(_RUNS))

    def table(self) -> str:
        """The runs, the lowest objective first, with what differs between them; "" if none has scores."""
        rows = [json.loads(path.read_text()) for path in sorted(self._folder.glob(_RUNS))]
        names = list(next((row["scores"] for row in rows if row["scores"]), {}))
        if not names:
            return ""
        rows.sort(key=lambda row: row["scores"].get(names[0], float("inf")))
        asked = [dict(override.split("=", 1) for override in row["overrides"] if "=" in override) for row in rows]
        differ = [key for key in asked[0] if len({values.get(key) for values in asked}) > 1]
        lines = [[*names, *differ, "result"]]
        for row, values in zip(rows, asked, strict=True):
            scores = [f"{row['scores'][name]:.4f}" if name in row["scores"] else "-" for name in names]
            lines.append([*scores, *(values.get(key, "") for key in differ), row["result"]])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join(padded)
