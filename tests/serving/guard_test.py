import asyncio
import dataclasses
import json
import os

import pytest

from t2t_mm.serving.guard import HEADERS, Guard
from t2t_mm.serving.limits import Limits

LIMITS = Limits(max_upload_megabytes=0.01, max_queue=1, deadline_seconds=300)


async def echo(scope, receive, send):
    """Answers with the body that came."""
    message = await receive()
    assert not message["more_body"]
    headers = [(b"Content-Security-Policy", b"none of mine"), (b"x-own", b"1")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": message["body"]})


async def fail(scope, receive, send):
    """An application with a fault."""
    raise ZeroDivisionError("secret of the house")


def visit(
    application,
    messages,
    headers=(),
    limits=LIMITS,
    pause=0.0,
    path="/api/generate",
    folder="/nowhere",
):
    """Gives (status, headers, body) of an answer to messages."""
    sent, messages = [], list(messages)

    async def receive():
        await asyncio.sleep(pause)
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    guard = application if isinstance(application, Guard) else None
    asyncio.run((guard or Guard(application, limits, folder))(scope, receive, send))
    return sent[0]["status"], sent[0]["headers"], sent[1]["body"]


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_arrives_whole_and_headers_are_added_once():
    parts = [part(b"ab", True), part(b"", True), part(b"c")]
    status, headers, body = visit(echo, parts)
    assert (status, body) == (200, b"abc")
    names = [name.lower() for name, _ in headers]
    assert names.count(b"content-security-policy") == 1 and b"x-own" in names
    assert set(HEADERS) <= set(headers)
    policy = dict(headers)[b"content-security-policy"]
    assert b"default-src 'self'" in policy and b"http" not in policy


@pytest.mark.parametrize("announces", [True, False])
def test_a_large_body_is_refused_whether_it_is_announced_or_not(announces):
    size = LIMITS.max_request_bytes + 1
    headers = [(b"content-length", b"%d" % size)] if announces else []
    half = size // 2 + 1
    parts = [part(b"x" * half, True), part(b"x" * half, True)]
    status, _, body = visit(echo, [] if announces else parts, headers)
    assert status == 413
    assert "expected at most" in json.loads(body)["error"]


def test_as_much_as_allowed_passes():
    body = b"x" * LIMITS.max_request_bytes
    assert visit(echo, [part(body)])[0] == 200


@pytest.mark.parametrize("length", [b"-1", b"abc", b"9" * 4000, b"\xff"])
def test_nonsense_for_a_length_is_no_fault(length):
    status = visit(echo, [part(b"a")], [(b"content-length", length)])[0]
    assert status in (200, 413)


def test_a_body_that_does_not_come_in_time_is_refused():
    parts = [part(b"a", True) for _ in range(50)]
    limits = dataclasses.replace(LIMITS, deadline_seconds=0.3)
    status, _, body = visit(echo, parts, limits=limits, pause=0.05)
    assert status == 408
    assert "came in 0.3 seconds" in json.loads(body)["error"]


def test_a_fault_is_told_without_its_secrets(caplog):
    status, _, body = visit(fail, [part(b"")])
    assert status == 500 and b"secret" not in body
    assert "secret of the house" in caplog.text


def test_a_fault_at_the_pages_own_addresses_is_what_the_request_deserves(caplog):
    async def answer_500(scope, receive, send):
        start = {"type": "http.response.start", "status": 500, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"secret of the house"})

    for application in (fail, answer_500):
        path = "/gradio_api/queue/join"
        status, headers, body = visit(application, [part(b"")], path=path)
        assert status == 400 and "Reload the page" in json.loads(body)["error"]
        assert set(HEADERS) <= set(headers)
    status, _, body = visit(answer_500, [part(b"")])
    assert status == 500 and b"secret" not in body


def test_many_bodies_at_once_are_refused_and_counted_down():
    guard = Guard(echo, LIMITS, "/nowhere")
    guard._held_bytes = LIMITS.max_held_bytes
    status, _, body = visit(guard, [part(b"a")])
    assert status == 503 and "are being worked on" in json.loads(body)["error"]
    assert guard._held_bytes == LIMITS.max_held_bytes
    guard._held_bytes = 0
    assert visit(guard, [part(b"abc")])[0] == 200
    assert guard._held_bytes == 0


def test_a_body_counts_while_it_comes():
    guard = Guard(echo, LIMITS, "/nowhere")
    guard._held_bytes = LIMITS.max_held_bytes - 2
    parts = [part(b"a", True), part(b"bc", True), part(b"d")]
    status, _, body = visit(guard, parts)
    assert status == 503 and "Try again in a moment" in json.loads(body)["error"]
    assert guard._held_bytes == LIMITS.max_held_bytes - 2


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/run/predict",
        "/gradio_api/vibe-edit",
        "/monitoring",
        "//healthz",
        "/healthz\n",
    ],
)
def test_addresses_that_neither_page_nor_api_needs_are_not_served(path):
    status, _, body = visit(echo, [part(b"a")], path=path)
    assert status == 404 and "is not served; expected /" in json.loads(body)["error"]


def test_a_flood_of_uploads_leaves_the_newest_that_fit(tmp_path):
    (tmp_path / "deep").mkdir()
    size = LIMITS.max_upload_bytes
    for number in range(70):
        path = tmp_path / "deep" / str(number) if number % 2 else tmp_path / str(number)
        path.write_bytes(b"x" * size)
        os.utime(path, (number, number))
    upload = {"folder": str(tmp_path), "path": "/gradio_api/upload"}
    for path in ("/api/generate", "/gradio_api/upload_progress"):
        assert visit(echo, [part(b"a")], **(upload | {"path": path}))[0] == 200
        assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 70
    assert visit(echo, [part(b"a" * size)], **upload)[0] == 200
    kept = sorted(int(p.name) for p in tmp_path.rglob("*") if p.is_file())
    assert kept == list(range(70 - 63, 70))  # and the new one makes 64


def test_what_is_no_http_request_passes():
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(
        Guard(application, LIMITS, "/nowhere")({"type": "lifespan"}, None, None)
    )
    assert seen == ["lifespan"]
