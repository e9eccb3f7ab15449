"""Ctrl-C and a polite kill end training after the step at hand, not in its midst."""

import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """Notes SIGINT and SIGTERM while it is entered; the trainer looks at `signal`.

    A second Ctrl-C acts at once, as without it. Outside the main thread, where Python
    allows no handlers, it notes nothing.

    Attributes:
      signal: number of the signal that came, or None.
    """

    def __init__(self):
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.signal is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
