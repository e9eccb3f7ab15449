"""Runs of `quick_problems`, which train in no time, and what they leave behind.

`conftest` gives the fixtures to all tests.
"""

import json
import os

import numpy as np
import pytest

from tests.made.user_folders import QUICK_PROBLEMS, registered

QUICK_NAMES = ["quick_reverse", "quick_copy"]
TIMINGS = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def quick_zoo(registries_of_the_module):
    """The quick problems, their model and its set, registered for a module of tests."""
    with registered(QUICK_PROBLEMS):
        yield


@pytest.fixture(scope="module")
def quick_data(quick_zoo, tmp_path_factory):
    """A data folder of the quick problems; do not change it."""
    from t2t_mm import datagen

    folder = str(tmp_path_factory.mktemp("quick_data"))
    datagen.generate_data(QUICK_NAMES, folder, folder, num_processes=0, progress=False)
    return folder


def training(folder, **usual):
    """Gives a function that trains a run; a call may change what is usual."""
    from t2t_mm import trainer

    def start(run="run", **changes):
        settings = {"output_dir": str(folder / run), "log_frequency": 2} | usual
        return trainer.train(**settings | {"progress": False} | changes)

    return start


def quick_training(folder, data_dir):
    """Gives a function that trains the two problems in seconds."""
    return training(
        folder,
        train_steps=8,
        model="quick_bag",
        hparams_set="quick_tiny",
        problem=",".join(QUICK_NAMES),
        data_dir=data_dir,
        eval_frequency=3,
    )


@pytest.fixture
def train_quickly(quick_data, tmp_path):
    """Trains the two problems in seconds; a test says what else it wants."""
    return quick_training(tmp_path, quick_data)


@pytest.fixture
def cheap_evaluation(monkeypatch):
    """Replaces evaluation by one that gets better; gives what was evaluated."""
    from t2t_mm import examination

    calls = []

    def evaluate(model, problem, split, *_, **options):
        calls.append((problem.name, split, options["limit"]))
        return {
            "examples": 1,
            "loss": 1.0 / (1 + len(calls)),
            "accuracy": 0.5,
            "metrics": {"exact_match": 0.25},
            "samples": [{"inputs": "1", "reference": "1", "prediction": "2"}],
        }

    monkeypatch.setattr(examination.evaluation, "evaluate", evaluate)
    return calls


@pytest.fixture
def constant_evaluation(monkeypatch):
    """Replaces evaluation by a result that is always the same."""
    from t2t_mm import examination

    result = {"examples": 1, "loss": 2.0, "accuracy": 0.5, "metrics": {}, "samples": []}
    monkeypatch.setattr(examination.evaluation, "evaluate", lambda *_, **__: result)


def lines_of(run_dir, kind=None):
    """Gives the lines of metrics.jsonl, all or of a kind, without what clocks say."""
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [
        {name: value for name, value in line.items() if name not in TIMINGS}
        for line in lines
        if kind in (None, line["kind"])
    ]


def saved_values(run_dir):
    """Gives all that the newest checkpoint of a run holds, by key."""
    import tensorflow as tf

    from t2t_mm import checkpoint_folders

    reader = tf.train.load_checkpoint(
        checkpoint_folders.newest_checkpoint(str(run_dir))
    )
    own = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")
    names = reader.get_variable_to_shape_map()
    return {key: reader.get_tensor(key) for key in names if not key.startswith(own)}


def check_equal_runs(first, second):
    """Compares weights, moments, seeds, positions and log lines, bit for bit."""
    expected, found = saved_values(first), saved_values(second)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    assert lines_of(first) == lines_of(second)
