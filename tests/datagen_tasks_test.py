"""Generating data in parts: several machines, sources in shards."""

import errno
import itertools
import os
import pathlib
import subprocess
import sys

import pytest

from t2t_mm import datagen
from t2t_mm.locks import Lock
from t2t_mm.problem import Problem
from tests.made.data import NAMES, contents, fail_after, generate


def test_tasks_one_after_the_other_give_the_same_bytes(
    small_problems, small_data, tmp_path, capsys
):
    for number in (2, 0, 1):
        task = datagen.Task(number, 3)
        made = generate(tmp_path, task=task, progress=True)
        assert set(made) == (set(NAMES) if number == 1 else set())
    assert "other tasks have yet to do their share" in capsys.readouterr().err
    assert contents(tmp_path / "data") == contents(small_data)
    hidden = {one for one in os.listdir(tmp_path / "data") if one.startswith(".gen")}
    assert not hidden


def test_tasks_at_the_same_time_give_the_same_bytes(small_data, tmp_path):
    tasks = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "t2t_mm.bin.mm_datagen", "--num_processes=1"),
                f"--problem={','.join(NAMES)}",
                f"--data_dir={tmp_path / 'data'}",
                f"--tmp_dir={tmp_path / 'tmp'}",
                f"--t2t_usr_dir={pathlib.Path(__file__).parent / 'small_problems'}",
                *(f"--task_id={number}", "--num_tasks=2"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [task.communicate()[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert contents(tmp_path / "data") == contents(small_data)


def test_a_task_that_failed_is_done_again_alone(small_problems, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")
        fail_after(patch, 100, full)
        with pytest.raises(OSError, match="No space"):
            generate(tmp_path, ["small_colours"], task=datagen.Task(0, 2))
    assert not generate(tmp_path, ["small_colours"], task=datagen.Task(1, 2))
    assert generate(tmp_path, ["small_colours"], task=datagen.Task(0, 2))


def test_a_task_and_a_whole_run_do_not_mix(small_problems, tmp_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / ".datagen-1-of-2.lock"
    with Lock(str(path)) as lock:
        assert lock.take()
        with pytest.raises(OSError, match=r"A task \(.datagen-1-of-2.lock\) is at wo"):
            generate(tmp_path)
        with pytest.raises(OSError, match="Task 1 of 2 is already at work"):
            generate(tmp_path, task=datagen.Task(1, 2))
    generate(tmp_path, ["small_colours"])
    assert not path.exists()


def in_shards(small_problems, monkeypatch):
    """Makes the source of small_reverse one in parts."""
    whole = small_problems.SmallReverse.generate

    def generate_shard(self, split, tmp_dir, shard):
        begin = int(shard)
        yield from itertools.islice(whole(self, split, tmp_dir), begin, begin + 20)

    numbers = [str(begin) for begin in range(0, 100, 20)]
    reverse = small_problems.SmallReverse
    monkeypatch.setattr(reverse, "shards", lambda self, split, tmp_dir: numbers)
    monkeypatch.setattr(reverse, "generate_shard", generate_shard)
    monkeypatch.setattr(reverse, "generate", Problem.generate)


def test_a_source_in_shards_gives_the_same_bytes(
    small_problems, small_data, tmp_path, monkeypatch
):
    in_shards(small_problems, monkeypatch)
    generate(tmp_path)
    assert contents(tmp_path / "data") == contents(small_data)


def test_equal_names_of_source_shards_are_refused(
    small_problems, tmp_path, monkeypatch
):
    twice = lambda self, split, tmp_dir: ["a", "a"]  # noqa: E731
    monkeypatch.setattr(small_problems.SmallReverse, "shards", twice)
    with pytest.raises(ValueError, match="split 'train' that are equal; different"):
        generate(tmp_path, ["small_reverse"])
