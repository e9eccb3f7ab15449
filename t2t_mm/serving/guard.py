"""Stands before everything: bounds what a request may bring, adds headers to answers.

An ASGI application around another one. A body is read whole, up to the limit and within
the deadline, before anything behind it (our API, Gradio's uploads) sees a byte of it.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from t2t_mm.serving.limits import (
    FULL,
    MALFORMED,
    TOO_LARGE,
    TOO_SLOW,
    UNKNOWN,
    Limits,
    Refused,
)
from t2t_mm.serving.uploads import make_room

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_LOG = logging.getLogger(__name__)

# The page may load nothing from elsewhere and may be framed by nobody else. Gradio's
# page has inline scripts and styles, and makes workers for recording from blobs.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
    "blob:; worker-src 'self' blob:; frame-ancestors 'self'; base-uri 'self'; "
    "form-action 'self'; object-src 'none'"
)
# Gradio answers many more addresses: for its authors' tools, for pages on other
# servers, for whatever a link names. Our page and the API need these alone.
_OF_GRADIO = "/gradio_api/"
_UPLOAD = "/gradio_api/upload"
_SERVED = re.compile(
    r"/(|api(/.*)?|healthz|openapi\.json|config/?|theme\.css|favicon\.ico|robots\.txt"
    r"|manifest\.json|pwa_icon(/.*)?|(assets|static|svelte)/.*"
    r"|gradio_api/(queue/(join|data)|upload|upload_progress|file=(?!https?:).*"
    r"|heartbeat/.*|reset/?|cancel|startup-events|app_id/?))",
    re.DOTALL | re.IGNORECASE,
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """Lets requests through that are small and quick enough, to addresses we know.

    Args:
      application: what answers them.
      limits: how much may come.
      folder: where Gradio puts uploads.
    """

    def __init__(self, application: Application, limits: Limits, folder: str):
        self._application = application
        self._limits = limits
        self._folder = folder
        self._held_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        state = _Sending(send)
        body = bytearray()
        try:
            _check_address(scope)
            await self._read(scope, receive, body)
            if scope["path"] == _UPLOAD:
                most = self._limits.max_kept_bytes - len(body)
                await asyncio.to_thread(make_room, self._folder, most)
            await self._application(scope, _replayed(bytes(body), receive), state)
        except Refused as error:
            await state.refuse(error.status, str(error))
        # A fault of ours or of a library must not tell a stranger how we look inside.
        except Exception as error:
            if scope["path"].startswith(_OF_GRADIO):
                shown = repr(error)[:200]
                _LOG.warning("%s %s: %s", scope["method"], scope["path"], shown)
            else:
                _LOG.exception("%s %s failed", scope["method"], scope["path"])
            state.has_failed = True
        finally:
            self._held_bytes -= len(body)
        if state.has_failed:
            await self._refuse_failed(scope, state)

    async def _refuse_failed(self, scope: Message, state: "_Sending") -> None:
        if scope["path"].startswith(_OF_GRADIO):
            # Gradio raises whatever comes of numbers that its page never sends.
            await state.refuse(
                MALFORMED,
                "The page's own address cannot do anything with this request; expected "
                "what the page sends. Reload the page.",
            )
        else:
            await state.refuse(
                500,
                "The server made a mistake with this request; expected an answer. "
                "Its log says more; try another request.",
            )

    def _hold(self, part: bytes, body: bytearray) -> None:
        body += part
        self._held_bytes += len(part)
        if self._held_bytes > self._limits.max_held_bytes:
            raise Refused(
                FULL,
                f"Requests of {self._held_bytes / 2**20:.0f} MB are being worked on; "
                f"expected at most {self._limits.max_held_bytes / 2**20:.0f} MB. "
                "Try again in a moment.",
            )

    async def _read(self, scope: Message, receive: Receive, body: bytearray) -> None:
        """Reads the whole body.

        Raises:
          Refused: if it is too large, or does not come in time.
        """
        most = self._limits.max_request_bytes
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:18]) > most:
            raise self._too_large(announced.decode()[:18])
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        break
                    self._hold(message.get("body", b""), body)
                    if len(body) > most:
                        raise self._too_large(f"more than {most}")
                    if not message.get("more_body"):
                        break
        except TimeoutError as error:
            raise Refused(
                TOO_SLOW,
                f"{len(body)} bytes of a request came in "
                f"{self._limits.deadline_seconds:g} seconds; expected all of it. Send "
                "it faster, or a smaller one.",
            ) from error

    def _too_large(self, size: str) -> Refused:
        return Refused(
            TOO_LARGE,
            f"A request of {size} bytes came; expected at most "
            f"{self._limits.max_request_bytes}. Send less at once.",
        )


def _check_address(scope: Message) -> None:
    if not _SERVED.fullmatch(scope["path"]):
        shown = scope["path"][:120].encode("utf-8", "replace").decode()
        raise Refused(
            UNKNOWN,
            f"{scope['method']} {shown} is not served; expected / for the page, or one "
            "of the addresses that /api lists. Correct the address.",
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


class _Sending:
    """Passes an answer on, with our headers; knows whether it has begun.

    What is sent with status 500 is kept back: `Guard` says it in our words.

    Attributes:
      has_failed: whether there was a fault.
    """

    def __init__(self, send: Send):
        self._send = send
        self._has_begun = False
        self.has_failed = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 500:
                self.has_failed = True
        if self.has_failed:
            return
        if message["type"] == "http.response.start":
            self._has_begun = True
            names = {name.lower() for name, _ in HEADERS}
            kept = [h for h in message["headers"] if bytes(h[0]).lower() not in names]
            message = {**message, "headers": [*kept, *HEADERS]}
        await self._send(message)

    async def refuse(self, status: int, text: str) -> None:
        """Answers with an error, unless an answer has begun."""
        if self._has_begun:
            return
        body = json.dumps({"error": text}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        self._has_begun = True
        start = {"status": status, "headers": [*headers, *HEADERS]}
        await self._send({"type": "http.response.start", **start})
        await self._send({"type": "http.response.body", "body": body})
