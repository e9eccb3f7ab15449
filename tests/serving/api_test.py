import base64
import html
import io
import json
import random
import re
import struct
import subprocess
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

TEXT, SOUND, PICTURE, CAPTION = (
    "small_reverse",
    "small_tones",
    "small_colours",
    "small_captions",
)


def base64_of(content):
    return base64.b64encode(content).decode()


def picture_file(width=23, height=19, kind="PNG", mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, (width, height)).save(content, kind)
    return content.getvalue()


def sound_file(seconds=0.5, rate=8000, kind="WAV", channels=1):
    content = io.BytesIO()
    times = np.arange(int(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * 300 * times)[:, None].repeat(channels, 1)
    soundfile.write(content, wave, rate, format=kind)
    return content.getvalue()


def bomb(width=60_000, height=60_000):
    """A PNG of a few hundred bytes whose head announces 3.6 gigapixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


DATA_URI = f"data:image/jpeg;base64,{base64_of(picture_file(kind='JPEG'))}"


def ask(client, problem, inputs, **more):
    body = {"problem": problem, "inputs": inputs, **more}
    return client.post("/api/generate", json=body)


def refusal(response):
    """Gives (status, message) of a refusal and checks that it is one."""
    assert set(response.json()) == {"error"}
    message = response.json()["error"]
    assert "xpected" in message and len(message) < 1000
    return response.status_code, message


@pytest.mark.parametrize(
    ("problem", "inputs"),
    [
        (TEXT, "a b c"),
        (TEXT, {"text": "a b c"}),
        (PICTURE, {"image": base64_of(picture_file())}),
        (CAPTION, {"image": DATA_URI}),
        (SOUND, {"audio": base64_of(sound_file())}),
        (SOUND, {"audio": base64_of(sound_file(rate=44100, kind="FLAC", channels=2))}),
    ],
)  # fmt: skip
def test_every_kind_of_input_is_answered_as_the_run_would(
    client, service, problem, inputs
):
    response = ask(client, problem, inputs)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["problem"], body["step"]) == (problem, 7)
    assert body["command"] == service.run.problems[problem].command
    assert len(body["answers"]) == 1
    if problem == TEXT:
        expected = service.run.generate(TEXT, ["a b c"])[0]
        assert body["answers"][0]["output"] == expected.output
        assert body["answers"][0]["score"] == pytest.approx(expected.score, rel=1e-4)
    if problem == PICTURE:
        labels = body["answers"][0]["labels"]
        assert sum(one["probability"] for one in labels) == pytest.approx(1, rel=1e-4)
        assert body["answers"][0]["output"] == labels[0]["label"]


def test_several_inputs_are_answered_in_their_order(client):
    texts = ["a", "a b c d e", "c"]
    together = ask(client, TEXT, texts).json()["answers"]
    alone = [ask(client, TEXT, text).json()["answers"][0] for text in texts]
    assert [a["output"] for a in together] == [a["output"] for a in alone]


def test_another_command_may_be_asked_for(client):
    body = ask(client, TEXT, "a b", command="To-English").json()
    assert body["command"] == "To-English"


def test_health_and_problems_are_told(client, service):
    health = client.get("/healthz").json()
    assert (health["status"], health["step"], health["waiting"]) == ("ok", 7, 0)
    assert health["is_warm"] is True
    problems = client.get("/api/problems").json()
    assert [p["name"] for p in problems["problems"]] == list(service.run.problems)
    assert problems["problems"][2]["labels"] == ["red", "green", "blue"]
    assert problems["limits"]["max_text_characters"] == 101
    pairs = [
        (p["problem"], p["command"], p["is_trained"]) for p in problems["pairings"]
    ]
    assert (TEXT, "To-Reversed", True) in pairs
    assert (TEXT, "To-English", False) in pairs
    assert len(set(pairs)) == len(pairs)


def test_the_api_is_documented_without_the_help_of_another_host(client):
    page = client.get("/api").text
    assert "/api/generate" in page and TEXT in page
    assert "http://" not in page.replace("http://testserver", "")
    assert "https://" not in page
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/api/generate", "/api/problems", "/healthz"}
    assert set(paths["/api/generate"]["post"]["responses"]) >= {"200", "413", "504"}


def test_the_commands_that_the_api_shows_work_as_they_stand(client, tmp_path):
    (tmp_path / "picture.png").write_bytes(picture_file())
    (tmp_path / "sound.wav").write_bytes(sound_file())
    page = html.unescape(client.get("/api").text)
    commands = re.findall(r"curl -s (\S+) -H (.+?) \\\n  -d (.+)\n", page)
    assert len(commands) == 3
    for address, header, body in commands:
        assert address == "http://testserver/api/generate"
        assert header == "'Content-Type: application/json'"
        said = subprocess.run(
            ["sh", "-c", f"printf %s {body}"], cwd=tmp_path, capture_output=True
        )
        response = client.post("/api/generate", json=json.loads(said.stdout))
        assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"problem": "small_revers", "inputs": "a"}, 404, "Nearest: small_reverse"),
        ({"problem": TEXT, "inputs": "a", "command": "To-Rot"}, 404, "'To-Rot' came"),
        ({"problem": TEXT, "inputs": "a" * 102}, 413, "102 characters came; expec"),
        ({"problem": TEXT, "inputs": ["a"] * 4}, 413, "inputs came; expected 1 to 3"),
        ({"problem": TEXT, "inputs": []}, 422, "0 inputs came; expected 1 to 3"),
        ({"problem": TEXT, "inputs": " \n"}, 422, "An empty text came"),
        ({"problem": TEXT, "inputs": 7}, 422, "valid string; 7 came"),
        ({"problem": TEXT, "inputs": {"txt": ""}}, 422, "at body.inputs.txt: Extra"),
        ({"problem": TEXT}, 422, "mistake at body.inputs: Field required"),
        ({"problem": TEXT, "inputs": "a", "beam": 4}, 422, "body.beam: Extra inputs"),
        ({"problem": TEXT, "inputs": {}}, 422, "An input with 0 of text, image and"),
        ({"problem": TEXT, "inputs": {"text": "a", "image": "b"}}, 422, "with 2 of"),
        ({"problem": TEXT, "inputs": {"image": "aaaa"}}, 422, "got a file; expected"),
        ({"problem": PICTURE, "inputs": "/etc/passwd"}, 422, "got text; expected pict"),
        ({"problem": PICTURE, "inputs": {"image": "%%%"}}, 400, "is no base64"),
        ({"problem": PICTURE, "inputs": {"image": "aaaa"}}, 422, "cannot be read"),
        ({"problem": SOUND, "inputs": {"audio": "aaaa"}}, 422, "cannot be read"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_with_what_came_and_what_to_do(client, body, status, text):
    found, message = refusal(client.post("/api/generate", json=body))
    assert found == status
    assert text in message


@pytest.mark.parametrize(
    ("settings", "status", "text"),
    [
        ({"beam_size": 4}, 413, "beam_size=4 came; this server expected at most 3"),
        ({"beam_size": 300}, 422, "beam_size"),
        ({"max_length": 10**9}, 413, "max_length=1000000000 came"),
        ({"min_length": 10**5}, 413, "min_length=100000 came"),
        ({"jit_compile": True}, 413, "jit_compile=True came"),
        ({"temperature": -1.0}, 422, "temperature"),
        ({"top_p": 2.0}, 422, "top_p"),
        ("beam_size=many", 422, "beam_size"),
        ("beam_size", 422, "beam_size"),
        ({"random_seed": 2**40}, 422, "random_seed"),
        ({"beam_size": 2.5}, 422, "beam_size"),
    ],
)
def test_settings_of_decoding_are_bounded(client, settings, status, text):
    body = {"problem": TEXT, "inputs": "a", "decode_hparams": settings}
    found, message = refusal(client.post("/api/generate", json=body))
    assert found == status and text in message


def test_an_unknown_setting_of_decoding_is_told_with_its_nearest(client):
    body = {"problem": TEXT, "inputs": "a", "decode_hparams": {"beam": 3}}
    response = client.post("/api/generate", json=body)
    assert response.status_code == 422
    text = "no hparam 'beam'; expected one of its names. Nearest: beam_size"
    assert text in response.json()["error"]


@pytest.mark.parametrize(
    ("problem", "kind", "content", "status", "text"),
    [
        (PICTURE, "image", bomb(), 413, "far too many pixels came"),
        (PICTURE, "image", picture_file(1000, 501), 413, "of 1000 x 501 pixels came"),
        (PICTURE, "image", picture_file()[:-30], 422, "cannot be read"),
        (PICTURE, "image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "cannot"),
        (SOUND, "audio", sound_file(3.1), 413, "of more than 3 seconds came"),
        (SOUND, "audio", sound_file(0.01), 422, "at least a twentieth of a second"),
        (SOUND, "audio", sound_file(0.2, rate=250_000), 422, "at 250000 Hz came"),
        (SOUND, "audio", sound_file()[:20], 422, "cannot be read"),
        (SOUND, "audio", picture_file(), 422, "cannot be read"),
    ],
)
def test_files_that_are_too_much_or_broken_are_refused(
    client, problem, kind, content, status, text
):
    found, message = refusal(ask(client, problem, {kind: base64_of(content)}))
    assert found == status, message
    assert text in message


def test_files_that_are_too_large_are_refused(client):
    # As large as a request may be, larger than a file may be.
    found, message = refusal(ask(client, PICTURE, {"image": "a" * 360_000}))
    assert found == 413 and "A picture of 0.3 MB came" in message


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b'{"problem": "small_reverse", "inputs": "\\ud800"}', 422),
        (b'{"problem": "\\ud800", "inputs": "a"}', 404),
        (b'{"\\ud800": 1, "problem": "small_reverse", "inputs": "a"}', 422),
        (b"[" * 100_000, 400),
        (b"null", 422),
        (b"\xff\xfe\x00", 400),
        (b'{"problem": "\xff", "inputs": "a"}', 400),
        (b'{"problem": NaN, "inputs": Infinity}', 422),
        (b'{"problem": "small_reverse", "inputs": ' + b"9" * 5000 + b"}", 400),
        (b"a" * 700_000, 413),
    ],
)
def test_bodies_that_are_no_request_are_refused(client, content, status):
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/generate", content=content, headers=headers)
    assert refusal(response)[0] == status


def test_forms_of_other_sites_are_not_taken_for_json(client):
    body = json.dumps({"problem": TEXT, "inputs": "a"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": kind}
        response = client.post("/api/generate", content=body, headers=headers)
        assert refusal(response)[0] == 422


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/generate"), ("POST", "/api/x"), ("PUT", "/api/")]
)
def test_addresses_that_do_not_exist_are_told(client, method, path):
    status, message = refusal(client.request(method, path))
    assert status in (404, 405) and path in message


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "~/.bashrc"])
def test_no_file_of_the_server_can_be_read(client, path):
    for address in (f"/gradio_api/file={path}", f"/static/{path}", f"/{path}"):
        response = client.get(address)
        assert response.status_code < 500
        assert "root:" not in response.text


def fuzzed(rng, content):
    """Gives content with some bytes changed, cut or doubled."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 12)):
        place = rng.randrange(len(changed))
        kind = rng.randrange(3)
        if kind == 0:
            changed[place] = rng.randrange(256)
        elif kind == 1 and len(changed) > 40:
            del changed[place : place + rng.randint(1, 9)]
        else:
            changed[place:place] = changed[place : place + rng.randint(1, 9)]
    return bytes(changed)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_answered_or_refused_never_more(client, seed):
    rng = random.Random(seed)
    kinds = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
    files = [(PICTURE, "image", picture_file(kind=kind)) for kind in kinds]
    files += [(SOUND, "audio", sound_file(0.2, kind=k)) for k in ("WAV", "FLAC", "OGG")]
    for problem, kind, content in files * 4:
        response = ask(client, problem, {kind: base64_of(fuzzed(rng, content))})
        assert response.status_code in (200, 413, 422), response.text
        if response.status_code != 200:
            refusal(response)
    assert client.get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize("seed", range(3))
def test_damaged_json_is_answered_or_refused_never_more(client, seed):
    rng = random.Random(seed)
    body = {
        "problem": TEXT,
        "inputs": ["a b", {"text": "c"}],
        "command": "To-Reversed",
        "decode_hparams": {},
    }
    for _ in range(40):
        content = fuzzed(rng, json.dumps(body).encode())
        headers = {"Content-Type": "application/json"}
        response = client.post("/api/generate", content=content, headers=headers)
        assert response.status_code in (200, 400, 404, 413, 422), response.text
