"""Page and API on a port: starts, warns, stops.

serve(run, Limits(), host="127.0.0.1", port=7860)
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Read by gradio and huggingface_hub when they are imported, for the page only.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr
import uvicorn

from t2t_mm.inference import Run
from t2t_mm.serving.api import make_api
from t2t_mm.serving.desk import Desk
from t2t_mm.serving.gallery import Shelf, filled_shelf
from t2t_mm.serving.guard import Guard
from t2t_mm.serving.limits import FULL, Limits, Refused
from t2t_mm.serving.page import TEMPLATES, make_page
from t2t_mm.serving.service import Service

# Open connections; a page holds one or two.
_MOST_CONNECTIONS = 256
_PATIENCE_SECONDS = 5
_UPLOADS = "uploads"
# Of Gradio's own frame, which `css_paths` do not reach.
_FRAME = (
    "<style>.main.app { box-sizing: border-box; max-width: 1180px !important; } "
    "@media (max-width: 640px) { .main.app { padding: 12px !important; } }</style>"
)
_LOG = logging.getLogger(__name__)


def serve(run: Run, limits: Limits, *, host: str, port: int) -> None:
    """Serves a run until Ctrl-C or SIGTERM.

    Args:
      run: a loaded run.
      limits: what visitors may ask.
      host, port: where to listen; port 0 takes a free one.

    Raises:
      OSError: if it cannot listen there.
    """
    with _listening(host, port) as listener:
        service, desk = Service(run, limits), Desk(limits)
        with tempfile.TemporaryDirectory(prefix="t2t_mm-serve-") as folder:
            os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, _UPLOADS)
            shelf = filled_shelf(service)
            application = make_application(service, desk, shelf, folder)
            listener.listen()  # whoever follows the address is not refused
            _announce(host, listener.getsockname()[1])
            warming = threading.Thread(
                target=_warm_up, args=(service, desk, shelf), daemon=True
            )
            desk.is_warm = False
            warming.start()
            try:
                _run(application, listener)
            finally:
                desk.close()
    print("Stopped.", flush=True)


def _warm_up(service: Service, desk: Desk, shelf: Shelf) -> None:
    """Answers the gallery, one problem after the other, while visitors may come."""
    print("The network warms up; first answers take longer.", flush=True)
    start = time.monotonic()

    def ask(work: Callable[[], Any]) -> Any:
        while True:
            try:
                return desk.ask(work, has_deadline=False)
            except Refused as error:
                if error.status != FULL or not desk.is_open:
                    raise
                time.sleep(1)  # visitors first

    try:
        shelf.answer_all(service, ask)
    except Refused:
        return  # the server stops
    except Exception:
        # Visitors may still get answers; what is wrong stands in the log.
        _LOG.exception("the gallery cannot be answered")
        return
    finally:
        desk.is_warm = True
    print(f"Warm after {time.monotonic() - start:.0f} s.", flush=True)


def make_application(service: Service, desk: Desk, shelf: Shelf, folder: str) -> Any:
    """Gives page and API as one ASGI application, behind the guard.

    Args:
      service, desk, shelf: as `page.make_page`.
      folder: an empty one for the files of examples.
    """

    # Without a running event loop, Gradio opens one for each lock and leaves it open.
    async def made() -> Any:
        return _with_page(service, desk, shelf, folder)

    uploads = os.path.join(folder, _UPLOADS)
    return Guard(asyncio.run(made()), service.limits, uploads)


def _with_page(service: Service, desk: Desk, shelf: Shelf, folder: str) -> Any:
    api = make_api(service, desk)
    blocks = make_page(service, desk, shelf, folder)
    return gr.mount_gradio_app(
        api,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=service.limits.max_upload_bytes,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        # Fonts of the visitor's own machine: Gradio's usual ones come from elsewhere.
        theme=gr.themes.Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        head=_FRAME,
        css_paths=[os.path.join(TEMPLATES, "page.css")],
    )


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Takes the port before the work begins, so that a taken one is told at once."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except (OSError, UnicodeError) as error:
        raise OSError(
            f"--host={host} came ({error}); expected a name or an address of this "
            "machine. Try 127.0.0.1."
        ) from error
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise OSError(
                f"Cannot listen on {host}:{port} ({error.strerror}); expected a free "
                "port of this machine. Choose another --port, or 0 for any."
            ) from error
        yield listener


def is_loopback(host: str) -> bool:
    """Tells whether only this machine can reach an address.

    Example:
      >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
      (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _announce(host: str, port: int) -> None:
    if not is_loopback(host):
        print(
            f"Warning: everybody who can reach {host} can use this server; it asks for "
            "no password. Leave --host out to keep it to this machine.",
            file=sys.stderr,
        )
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    shown = f"[{shown}]" if ":" in shown else shown
    print(f"Page  http://{shown}:{port}/", flush=True)
    print(f"API   http://{shown}:{port}/api    Ctrl-C stops.", flush=True)


def _run(application: Any, listener: socket.socket) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=10,
            # Pages hold a connection open as long as they are shown.
            timeout_graceful_shutdown=_PATIENCE_SECONDS,
        )
    )
    # uvicorn stops politely, then raises the signal once more: for this.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run(sockets=[listener])
