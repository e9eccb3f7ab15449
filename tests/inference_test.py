"""Asking a tiny MultiModel with inputs of every modality."""

import concurrent.futures
import json
import shutil

import numpy as np
import pytest

from t2t_mm import prediction
from t2t_mm.inference import load_run

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
    with pytest.raises(ValueError, match="A prefix of .* ids came; expected fewer"):
        small.generate("small_reverse", "a", prefix="a b " * 200)
    with pytest.raises(ValueError, match="2 values of prefix came with 1 inputs; expe"):
        small.generate("small_reverse", ["a"], prefix=["a", "b"])


def test_a_decode_setting_is_no_keyword_of_its_own(small):
    with pytest.raises(TypeError, match="Pass decode_hparams='beam_size=4'"):
        small.generate("small_reverse", "a b", beam_size=4)


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


def test_a_run_says_what_it_is(small):
    number = len(small.problems)
    shown = f"<Run {small.run_dir}: {number} problems, step {small.step}>"
    assert number > 1 and repr(small) == shown


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
