"""The visitors that `serve.py` sends: friendly ones, browsers, and others."""

import base64
import collections
import http.client
import io
import json
import struct
import uuid
import zlib

import numpy as np
import soundfile
from PIL import Image

WORDS = "Turn on the light in the kitchen, please open door and close window".split()


def base64_of(content):
    """Gives base64 as text."""
    return base64.b64encode(content).decode()


def picture(rng, side=64):
    """Gives a PNG of noise in one colour."""
    pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def sound(rng, seconds=1.0, rate=16000):
    """Gives a WAV of a tone and noise."""
    times = np.arange(int(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * rng.integers(100, 900) * times)
    content = io.BytesIO()
    wave += 0.02 * rng.normal(size=len(wave))
    soundfile.write(content, wave, rate, "PCM_16", format="WAV")
    return content.getvalue()


def bomb():
    """Gives a small PNG whose head announces 2.5 gigapixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


# Instead of a method: several requests, as the page's script sends them.
VISIT = "VISIT"


class Crowd:
    """Makes requests, each from its number alone.

    Args:
      problems: as /api/problems gives them.
    """

    def __init__(self, problems):
        self.problems = problems
        self.by_kind = collections.defaultdict(list)
        for problem in problems:
            self.by_kind[problem["inputs"]].append(problem["name"])

    def request(self, number):
        """Gives (sort, method, path, body) of a request."""
        rng = np.random.default_rng(number)
        sorts = self.honest if number % 4 else self.malicious
        makers = [make for make in sorts() if make is not None]
        make = makers[number // 4 % len(makers)]
        name, content = make(rng)
        if isinstance(content, tuple):
            return (name, *content)
        return name, "POST", "/api/generate", content

    def honest(self):
        """Gives what a friendly visitor sends."""
        return [
            self.text if self.by_kind["text"] else None,
            self.texts if self.by_kind["text"] else None,
            self.picture if self.by_kind["picture"] else None,
            self.sound if self.by_kind["sound"] else None,
            self.page,
            self.visitor,
        ]

    def text(self, rng):
        """A sentence, sometimes with a beam and an explanation."""
        body = {
            "problem": str(rng.choice(self.by_kind["text"])),
            "inputs": " ".join(rng.choice(WORDS, rng.integers(1, 9))),
        }
        if rng.random() < 0.3:
            body["decode_hparams"] = {"beam_size": 4, "num_return": 2}
            body["explain"] = True
        return "text", json.dumps(body)

    def texts(self, rng):
        """Several sentences at once."""
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(rng.integers(2, 9))]
        name = str(rng.choice(self.by_kind["text"]))
        return "several texts", json.dumps({"problem": name, "inputs": texts})

    def picture(self, rng):
        """A picture."""
        name = str(rng.choice(self.by_kind["picture"]))
        inputs = {"image": base64_of(picture(rng, int(rng.integers(8, 400))))}
        return "picture", json.dumps({"problem": name, "inputs": inputs})

    def sound(self, rng):
        """A sound."""
        name = str(rng.choice(self.by_kind["sound"]))
        inputs = {"audio": base64_of(sound(rng, rng.uniform(0.3, 4.0)))}
        return "sound", json.dumps({"problem": name, "inputs": inputs})

    def page(self, rng):
        """What a browser fetches first."""
        return "page", ("GET", str(rng.choice(["/", "/healthz", "/api"])), None)

    def visitor(self, rng):
        """Somebody at the page: looks at a problem's example, then brings their own."""
        number = int(rng.integers(len(self.problems)))
        content = {
            "text": lambda: " ".join(rng.choice(WORDS, 4)),
            "picture": lambda: picture(rng),
            "sound": lambda: sound(rng, rng.uniform(0.5, 3.0)),
        }[self.problems[number]["inputs"]]()
        return "visitor", (VISIT, self.problems[number]["inputs"], (number, content))

    def malicious(self):
        """Gives what somebody else sends."""
        return [
            self.bomb,
            self.damaged,
            self.half_json,
            self.giant_string,
            self.giant_body,
            self.unknown,
            self.path,
            self.deep_json,
            self.much_work,
            self.gradio,
        ]

    def _file_of(self, rng):
        if self.by_kind["sound"] and rng.random() < 0.5:
            return self.by_kind["sound"][0], "audio", sound(rng, 0.3)
        kind = "picture" if self.by_kind["picture"] else "text"
        return self.by_kind[kind][0], "image", picture(rng, 24)

    def bomb(self, rng):
        """A picture of 2.5 gigapixels in a kilobyte."""
        name, _, _ = self._file_of(rng)
        inputs = {"image": base64_of(bomb())}
        return "! bomb", json.dumps({"problem": name, "inputs": inputs})

    def damaged(self, rng):
        """A file with some bytes changed, cut off somewhere."""
        name, kind, content = self._file_of(rng)
        changed = bytearray(content)
        for _ in range(8):
            changed[rng.integers(len(changed))] = rng.integers(256)
        del changed[rng.integers(20, len(changed)) :]
        inputs = {kind: base64_of(bytes(changed))}
        return "! damaged file", json.dumps({"problem": name, "inputs": inputs})

    def half_json(self, rng):
        """JSON that ends early."""
        _, content = self.text(rng)
        return "! half JSON", content[: rng.integers(1, len(content))]

    def giant_string(self, rng):
        """A text of a million characters."""
        name = str(rng.choice([p["name"] for p in self.problems]))
        return "! giant string", json.dumps({"problem": name, "inputs": "a " * 500_000})

    def giant_body(self, rng):
        """Thirty megabytes."""
        del rng
        return "! giant body", " " * 30_000_000

    def unknown(self, rng):
        """Names that there are not, and fields."""
        name = "".join(rng.choice(list("abc_/.%"), rng.integers(1, 300)))
        body = {"problem": name, "inputs": "a"}
        if rng.random() < 0.5:
            body[name] = 1
        return "! unknown names", json.dumps(body)

    def path(self, rng):
        """Addresses that try for files."""
        tried = [
            "/gradio_api/file=/etc/passwd",
            "/static/../../etc/passwd",
            "/%00",
            "/api/" + "x" * 3000,
        ]
        return "! paths", ("GET", tried[rng.integers(len(tried))], None)

    def deep_json(self, rng):
        """A hundred thousand brackets."""
        del rng
        return "! deep JSON", "[" * 100_000

    def much_work(self, rng):
        """Wide beams, long answers, many inputs."""
        wishes = [{"beam_size": 250}, {"max_length": 10**9}, {"beam": 3}]
        name = str(rng.choice([p["name"] for p in self.problems]))
        settings = wishes[rng.integers(len(wishes))]
        body = {"problem": name, "inputs": ["a"] * 5000, "decode_hparams": settings}
        return "! much work", json.dumps(body)

    def gradio(self, rng):
        """Nonsense for the addresses of the page itself."""
        paths = ["/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/x"]
        return "! page's own", ("POST", paths[rng.integers(len(paths))], '{"data": [')


class Page:
    """Clicks on the page of mm-serve, as its script does: by Gradio's own protocol.

    Args:
      port: of the server.
    """

    def __init__(self, port):
        self.port = port
        self.session = uuid.uuid4().hex
        config = json.loads(self.fetched("GET", "/config"))
        self.names = {
            part["id"]: part["props"].get("elem_id") for part in config["components"]
        }
        self.events = config["dependencies"]

    def fetched(self, method, path, body=None, kind="application/json"):
        """Gives what an address answers.

        Raises:
          http.client.HTTPException: with the status, if it is not 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)
        try:
            headers = {"Content-Type": kind} if body is not None else {}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise http.client.HTTPException(response.status)
        return content

    def clicked(self, event, values):
        """Sends an event with values by name of their part; waits for its end.

        Raises:
          http.client.HTTPException: if the server did not take it, or failed.
        """
        data = [values.get(self.names[part]) for part in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session}
        self.fetched("POST", "/gradio_api/queue/join", json.dumps(body))
        path = f"/gradio_api/queue/data?session_hash={self.session}"
        told = self.fetched("GET", path).decode()
        if '"success":true' not in told:
            raise http.client.HTTPException(500)

    def event(self, name, kind):
        """Gives the event of a part: ("ask", "click")."""
        return next(
            event
            for event in self.events
            if any(self.names.get(p) == name and k == kind for p, k in event["targets"])
        )

    def uploaded(self, content, name):
        """Gives what stands for a file in a value."""
        head = (
            "--edge\r\nContent-Disposition: form-data; "
            f'name="files"; filename="{name}"\r\n\r\n'
        )
        body = head.encode() + content + b"\r\n--edge--\r\n"
        kind = "multipart/form-data; boundary=edge"
        (path,) = json.loads(
            self.fetched("POST", "/gradio_api/upload", body, kind=kind)
        )
        return {"path": path, "meta": {"_type": "gradio.FileData"}}


def visit(port, kind, number, content):
    """Chooses a problem, sees its example, asks about something else.

    Args:
      port: of the server.
      kind: what goes in: text, picture or sound.
      number: of the problem.
      content: of that kind.

    Returns:
      The worst status.
    """
    try:
        page = Page(port)
        page.fetched("GET", "/")
        values = {"pairing": number, "shown": 0, "jobs": number, "is-drawing": False}
        chosen = page.event("jobs", "input")
        page.clicked(chosen, values)
        then = [one for one in page.events if one["trigger_after"] == chosen["id"]]
        page.clicked(then[0], values)
        if kind != "text":
            content = page.uploaded(content, "a.png" if kind == "picture" else "a.wav")
        page.clicked(page.event("ask", "click"), {**values, kind: content})
    except http.client.HTTPException as error:
        return error.args[0] if error.args else 0
    return 200
