import concurrent.futures
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.decoding import make_decoder, make_scorer, ranked_classes, sequences
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.problem import Feature
from t2t_mm.vocabulary import EOS_ID, PAD_ID
from tests.made.models import SMALLEST

WORDS = Feature("text", vocabulary="words")
KINDS = Feature("class_label", vocabulary="kinds", labels=tuple("abcdefg"))
FEW = Feature("class_label", vocabulary="few", labels=tuple("ab"))
PICTURE = Feature("image", height=5, width=3)
SIZES = {"words": 23, "kinds": 7, "few": 2}
TRANSLATE = made_up_problem("translate", WORDS, WORDS, "To-German")
CAPTION = made_up_problem("caption", PICTURE, WORDS, "To-English")
CLASSIFY = made_up_problem("classify", WORDS, KINDS, "To-Category")
CHOOSE = made_up_problem("choose", WORDS, FEW, "To-Category")
PROBLEMS = [TRANSLATE, CAPTION, CLASSIFY, CHOOSE]
HPARAMS = dataclasses.replace(SMALLEST, dropout=0.3)
LONGEST = 6


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    made = build_model("multimodel", HPARAMS, PROBLEMS, SIZES)
    rng = np.random.default_rng(5)
    for variable in made.trainable_variables:
        noise = rng.normal(0, 0.3, variable.shape).astype(np.float32)
        variable.assign(variable + noise)
    return made


@pytest.fixture
def bias(model):
    """Sets how likely an id is, whatever the input; undone after the test."""
    variable = model.modalities["text"].nets["words"].bias
    before = variable.numpy()

    def add(**amounts):
        changed = before.copy()
        for name, amount in amounts.items():
            changed[{"pad": PAD_ID, "eos": EOS_ID}[name]] += amount
        variable.assign(changed)

    yield add
    variable.assign(before)


@pytest.fixture(scope="module")
def greedy(model):
    """Decodes a batch: ids and scores; compiled once per problem."""
    compiled = {
        problem: make_decoder(model, problem.name, batch_signature(problem))
        for problem in (TRANSLATE, CAPTION)
    }

    def decode(batch, problem=TRANSLATE, longest=LONGEST, command=None):
        token = model.commands.token(command or problem.command)
        found = compiled[problem](batch, token, longest)
        np.testing.assert_allclose(  # one answer of L ids: the penalty is known
            found["penalized"].numpy() * ((5 + lengths(found["ids"])) / 6) ** 0.6,
            found["scores"],
            rtol=1e-5,
        )
        return found["ids"].numpy()[:, 0], found["scores"].numpy()[:, 0]

    return decode


def lengths(ids):
    return (np.asarray(ids) != PAD_ID).sum(-1)


def log_probabilities(model, problem, batch, ids):
    """Teacher-forced, [B, L, V]."""
    source, _ = model.encode_inputs(problem, batch, training=False)
    mask = np.ones_like(ids, bool)
    h, _ = model.decode_targets(problem, ids, mask, source=source, training=False)
    logits = model.modalities["text"].top(h, feature=WORDS)
    return tf.nn.log_softmax(logits).numpy()


@pytest.mark.parametrize("problem", [TRANSLATE, CAPTION], ids=["text", "picture"])
def test_greedy_takes_the_likeliest_id_given_those_before(model, greedy, bias, problem):
    bias(eos=-100)
    batch = made_up_batch(problem, SIZES, num_examples=3)
    ids, scores = greedy(batch, problem)
    expected = np.zeros_like(ids)
    for i in range(LONGEST):
        found = log_probabilities(model, problem, batch, expected)[:, i]
        expected[:, i] = 1 + found[:, 1:].argmax(-1)
    np.testing.assert_array_equal(ids, expected)
    found = log_probabilities(model, problem, batch, ids)
    chosen = np.take_along_axis(found, ids[..., None], -1)
    np.testing.assert_allclose(scores, chosen.sum((1, 2)), rtol=1e-4)


def test_a_row_ends_with_eos_and_stays_padded(model, greedy, bias):
    batch = made_up_batch(TRANSLATE, SIZES, num_examples=13)
    for amount in range(12):  # as likely as makes rows end at different places
        bias(eos=amount)
        ids, scores = greedy(batch)
        ends = {row.tolist().index(EOS_ID) for row in ids if EOS_ID in row}
        if len(ends) > 1:
            break
    assert len(ends) > 1
    for row, score, probabilities in zip(
        ids, scores, log_probabilities(model, TRANSLATE, batch, ids), strict=True
    ):
        length = row.tolist().index(EOS_ID) + 1 if EOS_ID in row else LONGEST
        assert not row[length:].any()
        assert (row[:length] != PAD_ID).all()
        expected = probabilities[np.arange(length), row[:length]].sum()
        np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_decoding_stops_when_all_rows_have_ended(model, bias, monkeypatch):
    bias(eos=100)
    batch = made_up_batch(TRANSLATE, SIZES)
    steps = []
    start_decoding = type(model).start_decoding

    def counted(self, *arguments, **options):
        stepper = start_decoding(self, *arguments, **options)
        step = stepper.step

        def step_counted(*arguments):
            steps.append(1)
            return step(*arguments)

        stepper.step = step_counted
        return stepper

    monkeypatch.setattr(type(model), "start_decoding", counted)
    found = sequences(
        model, "translate", batch, DecodeHParams(), max_length=tf.constant(6)
    )
    np.testing.assert_array_equal(found["ids"], [[[EOS_ID] + [PAD_ID] * 5]] * 2)
    assert len(steps) == 1


def test_padding_is_never_chosen(greedy, bias):
    bias(pad=100, eos=-100)
    ids, _ = greedy(made_up_batch(TRANSLATE, SIZES))
    assert (ids != PAD_ID).all()


@pytest.mark.parametrize("longest", [1, 2, 6])
def test_answers_are_as_long_as_allowed_and_begin_alike(greedy, bias, longest):
    bias(eos=-100)
    batch = made_up_batch(TRANSLATE, SIZES)
    ids, _ = greedy(batch, longest=longest)
    whole, _ = greedy(batch)
    np.testing.assert_array_equal(ids, whole[:, :longest])


@pytest.mark.parametrize("problem", [TRANSLATE, CAPTION], ids=["text", "picture"])
def test_an_answer_and_its_score_are_the_same_alone_and_in_a_batch(greedy, problem):
    batch = made_up_batch(problem, SIZES, num_examples=3)
    ids, scores = greedy(batch, problem)
    for i in range(3):
        length = int(batch["inputs_mask"][i].sum())
        alone = {name: value[i : i + 1] for name, value in batch.items()}
        if problem is TRANSLATE:  # without the padding, too
            alone["inputs"] = alone["inputs"][:, :length]
            alone["inputs_mask"] = alone["inputs_mask"][:, :length]
        one, score = greedy(alone, problem)
        np.testing.assert_array_equal(one[0], ids[i])
        np.testing.assert_allclose(score[0], scores[i], rtol=1e-4)


def test_another_command_asks_for_another_answer(greedy, bias):
    bias(eos=-100)
    batch = made_up_batch(CAPTION, SIZES, num_examples=3)
    usual, scores = greedy(batch, CAPTION)
    same, _ = greedy(batch, CAPTION, command="To-English")
    german, german_scores = greedy(batch, CAPTION, command="To-German")
    np.testing.assert_array_equal(usual, same)
    assert np.abs(scores - german_scores).max() > 1e-3
    assert german.shape == usual.shape


def test_classes_are_ranked_by_probability(model):
    batch = made_up_batch(CLASSIFY, SIZES, num_examples=3)
    found = ranked_classes(model, "classify", batch)
    source, _ = model.encode_inputs(CLASSIFY, batch, training=False)
    logits, _ = model.class_logits(CLASSIFY, source, training=False)
    p = tf.nn.softmax(logits).numpy()
    order = np.argsort(-p, -1)[:, :5]
    np.testing.assert_array_equal(found["ranked"], order)
    np.testing.assert_array_equal(found["ids"], order[:, :1])
    expected = np.take_along_axis(p, order, -1)
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)


def test_no_more_classes_are_ranked_than_there_are(model):
    found = ranked_classes(model, "choose", made_up_batch(CHOOSE, SIZES))
    assert found["ranked"].shape == (2, 2)
    np.testing.assert_allclose(found["probabilities"].numpy().sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("problem", [TRANSLATE, CLASSIFY], ids=["text", "classes"])
def test_the_compiled_decoder_answers_as_the_plain_one(model, problem):
    decode = make_decoder(model, problem.name, batch_signature(problem))
    batch = made_up_batch(problem, SIZES, num_examples=3)
    found = decode(batch, model.commands.token(problem.command), 3)
    if problem is TRANSLATE:
        expected = sequences(
            model, "translate", batch, DecodeHParams(), max_length=tf.constant(3)
        )
    else:
        expected = ranked_classes(model, "classify", batch)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4)


def test_a_compiled_decoder_follows_the_weights(greedy, bias):
    batch = made_up_batch(TRANSLATE, SIZES)
    bias(eos=100)
    assert (greedy(batch)[0][:, 0] == EOS_ID).all()
    bias(eos=-100)
    assert not (greedy(batch)[0] == EOS_ID).any()


@pytest.mark.parametrize(
    "settings", [DecodeHParams(), DecodeHParams(beam_size=3)], ids=["greedy", "beam"]
)
def test_an_answer_does_not_depend_on_what_was_asked_before_or_meanwhile(
    model, settings
):
    decode = make_decoder(model, "translate", batch_signature(TRANSLATE), settings)
    token = model.commands.token("To-German")
    batches = [made_up_batch(TRANSLATE, SIZES, num_examples=3, seed=i) for i in (1, 2)]

    def answered(batch):
        found = decode(batch, token, 17)
        return found["ids"].numpy().tolist(), found["scores"].numpy().tolist()

    expected = [answered(batch) for batch in batches]
    assert expected[0] != expected[1]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(answered, 4 * batches)) == 4 * expected


def test_decoding_draws_nothing_by_chance(model, greedy):
    assert dataclasses.asdict(model.hparams)["dropout"] > 0
    batch = made_up_batch(TRANSLATE, SIZES)
    first, second = greedy(batch), greedy(batch)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def decoded(model, settings, batch, problem=TRANSLATE, **options):
    decode = make_decoder(
        model, problem.name, batch_signature(problem), DecodeHParams(**settings)
    )
    token = model.commands.token(problem.command)
    return decode(batch, token, LONGEST, **options)


@pytest.mark.parametrize("problem", [TRANSLATE, CLASSIFY], ids=["text", "classes"])
def test_the_scorer_gives_the_log_probability_of_each_target(model, problem):
    batch = made_up_batch(problem, SIZES, num_examples=3)
    score = make_scorer(model, problem.name, batch_signature(problem))
    found = score(batch, model.commands.token(problem.command)).numpy()
    assert found.shape == batch["targets"].shape
    if problem is TRANSLATE:
        p = log_probabilities(model, problem, batch, batch["targets"])
    else:
        source, _ = model.encode_inputs(problem, batch, training=False)
        logits, _ = model.class_logits(problem, source, training=False)
        p = tf.nn.log_softmax(logits).numpy()[:, None]
    expected = np.take_along_axis(p, batch["targets"][..., None], -1)[..., 0]
    expected = np.where(batch["targets_mask"], expected, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_beam_gives_several_answers_with_the_scores_of_the_scorer(model):
    batch = made_up_batch(TRANSLATE, SIZES, num_examples=3)
    settings = {"beam_size": 4, "num_return": 2, "min_length": 2, "alpha": 1.0}
    prefix = np.array([[7, 5], [6, 0], [0, 0]], np.int32)
    found = decoded(model, settings, batch, prefix=prefix)
    ids, scores = found["ids"].numpy(), found["scores"].numpy()
    assert ids.shape == (3, 2, LONGEST)
    np.testing.assert_array_equal(ids[0, :, :2], [[7, 5]] * 2)
    np.testing.assert_array_equal(ids[1, :, 0], [6, 6])
    assert (ids[:, 0] != ids[:, 1]).any(-1).all()
    assert (lengths(ids) >= 3).all()
    assert (np.diff(found["penalized"]) <= 0).all()
    penalty = (5 + lengths(ids)) / 6
    np.testing.assert_allclose(found["penalized"] * penalty, scores, rtol=1e-5)
    score = make_scorer(model, "translate", batch_signature(TRANSLATE))
    for place in range(2):
        answered = {
            **batch,
            "targets": ids[:, place],
            "targets_mask": ids[:, place] != PAD_ID,
        }
        expected = score(answered, model.commands.token("To-German")).numpy().sum(-1)
        np.testing.assert_allclose(scores[:, place], expected, rtol=1e-4)


def test_drawn_answers_depend_on_the_seed_and_the_number_of_the_row(model):
    batch = made_up_batch(TRANSLATE, SIZES, num_examples=1)
    batch = {name: np.repeat(value, 2, 0) for name, value in batch.items()}
    settings = {"temperature": 3.0, "num_return": 2, "no_repeat_ngram": 1}
    first = decoded(model, settings, batch)["ids"].numpy()
    assert (first[0] != first[1]).any()
    again = decoded(model, settings, batch, row_numbers=[1, 1])["ids"].numpy()
    np.testing.assert_array_equal(again, first[[1, 1]])
    other = decoded(model, {**settings, "random_seed": 5}, batch)["ids"].numpy()
    assert (other != first).any()
    for row in first.reshape(-1, LONGEST).tolist():
        words = [one for one in row if one > EOS_ID]
        assert len(set(words)) == len(words)


def test_another_seed_draws_otherwise_without_compiling_anew(model):
    batch = made_up_batch(TRANSLATE, SIZES, num_examples=2)
    token = model.commands.token(TRANSLATE.command)
    drawn = DecodeHParams(temperature=3.0, num_return=3)

    def made(seed):
        settings = dataclasses.replace(drawn, random_seed=seed)
        return make_decoder(model, TRANSLATE.name, batch_signature(TRANSLATE), settings)

    one = made(1)
    for seed in (5, 2**31 - 1):
        found = one(batch, token, LONGEST, random_seed=seed)["ids"].numpy()
        own = made(seed)(batch, token, LONGEST)["ids"].numpy()
        np.testing.assert_array_equal(found, own)
        assert (found != one(batch, token, LONGEST)["ids"].numpy()).any()


def test_whole_trees_need_their_guide(model):
    with pytest.raises(ValueError, match="came without a guide; expected a TreeGuide"):
        decoded(model, {"well_formed_trees": True}, made_up_batch(TRANSLATE, SIZES))


@pytest.mark.parametrize(
    "settings",
    [
        {"no_repeat_ngram": 2},
        {"beam_size": 3, "num_return": 2},
        {"temperature": 1.0, "num_return": 2, "top_p": 0.9},
    ],
    ids=["greedy", "beam", "drawn"],
)
def test_xla_finds_the_same(model, settings):
    batch = made_up_batch(TRANSLATE, SIZES, num_examples=3)
    found = decoded(model, {**settings, "jit_compile": True}, batch)
    for name, expected in decoded(model, settings, batch).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)
