"""Stopping on a signal without losing work: it is noted, and the loop stops between two steps."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """A run was stopped by a signal and its checkpoint written; at step 0 there is none."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} at step {step}")
        self.signal, self.step = signal_number, step
        self.exit_status = 128 + signal_number  # the shell's convention

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (self.signal, self.step)  # from the processes of a sweep


class StopRequest:
    """A context manager that stores the first SIGINT or SIGTERM in `signal`; a second one has its usual effect.

    Python handles signals in the main thread only. In another thread this does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore_handlers()

    def listen(self) -> None:
        """Install the handlers again, in case a library has replaced them."""
        if self.signal is None:
            for number in self._previous:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
