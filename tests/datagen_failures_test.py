"""Generating data: whole or not there, and clear errors."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from t2t_mm import datagen, workers
from tests.made.data import NAMES, contents, fail_after, generate, wait_for


def is_alive(process):
    """Whether it runs; one that has ended and whom nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_killed_anywhere_and_run_again_gives_the_same_bytes(
    small_data, tmp_path, delay
):
    command = [
        *(sys.executable, "-m", "t2t_mm.bin.mm_datagen", "--num_processes=2"),
        f"--problem={','.join(NAMES)}",
        f"--data_dir={tmp_path / 'data'}",
        f"--tmp_dir={tmp_path / 'tmp'}",
        f"--t2t_usr_dir={pathlib.Path(__file__).parent / 'small_problems'}",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "data" / ".generating").exists())
    wait_for(lambda: len(psutil.Process(process.pid).children()) >= 2)
    time.sleep(delay)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(is_alive(child) for child in children))
    finished = contents(small_data)
    for name, content in contents(tmp_path / "data").items():
        assert content == finished[name]
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / "data") == finished
    assert not (tmp_path / "data" / ".generating").exists()


@pytest.mark.parametrize("number", [0, 50, 73, 74, 100, 140])
def test_a_full_disk_leaves_no_half_file(small_problems, tmp_path, monkeypatch, number):
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")
        fail_after(patch, number, full)
        with pytest.raises(OSError, match="No space left on device"):
            generate(tmp_path, ["small_colours"])
    left = contents(tmp_path / "data")
    assert not (tmp_path / "data" / ".generating").exists()
    assert not [name for name in os.listdir(tmp_path / "data") if "partial" in name]
    made = generate(tmp_path, ["small_colours"])
    finished = contents(tmp_path / "data")
    assert made and {name: finished[name] for name in left} == left


def test_left_overs_of_a_killed_run_are_removed(small_problems, tmp_path):
    folder = tmp_path / "data"
    (folder / ".generating").mkdir(parents=True)
    (folder / ".generating" / "junk").write_text("x")
    (folder / ".small_colours-train-00001-of-00010.1a2b.partial").write_text("x")
    generate(tmp_path, ["small_colours"])
    hidden = [name for name in os.listdir(folder) if name.startswith(".")]
    assert hidden == [".datagen.lock"]


def test_a_folder_that_cannot_be_written_is_named(small_problems, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OSError, match=r"--data_dir=.*data cannot be written"):
        generate(tmp_path)


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "old"])
def test_no_new_folder_stays_if_another_cannot_be_written(
    small_problems, tmp_path, is_there
):
    (tmp_path / "tmp").write_text("a file")
    if is_there:
        (tmp_path / "data").mkdir()
    data_dir = str(tmp_path / "data" / "of" / "mine")
    downloads = str(tmp_path / "tmp" / "downloads")
    with pytest.raises(OSError, match="--tmp_dir=.*downloads cannot be written .*; a "):
        datagen.generate_data(["small_colours"], data_dir, downloads)
    left = [os.path.relpath(path, tmp_path) for path in tmp_path.rglob("*")]
    assert sorted(left) == ["data", "tmp"][1 - is_there :]


@pytest.mark.skipif(os.name == "nt", reason="no lock there")
def test_two_at_once_in_one_folder_are_refused(small_problems, tmp_path):
    import fcntl

    (tmp_path / "data").mkdir()
    with open(tmp_path / "data" / ".datagen.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="Another mm-datagen is at work"):
            generate(tmp_path)


def with_bad_examples(self, split, tmp_dir):
    yield {"inputs": "a b", "targets": "b a"}
    yield {"inputs": "", "targets": "x"}
    yield {"inputs": "a"}
    yield {"inputs": "a", "targets": " "}
    yield {"inputs": "c", "targets": "c"}


def test_bad_examples_are_dropped_counted_and_shown_if_a_problem_says_so(
    small_problems, tmp_path, monkeypatch, capsys
):
    reverse = small_problems.SmallReverse
    monkeypatch.setattr(reverse, "generate", with_bad_examples)
    with pytest.raises(ValueError, match="Feature 'inputs' of example 1 .* is ''"):
        generate(tmp_path, ["small_reverse"])
    monkeypatch.setattr(reverse, "on_bad_example", "drop")
    made = generate(tmp_path, ["small_reverse"], progress=True)
    train = made["small_reverse"]["splits"]["train"]
    assert train["examples"] == 2
    assert train["dropped"]["reasons"] == {"empty": 2, "ragged": 1}
    assert train["dropped"]["first"].startswith("Feature 'inputs' of example 1")
    assert (
        "small_reverse: 3 of 5 examples of split 'train' dropped (empty 2, ragged 1). "
        "The first: Feature 'inputs' of example 1"
    ) in capsys.readouterr().err


def test_nothing_but_bad_examples_is_an_error(small_problems, tmp_path, monkeypatch):
    reverse = small_problems.SmallReverse
    bad = lambda self, split, tmp_dir: iter([{"inputs": "", "targets": "x"}])  # noqa: E731
    monkeypatch.setattr(reverse, "generate", bad)
    monkeypatch.setattr(reverse, "on_bad_example", "drop")
    with pytest.raises(ValueError, match="no example .* 1 bad ones were dropped. Feat"):
        generate(tmp_path, ["small_reverse"])


def test_a_wrong_example_is_named(small_problems, tmp_path):
    def wrong(self, split, tmp_dir):
        yield {"inputs": "a", "targets": "a"}
        yield {"inputs": "a", "targets": 5}

    small_problems.SmallReverse.generate = wrong
    with pytest.raises(TypeError) as caught:
        generate(tmp_path, ["small_reverse"])
    assert str(caught.value).startswith(
        "Feature 'targets' of example 1 of problem 'small_reverse' (split 'train') is "
        "5 (int)"
    )


def test_an_error_inside_generate_keeps_its_kind_and_says_where(
    small_problems, tmp_path
):
    def broken(self, split, tmp_dir):
        yield {"inputs": "a", "targets": "a"}
        raise KeyError("lost")

    small_problems.SmallReverse.generate = broken
    with pytest.raises(KeyError, match="lost") as caught:
        generate(tmp_path, ["small_reverse"])
    assert "'small_reverse', split 'train', example 1" in caught.value.__notes__[0]


def test_a_split_without_examples_is_refused(small_problems, tmp_path):
    small_problems.SIZES["dev"] = 0
    with pytest.raises(ValueError, match="yields no example for split 'dev'"):
        generate(tmp_path, ["small_colours"])


def test_an_unknown_name_is_refused(small_problems, tmp_path):
    with pytest.raises(ValueError, match="Nearest: small_colours"):
        generate(tmp_path, ["small_colour"])


def test_a_worker_that_dies_is_reported():
    with pytest.raises(OSError, match="worker processes died"):
        with workers.Workers(1, (), progress=False) as pool:
            list(pool.run(os._exit, [(1,)], label="x"))
