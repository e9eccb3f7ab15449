"""The shell of every command: flags, help, the user's folder, errors, exit codes."""

import errno
import subprocess
import sys

import gin
import pytest
from absl import flags

from t2t_mm import configuration, registry
from t2t_mm.bin import command, plugins


@pytest.fixture(autouse=True)
def clean_process(monkeypatch, own_registries):
    """What a test imports or registers is gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("toy_"):
            del sys.modules[name]


def define_flags(values):
    command.define_problem_flags(values)
    command.define_model_flags(values)
    command.define_run_flags(values)
    flags.DEFINE_integer("train_steps", 1000, "how many steps", flag_values=values)
    flags.DEFINE_float("rate", 1.0, "how fast", lower_bound=0, flag_values=values)
    moods = ["good", "merry"]
    flags.DEFINE_enum("mood", "good", moods, "how it feels", flag_values=values)
    command.define_dropped_flags(
        values, {"worker_gpu": "Use --strategy=mirrored.", "use_tpu": "It is gone."}
    )


def run(arguments, body=lambda values: None, **options):
    return command.run(
        "mm-toy", body, "Does a toy thing.", define_flags, arguments, **options
    )


def test_the_body_gets_the_parsed_flags(tmp_path):
    seen = {}

    def body(values):
        seen.update(problem=values.problem, steps=values.train_steps)

    assert run(["--problem=a,b", "--train_steps", "7"], body) == 0
    assert seen == {"problem": "a,b", "steps": 7}


def test_two_runs_in_one_process_share_nothing():
    seen = []
    run(["--train_steps=7"], lambda values: seen.append(values.train_steps))
    run([], lambda values: seen.append(values.train_steps))
    assert seen == [7, 1000]


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    seen = []
    run(["--data_dir=~/shards"], lambda values: seen.append(values.data_dir))
    assert seen == ["/home/someone/shards"]


def test_help_lists_the_flags_with_defaults_and_not_the_dropped_ones(capsys):
    assert run(["--help"], required=("problem",)) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mm-toy [flags]\n\nDoes a toy thing.\n")
    assert "--train_steps=\n      how many steps (default: 1000)" in text
    assert "--t2t_usr_dir=" in text and "--gin_binding=" in text
    assert "worker_gpu" not in text and "repeat this option" not in text


@pytest.mark.parametrize("spelling", ["-h", "-help", "--help"])
def test_help_has_three_spellings(spelling, capsys):
    assert run([spelling]) == 0
    assert "usage: mm-toy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--problm=x"],
            "--problm came, which is no flag of mm-toy. Did you mean --problem? `mm-",
        ),
        (["--xyz"], "--xyz came, which is no flag of mm-toy. `mm-toy --help` lists"),
        (["--train_steps=many"], "--train_steps=many came; expected an integer. `mm-"),
        (["--rate=nan"], "--rate=nan came; expected a number."),
        (["--rate=-1"], "--rate=-1 came; expected a non-negative number. `mm-toy"),
        (["--mood=bad"], "--mood=bad came; expected one of good, merry. `mm-toy"),
        (["--debug=perhaps"], "--debug=perhaps came; expected true or false."),
        (["--nodebug=1"], "--nodebug=1 came; expected --nodebug alone."),
        (["--train_steps"], "--train_steps came without a value; expected --train_st"),
        (
            ["translate"],
            "'translate' came without a flag's name; expected --flag=value",
        ),
        (["--worker_gpu=4"], "that is gone. Use --strategy=mirrored."),
        (["--worker_gpu", "4"], "that is gone. Use --strategy=mirrored."),
        (["--use_tpu"], "--use_tpu is a flag of Tensor2Tensor that is gone."),
        (["--nouse_tpu"], "--use_tpu is a flag of Tensor2Tensor that is gone."),
        ([], "No value came for --problem. Expected: --problem: a problem, a mixture"),
        (["--problem="], "No value came for --problem."),
    ],
)
def test_a_wrong_flag_is_one_message_and_exit_code_2(arguments, message, capsys):
    assert run(arguments, required=("problem",)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("mm-toy: ")
    assert message in printed
    assert printed.count("\n") == 1 and "Traceback" not in printed


def check_of_ours(values):
    configuration.parse_overrides("hidden_size", configuration.HParams())


def test_a_check_of_ours_is_one_message_and_exit_code_2(capsys):
    assert run([], check_of_ours) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(
        "mm-toy: --hparams has 'hidden_size'; expected name=value"
    )
    assert "Traceback" not in printed


def test_debug_shows_the_traceback_too(capsys):
    assert run(["--debug"], check_of_ours) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_in_a_program_keeps_its_traceback_and_is_exit_code_1(capsys):
    assert run([], lambda values: int("x")) == 1
    assert "Traceback" in capsys.readouterr().err
    assert run([], lambda values: {}["x"]) == 1
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "No space left on device: /data/x. Free some space or choose a folder on",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data"),
            "Permission denied: /data. Choose a folder that you may write to.",
        ),
        (FileNotFoundError(errno.ENOENT, "Not there", "/x"), "Not there: /x. Check"),
        (OSError("the disk is on fire"), "the disk is on fire"),
    ],
)
def test_an_answer_of_the_file_system_is_one_message(error, message, capsys):
    def body(values):
        raise error

    assert run([], body) == 2
    printed = capsys.readouterr().err
    assert f"mm-toy: {message}" in printed and "Traceback" not in printed


def test_the_file_systems_advice_comes_through_gin_too(capsys):
    @gin.configurable("full_disk")
    def body(values):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    assert run([], body) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("mm-toy: No space left on device: /data/x. Free some sp")
    assert "configurable" not in printed


def test_ctrl_c_is_exit_code_130(capsys):
    def body(values):
        raise KeyboardInterrupt

    assert run([], body) == 130
    assert "mm-toy: stopped by Ctrl-C." in capsys.readouterr().err


def test_the_bodys_exit_code_is_the_commands():
    assert run([], lambda values: 3) == 3


def test_a_positional_argument_stands_for_its_flag():
    seen = []
    body = lambda values: seen.append(values.problem)  # noqa: E731
    assert run(["translate"], body, positional="problem") == 0
    assert seen == ["translate"]
    assert run(["translate", "more"], body, positional="problem") == 2


def test_hparams_come_from_set_gin_and_flag():
    @registry.register_hparams
    def toy_set():
        """Toy."""
        return configuration.HParams(hidden_size=7, dropout=0.5)

    made = []

    def body(values):
        command.read_gin(values)
        made.append(command.hparams_from_flags(values))

    arguments = ["--hparams_set=toy_set", "--gin_binding=hparams.hidden_size=11"]
    assert run([*arguments, "--hparams=max_length=13"], body) == 0
    assert (made[0].hidden_size, made[0].dropout, made[0].max_length) == (11, 0.5, 13)


PROBLEM = """
from t2t_mm import Feature, Problem, register_problem

@register_problem
class {name}(Problem):
    "From a user's folder."
    inputs = targets = Feature("text", vocabulary="bytes")
    command = "To-Toy"
"""


def test_a_folder_without_init_brings_every_file_in_it(tmp_path):
    folder = tmp_path / "toy_loose"
    folder.mkdir()
    (folder / "one.py").write_text(PROBLEM.format(name="ToyOne"))
    (folder / "two.py").write_text(PROBLEM.format(name="ToyTwo"))
    (folder / "notes.txt").write_text("not Python")
    command.load_zoo(str(folder))
    assert {"toy_one", "toy_two"} <= set(registry.problems.names())
    command.load_zoo(str(folder) + "/")  # a second time in one process is fine


def test_a_folder_with_init_is_a_package_that_says_what_it_imports(tmp_path):
    folder = tmp_path / "toy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import used\n")
    (folder / "used.py").write_text(PROBLEM.format(name="ToyUsed"))
    (folder / "unused.py").write_text(PROBLEM.format(name="ToyUnused"))
    command.load_zoo(str(folder))
    assert "toy_used" in registry.problems
    assert "toy_unused" not in registry.problems


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "x = (\n",
            "toy_broken/one.py:1 cannot be imported: SyntaxError: '(' was never",
        ),
        ("\nimport toy_none\n", "one.py:2 cannot be imported: ModuleNotFoundError: No"),
        (
            "1 / 0\n",
            "one.py:1 cannot be imported: ZeroDivisionError: division by zero.",
        ),
        ("x = 1\n", "registered nothing; expected a decorator such as"),
    ],
)
def test_a_broken_file_of_the_user_is_named(tmp_path, content, message, capsys):
    folder = tmp_path / "toy_broken"
    folder.mkdir()
    (folder / "one.py").write_text(content)
    arguments = ["--registry_help", f"--t2t_usr_dir={folder}"]
    assert run(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed


def test_a_name_of_the_user_that_is_taken_names_both_places(tmp_path, capsys):
    @registry.register_problem(name="toy_taken")
    class Taken:
        """Is here already."""

    folder = tmp_path / "toy_again"
    folder.mkdir()
    (folder / "one.py").write_text(PROBLEM.format(name="ToyTaken"))
    assert run(["--registry_help", f"--t2t_usr_dir={folder}"]) == 2
    printed = capsys.readouterr().err
    assert "problem 'toy_taken' is registered twice" in printed
    assert "command_test.py:" in printed and "one.py:" in printed


@pytest.mark.parametrize("name", ["numpy", "t2t_mm", "toy-dash.dot"])
def test_a_folder_whose_name_cannot_be_imported_is_refused(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "one.py").write_text(PROBLEM.format(name="ToyNamed"))
    with pytest.raises(ValueError, match="Rename the folder"):
        plugins.import_user_dir(str(folder))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder; expected one with Python"):
        plugins.import_user_dir(str(tmp_path / "none"))


def test_a_plug_in_that_fails_names_its_package(monkeypatch):
    class Distribution:
        name = "toy-plugins"

    class Broken:
        name, value, dist = "toys", "toy_none.toys", Distribution()

        def load(self):
            raise ImportError("No module named 'toy_none'")

    monkeypatch.setattr(
        plugins.importlib.metadata, "entry_points", lambda group: [Broken()]
    )
    with pytest.raises(ValueError, match="'toys' .* package 'toy-plugins' cannot be"):
        plugins.import_plugins()


def test_registry_help_prints_the_menu_of_every_command(capsys):
    assert run(["--registry_help"], required=("problem",)) == 0
    assert "metrics (" in capsys.readouterr().out


def test_an_error_of_ours_in_a_worker_process_is_a_message(capsys):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    def body(values):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(
                configuration.parse_overrides, "x", configuration.HParams()
            ).result()

    assert run([], body) == 2
    assert capsys.readouterr().err.startswith("mm-toy: --hparams has 'x'")


def test_an_error_of_ours_inside_a_compiled_function_is_a_message(capsys):
    import tensorflow as tf

    @tf.function
    def compiled(x):
        configuration.parse_overrides("x", configuration.HParams())
        return x

    assert run([], lambda values: compiled(tf.constant(1))) == 2
    assert capsys.readouterr().err.startswith("mm-toy: --hparams has 'x'; expected")


def test_a_reader_that_goes_away_is_no_error():
    code = (
        "import sys\n"
        "from t2t_mm.bin import mm_registry\n"
        "sys.exit(mm_registry.main(['--json']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    process.wait()
    assert errors == ""
