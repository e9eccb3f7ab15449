"""Laws that every problem of the zoo keeps, on stand-ins or real downloads."""

import subprocess
import sys

import pytest

import t2t_mm.metrics  # noqa: F401
import t2t_mm.problems  # noqa: F401
from t2t_mm import registry
from t2t_mm.problem import CLASS_LABEL, get_problem
from t2t_mm.testing import run_problem_test

PROBLEMS = [
    name
    for name in registry.problems.names()
    if registry.problems.get(name).__module__.startswith("t2t_mm.problems.")
]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_keeps_its_promises(name, tmp_dir):
    run_problem_test(name, tmp_dir)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_says_what_it_is_and_whose_data_it_uses(name):
    problem = get_problem(name)
    assert problem.licence != "not stated"
    assert problem.command.startswith("To-")
    assert registry.problems.describe(name).endswith((".", ")"))


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_download_is_pinned(name):
    for download in get_problem(name).downloads:
        assert len(download.sha256) == 64
        assert download.version.split("-")[0] in download.filename
        assert download.channel in ("pip", "apt")


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_answer_of_a_class_problem_is_a_label(name, tmp_dir):
    problem = get_problem(name)
    if problem.targets.modality == CLASS_LABEL:
        answers = {e["targets"] for e in problem.generate("dev", tmp_dir)}
        assert answers <= set(problem.targets.labels)


def test_importing_the_index_loads_no_heavy_library():
    code = (
        "import sys, t2t_mm.problems; print([name for name in ('tensorflow', 'keras', "
        "'PIL', 'soundfile', 'spacy', 'scipy') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
