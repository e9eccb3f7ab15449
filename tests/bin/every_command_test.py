"""What holds for each command: help, the menu, and no traceback for wrong flags."""

import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMANDS = sorted(
    path.stem.removeprefix("mm_") for path in (ROOT / "t2t_mm/bin").glob("mm_*.py")
)


@pytest.fixture(params=COMMANDS)
def module(request, own_registries):
    return importlib.import_module(f"t2t_mm.bin.mm_{request.param}")


def test_setup_installs_these_commands():
    text = (ROOT / "setup.py").read_text("utf-8")
    listed = re.search(r"COMMANDS = \[(.*?)\]", text, re.DOTALL)
    assert sorted(re.findall(r'"(\w+)"', listed[1])) == COMMANDS


def test_help_says_what_the_command_does(module, capsys):
    assert module.main(["--help"]) == 0
    text = capsys.readouterr().out
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    assert text.startswith(f"usage: {name} ")
    assert module.__doc__.splitlines()[0] in text
    assert all(len(line) <= 90 for line in text.splitlines())


def test_the_menu_comes_before_any_other_flag_is_asked_for(module, capsys):
    assert module.main(["--registry_help"]) == 0
    assert "multimodel_tiny" in capsys.readouterr().out


def test_an_unknown_flag_is_a_message(module, capsys):
    assert module.main(["--no_such_flag=1"]) == 2
    assert "--no_such_flag came, which is no flag of mm-" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["decoder", "eval", "report"])
def test_a_folder_that_is_no_run_is_a_message(name, own_registries, capsys, tmp_path):
    module = importlib.import_module(f"t2t_mm.bin.mm_{name}")
    arguments = [f"--output_dir={tmp_path / 'none'}"]
    arguments += ["--problem=image_emoji"] if name == "decoder" else []
    assert module.main(arguments) == 2
    printed = capsys.readouterr().err
    assert str(tmp_path / "none") in printed and "Traceback" not in printed
