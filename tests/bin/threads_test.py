"""The flags for TensorFlow's threads: who has them, what they set, mistakes."""

import importlib
import os
import subprocess
import sys

import pytest

from tests.bin.every_command_test import COMMANDS

FLAGS = ["--intra_op_parallelism_threads", "--inter_op_parallelism_threads"]
RUN_A_NETWORK = ["bleu", "decoder", "eval", "export", "serve", "trainer"]
# The folder is no run: each command says so, after it has started TensorFlow.
NUMBERS = """
def config():
    import tensorflow as tf

    threading = tf.config.threading
    return [
        threading.get_intra_op_parallelism_threads(),
        threading.get_inter_op_parallelism_threads(),
    ]
"""
PROGRAM = """
import sys
from t2t_mm.bin import mm_eval, mm_trainer

file = "--output_dir=" + sys.argv[1]
flags = ["--intra_op_parallelism_threads=1", "--inter_op_parallelism_threads=2"]
print(mm_eval.main([file]), config())
print(mm_trainer.main([file, "--train_steps=1", flags[1]]), config())
print(mm_trainer.main([file, "--train_steps=1", *flags]), config())

import tensorflow as tf

tf.zeros([2]) + 1.0
print(mm_eval.main([file, *flags]), config())
print(mm_eval.main([file, "--intra_op_parallelism_threads=3"]), config())
print(mm_eval.main([file, "--inter_op_parallelism_threads=3"]), config())
"""
FLAGLESS = """
import sys
from t2t_mm.bin import mm_eval, threads

file = "--output_dir=" + sys.argv[1]
threads.num_processors = lambda: 3
print(mm_eval.main([file]), config())
threads.num_processors = lambda: 2
print(mm_eval.main([file]), config())
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_run_a_network_list_both_flags_and_no_others(
    name, own_registries, capsys
):
    module = importlib.import_module(f"t2t_mm.bin.mm_{name}")
    assert module.main(["--help"]) == 0
    text = capsys.readouterr().out
    listed = [f"  {flag}=" in text.splitlines() for flag in FLAGS]
    assert listed == [name in RUN_A_NETWORK] * 2


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("value", ["-1", "1025", "two", "1.5", ""])
@pytest.mark.parametrize("name", RUN_A_NETWORK)
def test_a_wrong_number_is_refused_before_any_work(
    name, value, flag, own_registries, capsys
):
    module = importlib.import_module(f"t2t_mm.bin.mm_{name}")
    assert module.main([f"{flag}={value}"]) == 2
    assert capsys.readouterr().err == (
        f"mm-{name}: {flag}={value} came; expected an integer in the range [0, 1024]. "
        f"`mm-{name} --help` lists the flags.\n"
    )


def test_other_commands_do_not_know_the_flags(own_registries, capsys):
    module = importlib.import_module("t2t_mm.bin.mm_datagen")
    assert module.main([f"{FLAGS[0]}=1"]) == 2
    assert f"{FLAGS[0]} came, which is no flag of mm-datagen" in capsys.readouterr().err


def test_scoring_a_file_refuses_them_since_no_network_runs(
    own_registries, capsys, tmp_path
):
    module = importlib.import_module("t2t_mm.bin.mm_bleu")
    path = tmp_path / "lines.txt"
    path.write_text("one\n", "utf-8")
    arguments = [f"--translation={path}", f"--reference={path}", f"{FLAGS[0]}=1"]
    assert module.main(arguments) == 2
    assert f"--translation came with {FLAGS[0]}" in capsys.readouterr().err


def run_program(program, path, **environment):
    return subprocess.run(
        [sys.executable, "-c", NUMBERS + program, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        check=True,
    )


def test_without_flags_operations_stay_whole_on_few_processors_only(tmp_path):
    path = tmp_path / "no_run"
    path.write_text("a file", "utf-8")
    done = run_program(FLAGLESS, path, TF_NUM_INTRAOP_THREADS="")
    assert done.stdout.splitlines() == [
        "2 [0, 0]",  # three processors
        "2 [1, 0]",  # two
    ]


@pytest.mark.parametrize(
    ("before", "number"),
    [
        ("tf.config.threading.set_intra_op_parallelism_threads(5)", 5),
        ("tf.zeros([2]) + 1.0", 0),  # TensorFlow has started its threads
    ],
)
def test_threads_of_a_plug_in_or_a_program_stay_and_are_no_mistake(
    before, number, tmp_path
):
    path = tmp_path / "no_run"
    path.write_text("a file", "utf-8")
    program = f"import tensorflow as tf\n{before}\n{FLAGLESS}"
    done = run_program(program, path, TF_NUM_INTRAOP_THREADS="")
    assert done.stdout.splitlines() == [f"2 [{number}, 0]"] * 2
    assert "started its threads" not in done.stderr


def test_the_flags_reach_tensorflow_and_too_late_is_a_message(tmp_path):
    path = tmp_path / "no_run"
    path.write_text("a file", "utf-8")
    done = run_program(PROGRAM, path, TF_NUM_INTRAOP_THREADS="2")
    assert done.stdout.splitlines() == [
        "2 [0, 0]",
        "2 [0, 2]",
        "2 [1, 2]",
        "2 [1, 2]",
        "2 [1, 2]",
        "2 [1, 2]",
    ]
    messages = [line for line in done.stderr.splitlines() if line.startswith("mm-")]
    assert len(messages) == 6 and "Traceback" not in done.stderr
    for message in messages[:4]:
        assert str(path) in message
    for message, flag in zip(messages[4:], FLAGS, strict=True):
        assert message.startswith(
            f"mm-eval: {flag}=3 came, but TensorFlow had started its threads; they "
            "were expected to start later. Let no file of --t2t_usr_dir"
        )
