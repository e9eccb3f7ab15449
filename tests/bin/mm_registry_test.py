"""mm-registry: the menu, one name, JSON, and no TensorFlow."""

import json
import resource
import subprocess
import sys

import pytest

from t2t_mm import configuration, registry
from t2t_mm.bin import menu, mm_registry
from t2t_mm.problem import Feature, Problem


@pytest.fixture(autouse=True)
def toys(own_registries):
    @registry.register_hparams
    def toy_tiny():
        """Smallest of toys.

        Not run.
        """
        return configuration.HParams(hidden_size=7)

    words = Feature("text", vocabulary="words")
    attributes = {"inputs": words, "targets": words, "command": "To-Toy"}
    registry.register_problem(
        type("ToyProblem", (Problem,), {"__doc__": "Toy to toy.", **attributes})
    )


def test_the_menu_is_grouped_with_a_line_about_each(capsys):
    assert mm_registry.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line.startswith("  toy_")]
    assert ["toy_problem", "Toy to toy."] in rows
    assert ["toy_tiny", "Smallest of toys."] in rows
    heads = [line.split(" (")[0] for line in lines if line and line[0] != " "]
    assert heads == [kind for kind in registry.ALL if kind in heads]
    assert heads.index("problems") < heads.index("hparams sets")


def test_a_filter_leaves_the_names_that_contain_it(capsys):
    assert mm_registry.main(["--filter=toy_t"]) == 0
    assert capsys.readouterr().out == (
        "hparams sets (1)\n  toy_tiny  Smallest of toys.\n"
    )


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_filter_that_no_name_contains_is_an_error(more, capsys):
    assert mm_registry.main(["--filter=toy_tinny", *more]) == 2
    assert "No name contains 'toy_tinny'. Nearest: toy_tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy_tiny", "--filter=toy"], "--filter=toy came with the name toy_tiny; exp"),
        (["toy_tiny", "more"], "'more' came beside the name, without a flag's name"),
    ],
)
def test_two_questions_at_once_are_refused(arguments, message, capsys):
    assert mm_registry.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_one_name_shows_all_about_it(capsys):
    assert mm_registry.main(["toy_tiny"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("toy_tiny, in hparams sets, from ")
    assert "Not run." in text and "  hidden_size = 7" in text
    assert mm_registry.main(["toy_problem"]) == 0
    assert "  command = To-Toy" in capsys.readouterr().out


def test_an_unknown_name_is_answered_with_the_nearest(capsys):
    assert mm_registry.main(["toy_tinny"]) == 2
    assert "Nothing is called 'toy_tinny'. Nearest: toy_tiny" in capsys.readouterr().err


def test_json_is_the_same_menu(capsys):
    assert mm_registry.main(["--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == menu.menu()
    assert list(shown) == list(registry.ALL)
    assert mm_registry.main(["--json", "toy_tiny"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["hparams sets"]["values"]["hidden_size"] == 7


def test_every_entry_has_a_line_about_it():
    for kind, entries in menu.menu().items():
        for name, line in entries.items():
            assert line, f"{kind}: {name} has no docstring"


def test_the_menu_comes_without_tensorflow_and_in_less_than_a_second():
    code = (
        "import sys\n"
        "from t2t_mm.bin import mm_registry\n"
        "assert mm_registry.main([]) == 0\n"
        "heavy = {'tensorflow', 'keras', 'spacy', 'matplotlib', 'scipy'}\n"
        "sys.exit(sorted(heavy & set(sys.modules)) or 0)\n"
    )
    # Time of the processor: others may be at work on the machine.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime - before.ru_utime < 1


def test_a_problems_columns_are_told_in_words(capsys):
    assert mm_registry.main(["toy_problem"]) == 0
    assert "  inputs = text in vocabulary 'words'\n" in capsys.readouterr().out


def test_a_name_that_needs_tensorflow_is_shown_in_silence():
    done = subprocess.run(
        [sys.executable, "-m", "t2t_mm.bin.mm_registry", "transformer"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Encoder-decoder Transformer" in done.stdout
    assert done.stderr == ""
