"""Fixtures that several tests share."""

import contextlib
import os
import subprocess
import sys

import pytest

from t2t_mm import registry
from t2t_mm.bin import command, plugins


@contextlib.contextmanager
def registries_restored():
    """Takes out of the registries what is put in, and puts back what is taken out.

    What is declared stays once it is loaded: its module registers it only once.
    """
    command.load_zoo()
    before = {
        kind: (set(entries.names()), dict(entries._entries))
        for kind, entries in registry.ALL.items()
    }
    yield
    for kind, entries in registry.ALL.items():
        names, things = before[kind]
        for name in set(entries._entries) - names:
            del entries._entries[name]
        entries._entries.update(things)


@pytest.fixture(scope="module", autouse=True)
def registries_of_the_module():
    """What a module of tests registers is gone after it."""
    with registries_restored():
        yield


@pytest.fixture
def own_registries():
    """The registries with the whole zoo; what a test adds is gone after it."""
    with registries_restored():
        yield


SMALL_PROBLEMS = os.path.join(os.path.dirname(__file__), "small_problems")


@pytest.fixture
def small_problems(own_registries, monkeypatch):
    """The small problems of tests/small_problems, registered for one test."""
    monkeypatch.delitem(sys.modules, "small_problems", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    plugins.import_user_dir(SMALL_PROBLEMS)
    yield sys.modules["small_problems"]
    del sys.modules["small_problems"]


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A data folder with the finished data of all small problems; do not change it."""
    folder = tmp_path_factory.mktemp("small")
    command_line = [
        *(sys.executable, "-m", "t2t_mm.bin.mm_datagen", "--num_processes=1"),
        "--problem=small_reverse,small_tones,small_colours,small_captions",
        f"--data_dir={folder / 'data'}",
        f"--tmp_dir={folder / 'tmp'}",
        f"--t2t_usr_dir={SMALL_PROBLEMS}",
    ]
    subprocess.run(command_line, check=True, capture_output=True)
    return str(folder / "data")
