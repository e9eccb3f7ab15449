"""What a crowd does to mm-serve: statuses, times and memory of many mixed requests.

    .venv/bin/python benchmarks/serve.py --output_dir=demo/run --data_dir=demo/data
    .venv/bin/python benchmarks/serve.py --requests=200     # with the demo's run

Starts mm-serve in a process of its own and sends it requests of `--clients` threads at
once: three of four honest (texts, pictures, sounds of the run's problems, several at
once, beams, explanations), the others not (bombs, damaged files, half JSON, giant
strings, unknown names, paths, slow and broken-off bodies). Prints a table by sort of
request: how many, statuses, median and slowest seconds; then the server's memory after
each tenth of the requests. Fails if the server died, if a status is not among the
documented ones, or if its memory still grew in the second half by more than
`--max_growth_megabytes`.
"""

import argparse
import base64
import collections
import concurrent.futures
import http.client
import io
import json
import os
import pathlib
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np
import soundfile
from PIL import Image

DOCUMENTED = {200, 400, 403, 404, 405, 408, 413, 422, 503, 504}
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


class Crowd:
    """Makes requests, each from its number alone."""

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


def send(port, sort, method, path, body):
    """Gives (sort, status, seconds) of one request; status 0 where none came."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        status = response.status
    except (BrokenPipeError, ConnectionResetError):
        # Told that it is too large before it had sent all: some clients never listen.
        status = 413
    except (http.client.HTTPException, OSError, ValueError):
        status = 0
    finally:
        connection.close()
    return sort, status, time.monotonic() - start


def break_off(port):
    """Announces a body, sends half of it and goes away."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{"
        )


def memory_megabytes(process):
    """Gives what the process holds in memory now."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def started(options, log):
    """Starts mm-serve; gives the process and its port."""
    command = [
        *(sys.executable, "-m", "t2t_mm.bin.mm_serve", "--port=0"),
        f"--output_dir={options.output_dir}",
        f"--deadline_seconds={options.deadline_seconds}",
    ]
    if options.data_dir:
        command.append(f"--data_dir={options.data_dir}")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    while process.poll() is None:
        log.seek(0)
        found = [word for word in log.read().split() if word.startswith("http://")]
        if found:
            return process, int(found[0].rstrip("/").rpartition(":")[2])
        time.sleep(0.5)
    log.seek(0)
    sys.exit(f"mm-serve did not start:\n{log.read()}")


def asked(port, path):
    """Gives the JSON of an address."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    return json.load(connection.getresponse())


def crowd(options, process, port):
    """Sends everything; gives the results and the memory after each tenth."""
    while not asked(port, "/healthz")["is_warm"]:
        time.sleep(1)
    visitors = Crowd(asked(port, "/api/problems")["problems"])
    results, memory = [], [memory_megabytes(process)]
    order = list(range(options.requests))
    random.Random(1).shuffle(order)
    tenth = max(1, len(order) // 10)
    with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
        for first in range(0, len(order), tenth):
            break_off(port)
            batch = [
                pool.submit(send, port, *visitors.request(number))
                for number in order[first : first + tenth]
            ]
            results += [one.result() for one in batch]
            if process.poll() is not None:
                sys.exit(f"mm-serve died with code {process.returncode}")
            memory.append(memory_megabytes(process))
    return results, memory


def report(results, memory):
    """Prints the tables."""
    by_sort = collections.defaultdict(list)
    for sort, status, seconds in results:
        by_sort[sort].append((status, seconds))
    print(f"{'request':<18}{'number':>7}{'median s':>10}{'slowest s':>11}  statuses")
    for sort, found in sorted(by_sort.items()):
        statuses = collections.Counter(status for status, _ in found)
        seconds = [one for _, one in found]
        told = ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items()))
        print(
            f"{sort:<18}{len(found):>7}{statistics.median(seconds):>10.2f}"
            f"{max(seconds):>11.2f}  {told}"
        )
    print("memory, MB: " + " ".join(f"{value:.0f}" for value in memory))


def main():
    """Runs the crowd; gives the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_dir", default="demo/run")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--deadline_seconds", type=float, default=60)
    parser.add_argument("--max_growth_megabytes", type=float, default=100)
    options = parser.parse_args()
    if not os.path.isdir(options.output_dir):
        sys.exit(
            f"--output_dir={options.output_dir} is no folder; expected a trained run. "
            "Run `make demo` first, or name another run."
        )
    with tempfile.TemporaryFile("w+") as log:
        process, port = started(options, log)
        try:
            results, memory = crowd(options, process, port)
        finally:
            process.terminate()
            code = process.wait(60)
    report(results, memory)
    strange = {status for _, status, _ in results} - DOCUMENTED
    growth = memory[-1] - memory[len(memory) // 2]
    print(f"growth in the second half: {growth:.0f} MB; exit code {code}")
    if strange or code or growth > options.max_growth_megabytes:
        print(f"FAILED: statuses {sorted(strange)}, code {code}, growth {growth:.0f}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
