"""What README and docs show works: every Python block, every flag of every command."""

import importlib
import pathlib
import re
import shlex

import numpy as np
import pytest
from absl import flags

from t2t_mm import registry
from t2t_mm.bin import command, command_line, plugins
from t2t_mm.problem import get_problem

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    fenced = re.findall(
        r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [text for kind, text in fenced if kind == language]


def import_block(text, folder, name):
    """Gives a block to the package the way a user does."""
    (folder / name).mkdir()
    (folder / name / "mine.py").write_text(text)
    plugins.import_user_dir(str(folder / name))


def block_with(page, text):
    return next(block for block in blocks(ROOT / page, "python") if text in block)


@pytest.mark.parametrize(
    ("page", "class_name"),
    [("README.md", "ReverseDigits"), ("docs/new_problem.md", "SortLetters")],
)
def test_the_problem_of_the_page_is_found_and_generates(
    page, class_name, tmp_path, own_registries, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    block = block_with(page, class_name)
    import_block(block, tmp_path, f"docs_{class_name.lower()}")
    problem = get_problem(registry.snake_case(class_name))
    example = next(problem.generate("dev", str(tmp_path)))
    assert sorted(example["inputs"].split()) == sorted(example["targets"].split())
    body = [row for row in block.splitlines() if row.startswith("    ") and row.strip()]
    assert len(body) <= 10


def test_the_mixture_and_the_vocabulary_of_the_page_are_found(
    tmp_path, own_registries, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    page = "docs/new_problem.md"
    text = block_with(page, "register_mixture") + block_with(page, "VocabularySpec")
    import_block(text, tmp_path, "docs_mixture")
    assert registry.mixtures.get("sorted_and_reversed")().rates
    assert registry.vocabularies.get("words")().size == 4096


def test_the_set_of_the_page_is_found(tmp_path, own_registries, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    text = block_with("docs/hparams.md", "multimodel_wider")
    import_block(text, tmp_path, "docs_set")
    assert registry.hparams.get("multimodel_wider")().hidden_size == 192


def test_the_model_of_the_page_learns_a_batch(tmp_path, own_registries, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    import_block(block_with("docs/new_model.md", "Averager"), tmp_path, "docs_model")
    import tensorflow as tf

    from t2t_mm.models import build_model

    problem = get_problem("algorithmic_sort_letters")
    hparams = registry.hparams.get("averager_tiny")()
    model = build_model("averager", hparams, [problem], {"bytes": 259})
    ids = np.array([[5, 7, 1], [3, 1, 0]], np.int32)
    batch = {"inputs": ids, "inputs_mask": ids > 0, "targets": ids}
    batch = {key: tf.constant(value) for key, value in batch.items()}
    batch["targets_mask"] = batch["inputs_mask"]
    with tf.GradientTape() as tape:
        losses = model.losses_of(problem.name, batch, training=True)
        loss = losses["loss_sum"] / losses["weight"]
    gradients = tape.gradient(loss, model.trainable_variables)
    assert float(losses["weight"]) == 5
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path


def shown_commands():
    for page in PAGES:
        for block in blocks(page, ""):
            joined = re.sub(r"\\\n\s*", " ", block)
            for line in re.findall(
                r"^(?:echo .*\| )?(mm-\w+ .*)$", joined, re.MULTILINE
            ):
                if " ... " not in line and not re.match(r"mm-\w+: ", line):
                    yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(shown_commands()))
def test_every_flag_that_is_shown_exists(line):
    name, *arguments = shlex.split(line, comments=True)
    module = importlib.import_module(f"t2t_mm.bin.{name.replace('-', '_')}")
    values = flags.FlagValues()
    module.define_flags(values)
    command._define_shared_flags(values, reads_gin=True)
    positional = {"mm-registry": "name", "mm-report": "output_dir"}.get(name)
    command_line.parse_flags(values, name, arguments, positional)
