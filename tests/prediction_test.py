"""What a loaded run answers is what its network says."""

import gc
import json
import shutil
import sys
import weakref

import numpy as np
import pytest

from t2t_mm import datagen, prediction, registry
from t2t_mm.bin import command, plugins
from t2t_mm.configuration import HParams
from t2t_mm.inference import load_run
from t2t_mm.models import build_model
from t2t_mm.prediction import answers, longest_answer, predict
from t2t_mm.problem import get_problem
from t2t_mm.raw_inputs import make_batch
from t2t_mm.vocabulary import ByteVocabulary
from tests.made.models import Sum
from tests.made.runs import write_run

LABELS = {"even", "odd", "none"}


WORDS = ["7", "31", "abc", "", "long and longer"]


NAMES = ("told_backwards", "told_again", "told_kind")


# In a user's folder, since datagen's processes must import it, too.
USER_FILE = '''
from t2t_mm import Feature, Problem, register_problem

BYTES = Feature("text", vocabulary="bytes")
KINDS = Feature("class_label", vocabulary="kinds", labels=("even", "odd", "none"))

@register_problem
class ToldBackwards(Problem):
    """Writes a number backwards, three times."""
    inputs = targets = BYTES
    command = "To-Reversed"
    def generate(self, split, tmp_dir):
        for i in range(11):
            yield {"inputs": str(i), "targets": str(i)[::-1] * 3}

@register_problem
class ToldAgain(ToldBackwards):
    """The same features, another command."""
    command = "To-Copy"

@register_problem
class ToldKind(Problem):
    """Says whether a number is even."""
    inputs, targets = BYTES, KINDS
    command = "To-Category"
    def generate(self, split, tmp_dir):
        for i in range(11):
            yield {"inputs": str(i), "targets": KINDS.labels[i % 2]}
'''


def sums_tiny():
    """Smallest."""
    return HParams(hidden_size=6, max_length=12, dropout=0.5)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Registers the problems, the model and its set for this module.

    `registries_of_the_module` takes them out again.
    """
    folder = tmp_path_factory.mktemp("told_problems")
    (folder / "told.py").write_text(USER_FILE)
    command.load_zoo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        plugins.import_user_dir(str(folder))
        registry.register_model(Sum)
        registry.register_hparams(sums_tiny)
        yield


@pytest.fixture(scope="module")
def data_dir(told, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data"))
    datagen.generate_data(NAMES, folder, folder, num_processes=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def vocabularies():
    return {"bytes": ByteVocabulary("bytes")}


@pytest.fixture(scope="module")
def saved(told, data_dir, tmp_path_factory):
    """(folder of a run as the trainer leaves it, at step 5; its network)."""
    folder = str(tmp_path_factory.mktemp("run"))
    set_and_hparams = "sums_tiny", sums_tiny()
    return folder, write_run(
        folder, "sum", *set_and_hparams, NAMES, data_dir, seed=3, steps=(5,)
    )


@pytest.fixture(scope="module")
def run_dir(saved):
    return saved[0]


@pytest.fixture(scope="module")
def model(saved):
    return saved[1]


@pytest.fixture(scope="module")
def run(run_dir):
    return load_run(run_dir)


def answers_of(model, name, vocabularies, texts=WORDS, **options):
    problem = get_problem(name)
    batch = make_batch(problem.inputs, texts, vocabularies)
    return answers(model, problem, batch, vocabularies, **options)


def test_a_loaded_run_answers_as_the_model_that_was_saved(run, model, vocabularies):
    assert (run.step, run.record["model"]) == (5, "sum")
    for name, longest in (("told_backwards", 11), ("told_kind", 1)):
        got = run.generate(name, WORDS)
        expected = answers_of(model, name, vocabularies, max_length=longest)
        assert [one.output for one in got] == [one.output for one in expected]
        scores = [[one.score for one in found] for found in (got, expected)]
        np.testing.assert_allclose(*scores, rtol=1e-4)


def test_answers_come_in_order_whatever_the_batches(run):
    together = run.generate("told_backwards", WORDS)
    assert len({answer.output for answer in together}) > 1
    for batch_size in (1, 2):
        found = run.generate(
            "told_backwards", WORDS, decode_hparams={"batch_size": batch_size}
        )
        for one, other in zip(found, together, strict=True):
            assert one.output == other.output
            assert one.score == pytest.approx(other.score, rel=1e-4)


def test_labels_come_ranked_with_their_probabilities(run):
    for answer in run.generate("told_kind", WORDS):
        labels, probabilities = zip(*answer.ranked, strict=True)
        assert set(labels) == LABELS
        assert sum(probabilities) == pytest.approx(1, rel=1e-4)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        assert answer.output == str(answer) == answer.ranked[0][0]
        assert answer.probability == pytest.approx(answer.ranked[0][1], rel=1e-5)
        assert answer.penalized == answer.score


def test_predictions_are_what_metrics_compare(model, vocabularies):
    for name, kind in (("told_backwards", str), ("told_kind", list)):
        problem = get_problem(name)
        batch = make_batch(problem.inputs, WORDS, vocabularies)
        found = predict(model, problem, batch, vocabularies, max_length=3)
        assert [type(one) for one in found] == [kind] * len(WORDS)
    assert set(found[0]) == LABELS


def test_an_answer_may_be_a_bit_longer_than_the_longest_target(run, data_dir):
    # The longest is 10 backwards, three times: 6 bytes and EOS.
    assert run.max_target_length("told_backwards") == 7 + 4
    assert run.max_target_length("told_kind") == 1
    few = HParams(max_length=9)
    assert longest_answer(run.problem("told_backwards"), data_dir, few) == 9


def test_a_command_asks_for_another_product(run):
    copied = run.generate("told_backwards", WORDS, command="To-Copy")
    assert copied == run.generate("told_again", WORDS)
    own = run.generate("told_backwards", WORDS)
    assert [one.score for one in copied] != [one.score for one in own]
    with pytest.raises(ValueError, match="Command 'To-Latin' came; this model knows"):
        run.generate("told_backwards", WORDS, command="To-Latin")


def test_problems_of_the_same_features_share_a_decoder(model, vocabularies):
    for name in NAMES:
        answers_of(model, name, vocabularies, max_length=2)
    assert len(prediction._COMPILED[model]._functions) == 2


def test_compiled_decoders_go_with_their_model(told, vocabularies):
    problem = get_problem("told_kind")
    sizes = {"bytes": 259, "kinds": 3}
    model = build_model("sum", sums_tiny(), [problem], sizes)
    answers_of(model, "told_kind", vocabularies)
    seen = weakref.ref(model)
    compiled = weakref.ref(prediction._COMPILED[model])
    del model
    gc.collect()
    assert (seen(), compiled()) == (None, None)


def test_a_checkpoint_is_chosen_by_step(run_dir):
    assert load_run(run_dir, step="best").step == load_run(run_dir, step=5).step == 5
    with pytest.raises(ValueError, match="has no checkpoint of step 6; it has: 5"):
        load_run(run_dir, step=6)


def test_another_problem_than_the_runs_is_refused(run):
    with pytest.raises(ValueError, match="knows no problem 'image_emoji'; it was tra"):
        run.generate("image_emoji", ["a.png"])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run: run.json or hparams"):
        load_run(str(tmp_path))


def test_another_vocabulary_than_the_runs_is_refused(run_dir, tmp_path):
    shutil.copy(f"{run_dir}/hparams.json", tmp_path)
    with open(f"{run_dir}/run.json", encoding="utf-8") as file:
        record = json.load(file)
    record["vocabularies"]["bytes"] = "0" * 64
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match="Vocabulary 'bytes' in .* is not the one that"
    ):
        load_run(str(tmp_path))
