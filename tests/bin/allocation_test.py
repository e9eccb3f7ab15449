"""Freed memory stays with the process: counted in pages that the kernel has to give."""

import os
import platform
import subprocess
import sys

import pytest

from t2t_mm.bin import allocation

# As a step does: takes 80 blocks of 0.5 MiB, writes into them, frees them all.
PROGRAM = """
import resource, sys
from t2t_mm.bin import allocation

kept = sys.argv[1] == "keep" and allocation.keep_freed_memory()


def step():
    blocks = [bytearray(2**19) for _ in range(80)]
    for block in blocks:
        block[:: 2**12] = b"1" * 2**7


def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


for _ in range(5):
    step()
before = pages()
for _ in range(10):
    step()
print(kept, pages() - before)
"""
is_glibc = platform.libc_ver()[0] == "glibc"


def run(asked, **more):
    names = (*allocation.SETTINGS, "GLIBC_TUNABLES")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, asked],
        capture_output=True,
        text=True,
        env=environment | more,
        check=True,
    )
    kept, pages = done.stdout.split()
    return kept == "True", int(pages)


@pytest.mark.skipif(not is_glibc, reason="the settings are glibc's")
def test_a_step_finds_the_memory_of_the_one_before():
    assert run("leave")[1] > 10 * 80  # or there would be nothing to gain here
    kept, pages = run("keep")
    assert kept and pages < 80


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "131072") for name in allocation.SETTINGS),
        ("GLIBC_TUNABLES", "glibc.malloc.top_pad=131072"),
    ],
)
def test_what_the_environment_says_stays(name, value):
    assert run("keep", **{name: value})[0] is False


def test_a_system_without_glibc_is_left_alone(monkeypatch):
    for name in (*allocation.SETTINGS, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)

    class Musl:
        """Has a mallopt, of which nobody knows what its numbers mean."""

        def mallopt(self, number, value):
            raise AssertionError("called")

    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: Musl())
    assert allocation.keep_freed_memory() is False
