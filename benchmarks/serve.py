"""What a crowd does to mm-serve: statuses, times and memory of many mixed requests.

    .venv/bin/python benchmarks/serve.py --output_dir=demo/run --data_dir=demo/data
    .venv/bin/python benchmarks/serve.py --requests=200     # with the demo's run

Starts mm-serve in a process of its own and sends it requests of `--clients` threads at
once: three of four honest (texts, pictures, sounds of the run's problems, several at
once, beams, explanations, visitors of the page who choose, look and ask), the others
not (bombs, damaged files, half JSON, giant
strings, unknown names, paths, slow and broken-off bodies). Prints the server's memory
after each tenth of the requests, then a table by sort of request: how many, statuses,
median and slowest seconds. Fails if the server died, if a status is not among the
documented ones, or if its memory still grew in the second half by more than
`--max_growth_megabytes`.
"""

import argparse
import collections
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from serve_crowd import VISIT, Crowd, visit  # this folder's

DOCUMENTED = {200, 400, 403, 404, 405, 408, 413, 422, 503, 504}


def send(port, sort, method, path, body):
    """Gives (sort, status, seconds) of one request; status 0 where none came."""
    start = time.monotonic()
    if method == VISIT:
        return sort, visit(port, path, *body), time.monotonic() - start
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
    """Gives what the process holds in memory now, but for mapped files."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


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
            print(f"{len(results):>5} requests, {memory[-1]:.0f} MB", flush=True)
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
