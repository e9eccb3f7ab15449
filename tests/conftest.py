"""Fixtures that several tests share."""

import contextlib
import gc
import os
import random
import subprocess
import sys
import zlib

import hypothesis
import numpy as np
import pytest

from t2t_mm import registry
from t2t_mm.bin import command
from tests.made.controlled_runs import losses, train  # noqa: F401
from tests.made.quick_runs import (  # noqa: F401
    cheap_evaluation,
    constant_evaluation,
    quick_data,
    quick_zoo,
    train_quickly,
)
from tests.made.user_folders import SMALL_PROBLEMS, registered

# Commands run in this process, one after another, with networks of all sizes: what each
# would keep for its next step (`t2t_mm.allocation`) adds up.
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(128 * 2**10))

# The same examples each time, on a busy machine too: a test fails always or never.
hypothesis.settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")


def seed_all(name):
    """Makes all that is drawn without a seed of its own depend on a name alone."""
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)


@pytest.fixture(autouse=True)
def own_random_numbers(request):
    """What a test draws does not depend on the tests before it."""
    seed_all(request.node.nodeid)


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


def pytest_make_parametrize_id(val, argname):
    """Name long bytes by their argument, since what they hold may change with time.

    Gzip data hold the second in which they were made, and all workers of pytest-xdist
    must find tests of the same names.
    """
    return argname if isinstance(val, bytes) and len(val) > 16 else None


@pytest.fixture(scope="module", autouse=True)
def registries_of_the_module(request):
    """What a module of tests registers is gone after it; see also `seed_all`.

    So is its memory: compiled functions are cycles of small objects in Python, so that
    Python feels no need to collect them, and hundreds of megabytes outside of it. Their
    finalizers leave more to be collected.
    """
    seed_all(request.node.nodeid)
    with registries_restored():
        yield
    gc.collect()
    gc.collect()


@pytest.fixture
def own_registries():
    """The registries with the whole zoo; what a test adds is gone after it."""
    with registries_restored():
        yield


@pytest.fixture
def small_problems(own_registries):
    """The small problems of tests/small_problems, registered for one test."""
    with registered(SMALL_PROBLEMS) as module:
        yield module


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


@pytest.fixture(scope="module")
def small_zoo(registries_of_the_module):
    """The small problems, registered for a module of tests."""
    with registered(SMALL_PROBLEMS):
        yield


SMALL_NAMES = ("small_reverse", "small_tones", "small_colours", "small_captions")


@pytest.fixture(scope="session")
def small_run(small_data, tmp_path_factory):
    """A run of a tiny MultiModel on the small problems; do not change it.

    As the trainer leaves it, at steps 3 and 5, whose weights differ; not trained. Its
    problems are those of the fixture `small_problems`.
    """
    from t2t_mm import configuration
    from tests.made.runs import write_run

    folder = str(tmp_path_factory.mktemp("small_run"))
    with registries_restored(), registered(SMALL_PROBLEMS):
        hparams = configuration.override(
            configuration.named_hparams("multimodel_tiny"),
            **{"hidden_size": 16, "num_heads": 2, "num_experts": 5, "expert_size": 7},
            **{"experts_per_position": 2, "kernels": (3,) * 4, "dilations": (1,) * 4},
            **{"encoder_blocks": 1, "mixer_blocks": 1, "decoder_blocks": 1},
            **{"image_filters": 4, "image_stages": 2, "audio_filters": 4},
        )
        rng = np.random.default_rng(0)
        write_run(
            *(folder, "multimodel", "multimodel_tiny", hparams, SMALL_NAMES),
            *(small_data,),
            seed=3,
            steps=(3, 5),
            add=lambda shape: 0.1 * rng.normal(size=shape),
        )
    return folder
