import concurrent.futures
import gc
import json
import shutil
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import datagen, prediction, registry
from t2t_mm.bin import command, plugins
from t2t_mm.checkpoints import Checkpoints
from t2t_mm.configuration import HParams
from t2t_mm.inference import load_run
from t2t_mm.mixture import Mixture
from t2t_mm.models import build_model
from t2t_mm.models.base import Model
from t2t_mm.optimizers import make_optimizer
from t2t_mm.prediction import answers, longest_answer, predict
from t2t_mm.problem import get_problem
from t2t_mm.raw_inputs import make_batch
from t2t_mm.run_settings import Settings, save_run
from t2t_mm.training_state import TrainingState
from t2t_mm.vocabulary import ByteVocabulary

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


class SumsUp(Model):
    """Adds the inputs' sum to the sum of the targets so far."""

    def build_body(self):
        pass

    def encode(self, x, mask, *, training):
        return x * tf.cast(mask, x.dtype)[..., None], {}

    def decode(self, y, mask, *, source, source_mask, training):
        return tf.cumsum(y, 1) + tf.reduce_sum(source, 1, keepdims=True), {}


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
        registry.register_model(SumsUp)
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
def model(told):
    keras.utils.set_random_seed(3)
    problems = [get_problem(name) for name in NAMES]
    return build_model("sums_up", sums_tiny(), problems, {"bytes": 259, "kinds": 3})


@pytest.fixture(scope="module")
def run_dir(model, data_dir, vocabularies, tmp_path_factory):
    """A run as the trainer leaves it, at step 5."""
    folder = str(tmp_path_factory.mktemp("run"))
    settings = Settings(
        "sums_up", "sums_tiny", sums_tiny(), Mixture(NAMES), data_dir, 1, True
    )
    prints = {name: words.fingerprint for name, words in vocabularies.items()}
    save_run(settings, folder, rates={}, vocabularies=prints, train_steps=5)
    optimizer = make_optimizer(sums_tiny(), model.trainable_variables, 5)
    state = TrainingState(model, optimizer, NAMES)
    state.step = 5
    Checkpoints(folder, state).save(is_best=True)
    return folder


@pytest.fixture(scope="module")
def run(run_dir):
    return load_run(run_dir)


def answers_of(model, name, vocabularies, texts=WORDS, **options):
    problem = get_problem(name)
    batch = make_batch(problem.inputs, texts, vocabularies)
    return answers(model, problem, batch, vocabularies, **options)


def test_a_loaded_run_answers_as_the_model_that_was_saved(run, model, vocabularies):
    assert (run.step, run.record["model"]) == (5, "sums_up")
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
    model = build_model("sums_up", sums_tiny(), [problem], sizes)
    answers_of(model, "told_kind", vocabularies)
    seen, before = weakref.ref(model), len(prediction._COMPILED)
    del model
    gc.collect()
    assert seen() is None
    assert len(prediction._COMPILED) == before - 1


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


# What follows asks a tiny MultiModel with inputs of every modality.

PICTURE = np.full((19, 17, 3), 50, np.uint8)
SOUND = np.sin(np.arange(1100) / 3).astype(np.float32)
SHORT = {"max_length": 5}
ASKED = {
    "small_reverse": "a b c",
    "small_tones": SOUND,
    "small_colours": PICTURE,
    "small_captions": PICTURE,
}


@pytest.fixture(scope="module")
def small(small_run, small_zoo):
    return load_run(small_run)


@pytest.mark.parametrize("name", ASKED)
def test_one_input_gives_one_answer_and_a_list_a_list(small, name):
    one = small.generate(name, ASKED[name], decode_hparams=SHORT)
    many = small.generate(name, [ASKED[name]] * 2, decode_hparams=SHORT)
    assert isinstance(many, list)
    assert str(one) == str(many[0]) == str(many[1])
    assert one.score == pytest.approx(many[0].score, rel=1e-4)
    assert small.generate(name, []) == []


def test_answers_come_in_order_though_batches_are_sorted_by_length(small):
    texts = ["a b c d e a b", "a", "b c d", "", "e d c b a e d c", "c"]
    few = small.generate("small_reverse", texts, decode_hparams="batch_size=2")
    for text, answer in zip(texts, few, strict=True):
        alone = small.generate("small_reverse", text)
        assert (str(alone), alone.source) == (str(answer), text)
        assert alone.score == pytest.approx(answer.score, rel=1e-3)


def test_a_targets_score_is_that_of_the_search_that_found_it(small):
    for name in ("small_reverse", "small_captions"):
        # Long enough to end, or else the score of the search has no end in it.
        found = small.generate(name, ASKED[name], decode_hparams="beam_size=4")
        if len(found.ids) + 1 < small.max_target_length(name):
            score = small.score(name, ASKED[name], str(found))
            assert float(score) == pytest.approx(found.score, rel=1e-3)
    scores = small.score("small_captions", [PICTURE] * 2, ["red", "a b"])
    for text, score in zip(["red", "a b"], scores, strict=True):
        assert score.tokens == (*text, "<EOS>")
        assert float(score) == pytest.approx(sum(score.log_probabilities), rel=1e-6)
        assert max(score.log_probabilities) <= 0


def test_probabilities_of_all_labels_add_up(small):
    labels = small.problem("small_colours").targets.labels
    scores = small.score("small_colours", [PICTURE] * 3, list(labels))
    assert sum(np.exp(float(one)) for one in scores) == pytest.approx(1, rel=1e-4)
    ranked = dict(small.generate("small_colours", PICTURE).ranked)
    for label, score in zip(labels, scores, strict=True):
        assert ranked[label] == pytest.approx(np.exp(float(score)), rel=1e-3)
        assert score.tokens == (label,)


def test_inputs_and_targets_must_be_as_many(small):
    with pytest.raises(ValueError, match="1 inputs came with 2 targets; expected one"):
        small.score("small_reverse", ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="A prefix came for 'small_colours', whose"):
        small.generate("small_colours", PICTURE, prefix="r")
    with pytest.raises(ValueError, match="2 values of prefix came with 1 inputs; expe"):
        small.generate("small_reverse", ["a"], prefix=["a", "b"])


def test_an_answer_begins_with_its_prefix(small):
    found = small.generate(
        "small_captions", [PICTURE] * 2, prefix=["all", "r"], decode_hparams=SHORT
    )
    assert str(found[0]).startswith("all") and str(found[1]).startswith("r")


def test_what_is_drawn_depends_on_number_and_seed_not_on_batches(small):
    texts = ["a b c", "b", "c d e a", "d"]
    drawn = {"temperature": 1.0, "max_length": 6}

    def outputs(asked, **options):
        found = small.generate("small_reverse", asked, **options)
        return [str(answer) for answer in found]

    whole = outputs(texts, decode_hparams=drawn)
    assert outputs(texts, decode_hparams=drawn | {"batch_size": 1}) == whole
    assert outputs(texts[2:], decode_hparams=drawn, first=2) == whole[2:]
    assert outputs(texts, decode_hparams=drawn | {"random_seed": 2}) != whole


def test_a_new_seed_is_no_new_compilation(small, monkeypatch):
    drawn = {"temperature": 1.0, "max_length": 6}
    small.generate("small_reverse", "a b c", decode_hparams=drawn)

    def never(*args, **options):
        raise AssertionError("compiled anew")

    monkeypatch.setattr(prediction, "make_decoder", never)
    for seed in (7, 8, 9):
        given = drawn | {"random_seed": seed}
        small.generate("small_reverse", "a b c", decode_hparams=given)


def test_pairings_that_nobody_trained_can_be_asked_for(small):
    for name in ("small_colours", "small_captions", "small_tones"):
        problem = small.problem(name, "To-Reversed")
        assert problem.targets == small.problem("small_reverse").targets
        answer = small.generate(
            name, ASKED[name], command="To-Reversed", decode_hparams=SHORT
        )
        assert answer.ids
    kind = small.generate("small_reverse", "a b", command="To-Category")
    assert {label for label, _ in kind.ranked} == {"red", "green", "blue"}
    with pytest.raises(ValueError, match="Command 'To-Latin' came; this model knows"):
        small.generate("small_colours", PICTURE, command="To-Latin")


def test_threads_get_the_answers_that_they_asked_for(small_run, small_zoo):
    run = load_run(small_run)  # nothing is compiled yet
    jobs = [name for name in ASKED for _ in range(3)]

    def ask(name):
        return run.generate(name, ASKED[name], decode_hparams=SHORT)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(ask, jobs))
    for name, answer in zip(jobs, together, strict=True):
        alone = ask(name)
        assert (str(alone), alone.ids) == (str(answer), answer.ids)
        assert alone.score == pytest.approx(answer.score, rel=1e-4)
    assert len(prediction._COMPILED[run.model]._functions) == len(ASKED)


def test_warming_up_compiles_what_questions_need(small_run, small_zoo):
    run = load_run(small_run)
    run.warm_up(["small_reverse", "small_colours"])
    functions = prediction._COMPILED[run.model]._functions
    before = set(functions)
    assert len(before) == 2
    run.generate("small_reverse", "a b")
    run.generate("small_colours", PICTURE)
    assert set(functions) == before


def test_only_so_many_functions_are_kept(small_run, small_zoo, monkeypatch):
    small = load_run(small_run)
    monkeypatch.setattr(prediction, "_MOST_COMPILED", 2)
    for name in ("small_reverse", "small_colours", "small_reverse", "small_captions"):
        small.generate(name, ASKED[name], decode_hparams=SHORT)
    kept = [key[2] for key in prediction._COMPILED[small.model]._functions]
    assert kept == [
        small.problem(n).targets for n in ("small_reverse", "small_captions")
    ]


def test_a_runs_folder_alone_is_enough(small_run, small_zoo, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(small_run, folder)
    record = json.loads((folder / "run.json").read_text())
    record["data_dir"] = str(tmp_path / "gone")
    (folder / "run.json").write_text(json.dumps(record))
    assert load_run(folder).generate("small_reverse", "a b").output is not None


def test_a_run_from_before_it_kept_lengths_asks_its_data(
    small_run, small_zoo, tmp_path
):
    folder = tmp_path / "old"
    shutil.copytree(small_run, folder)
    record = json.loads((folder / "run.json").read_text())
    known = record.pop("longest_targets")
    (folder / "run.json").write_text(json.dumps(record))
    run = load_run(folder)
    assert run.max_target_length("small_captions") == known["small_captions"] + 4


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("", 5),
        ("/checkpoints/ckpt-3", 3),
        ("/checkpoints/ckpt-5.index", 5),
        ("/checkpoints", 5),
        ("/best", 3),
        ("/best/ckpt-3", 3),
    ],
)
def test_a_run_may_be_named_by_a_checkpoint(small_run, small_zoo, path, step):
    assert load_run(small_run + path).step == step


def test_a_checkpoint_and_a_step_are_too_much(small_run, small_zoo):
    with pytest.raises(
        ValueError, match="ckpt-3 came with step 5; expected one of the"
    ):
        load_run(f"{small_run}/best/ckpt-3", step=5)
    with pytest.raises(FileNotFoundError, match="is neither a folder nor a checkpoint"):
        load_run(f"{small_run}/checkpoints/ckpt-4")


def test_other_weights_may_be_loaded_into_a_run(small_run, small):
    asked = ("small_colours", PICTURE)
    run = load_run(f"{small_run}/checkpoints/ckpt-3")
    first, before = run.fingerprint, run.generate(*asked).score
    assert first != small.fingerprint
    run.use_checkpoint(f"{small_run}/checkpoints/ckpt-5")
    assert run.step == 5 and run.fingerprint == small.fingerprint
    now = run.generate(*asked).score  # what was compiled sees the new weights
    assert now == pytest.approx(small.generate(*asked).score, rel=1e-4)
    assert now != pytest.approx(before, rel=1e-6)
