"""Freed memory stays with the process: counted in pages that the kernel has to give."""

import os
import platform
import subprocess
import sys

import pytest

from t2t_mm import allocation
from t2t_mm.configuration import HParams
from t2t_mm.input_pipeline import evaluation_batches, training_batches
from t2t_mm.problem import get_problem

# As a step does: takes 80 blocks of 0.5 MiB, writes into them, frees them all.
PROGRAM = """
import resource, sys
from t2t_mm import allocation

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


def run(asked, program=PROGRAM, **more):
    names = (*allocation.SETTINGS, "GLIBC_TUNABLES")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [sys.executable, "-c", program, asked],
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
    monkeypatch.setattr(allocation, "_is_kept", True)
    assert allocation.keep_freed_memory() is False
    assert not allocation._is_kept  # or batches would try again, in all tests after it


# As `input_pipeline` does; of each step more than a heap has in stock.
WITH_A_GENERATOR = PROGRAM.replace("range(80)", "range(640)").replace(
    "for _ in range(5)",
    """
import tensorflow as tf


def generate():
    if kept:
        allocation.keep_on()
    yield 1


next(iter(tf.data.Dataset.from_generator(generate, output_types=tf.int32)))
for _ in range(5)""",
    1,
)


@pytest.mark.skipif(not is_glibc, reason="the settings are glibc's")
def test_what_tensorflow_sets_for_generators_is_set_back():
    kept, pages = run("keep", program=WITH_A_GENERATOR)
    assert kept and pages < 640


def test_reading_batches_sets_nothing_that_nobody_asked_for(monkeypatch):
    monkeypatch.setattr(allocation, "_is_kept", False)
    monkeypatch.setattr(allocation.ctypes, "CDLL", None)
    allocation.keep_on()


def test_batches_come_with_the_settings_said_again(
    monkeypatch, small_problems, small_data
):
    said = []
    monkeypatch.setattr(allocation, "keep_on", lambda: said.append(1))
    problem, hparams = get_problem("small_reverse"), HParams()
    next(iter(training_batches(problem, small_data, hparams, seed=1)))
    assert said == [1]
    next(iter(evaluation_batches(problem, "dev", small_data, hparams)))
    assert said == [1, 1]
