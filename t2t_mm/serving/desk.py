"""A bounded queue with one worker: what is asked waits, is answered, or is turned away.

One worker, since TensorFlow uses every core for one request already. The worker cannot
be stopped in the middle of a request, so `limits` bounds what one may ask for; what
still waits when its time is up is dropped unworked.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from t2t_mm.serving.limits import FULL, LATE, Limits, Refused

Result = TypeVar("Result")
COLD = 4
_LOG = logging.getLogger(__name__)


class Desk:
    """Does one piece of work after the other, in a thread of its own.

    Args:
      limits: how many wait, and how long.

    Attributes:
      done, refused: how many pieces of work were done, and turned away.
      is_warm: false while the network compiles what most visitors need; then a request
        may take `COLD` times as long, since it may have to wait for that.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._waiting: queue.Queue = queue.Queue(limits.max_queue)
        self._is_open = True
        self._lock = threading.Lock()
        self.is_warm = True
        self.done = 0
        self.refused = 0
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it takes work."""
        return self._is_open

    @property
    def num_waiting(self) -> int:
        """How many wait now."""
        return self._waiting.qsize()

    def ask(self, work: Callable[[], Result], *, has_deadline: bool = True) -> Result:
        """Waits for the result of some work; for threads.

        Args:
          work: is called by the worker.
          has_deadline: false for what nobody waits for: it may take forever.

        Raises:
          Refused: 503 if the queue is full or closed, 504 if it took too long.
        """
        future, seconds = self._submit(work), self._patience_seconds()
        try:
            return future.result(seconds if has_deadline else None)
        except (FutureTimeout, CancelledError) as error:
            raise self._gave_up(future, seconds) from error

    async def asked(self, work: Callable[[], Result]) -> Result:
        """As `ask`, for the event loop."""
        future, seconds = self._submit(work), self._patience_seconds()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError as error:
            raise self._gave_up(future, seconds) from error

    def close(self, patience_seconds: float = 5.0) -> None:
        """Takes no more work, drops what waits, and waits a while for the rest."""
        with self._lock:
            self._is_open = False
        while True:
            try:
                future, _ = self._waiting.get_nowait()
            except queue.Empty:
                break
            if future.set_running_or_notify_cancel():
                future.set_exception(_stopping())
        self._thread.join(patience_seconds)

    def _submit(self, work: Callable[[], Result]) -> "Future[Result]":
        future: Future[Result] = Future()
        with self._lock:
            if not self._is_open:
                raise _stopping()
            try:
                self._waiting.put_nowait((future, work))
            except queue.Full as error:
                self.refused += 1
                raise Refused(
                    FULL,
                    f"{self._limits.max_queue} requests wait already, the most that "
                    "this server lets wait; expected a free place. Try again in a "
                    "moment.",
                ) from error
        return future

    def _patience_seconds(self) -> float:
        return self._limits.deadline_seconds * (1 if self.is_warm else COLD)

    def _gave_up(self, future: Future, seconds: float) -> Refused:
        future.cancel()
        with self._lock:
            self.refused += 1
        return Refused(
            LATE,
            f"The answer was not ready after {seconds:g} seconds, the most that a "
            "request may take. Ask for less at once, or try again when the server is "
            "less busy.",
        )

    def _work(self) -> None:
        while self._is_open:
            try:
                future, work = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            self._do(future, work)

    def _do(self, future: Future, work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        start = time.monotonic()
        try:
            future.set_result(work())
        # Whatever went wrong belongs to the one who asked; the worker lives on.
        except BaseException as error:
            future.set_exception(error)
        finally:
            with self._lock:
                self.done += 1
            _LOG.debug("%.3f s of work", time.monotonic() - start)


def _stopping() -> Refused:
    return Refused(
        FULL,
        "The server is stopping; expected a request before that. Send it again when "
        "the server is back.",
    )
