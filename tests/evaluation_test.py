"""Scoring a split: sums over uneven batches, answers, samples, baselines."""

import gc
import io
import wave
import weakref

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from t2t_mm import datagen, evaluation, prediction, registry
from t2t_mm.configuration import HParams
from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.media import wav_file
from t2t_mm.problem import Feature, Problem
from t2t_mm.vocabulary import load_vocabularies

BYTES = Feature("text", vocabulary="bytes")
COUNTS = {"train": 5, "dev": 3, "test": 7}


class Echo(Problem):
    """Text to the same text; a word more in each example."""

    inputs = BYTES
    targets = BYTES
    command = "To-Echo"
    metrics = ("exact_match", "wer")
    baseline = "copy"

    def generate(self, split, tmp_dir):
        """Yields a, aa, aaa, ..."""
        for number in range(COUNTS[split]):
            yield {"inputs": "a" * (number + 1), "targets": "a" * (number + 1)}


class Colours(Problem):
    """A picture to its colour; red is the commonest in training."""

    inputs = Feature("image", height=3, width=5)
    targets = Feature("class_label", vocabulary="colours", labels=("blue", "red"))
    command = "To-Colour"

    def generate(self, split, tmp_dir):
        """Yields one blue picture after two red ones."""
        for number in range(COUNTS[split]):
            label = "blue" if number % 3 == 2 else "red"
            buffer = io.BytesIO()
            Image.new("RGB", (5, 3), label).save(buffer, "PNG")
            yield {"inputs": buffer.getvalue(), "targets": label}


class Clicks(Problem):
    """A short sound to a word."""

    inputs = Feature("audio", sample_rate=8000)
    targets = BYTES
    command = "To-Click"

    def generate(self, split, tmp_dir):
        """Yields sounds of growing length."""
        for number in range(COUNTS[split]):
            sound = np.full(11 + number, 0.5)
            yield {"inputs": wav_file(sound, 8000), "targets": "click"}


class FakeModel:
    """Has a loss of 2 for each target position, of which every second is right."""

    class commands:
        """Has a token for every command."""

        @staticmethod
        def token(name):
            """Gives float [3]."""
            del name
            return tf.zeros([3])

    def losses_of(self, problem_name, batch, *, training, token):
        """Gives the sums that a model gives."""
        assert training is False
        assert token.shape == [3]
        weight = tf.reduce_sum(tf.cast(batch["targets_mask"], tf.float32))
        return {
            "loss_sum": 2 * weight,
            "weight": weight,
            "correct": weight / 2,
            "auxiliary_loss": tf.constant(9.0),
        }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    path, problems = str(folder / "data"), [Echo, Colours, Clicks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.problems, "_entries", {})
        names = [registry.register_problem(one).registered_name for one in problems]
        datagen.generate_data(names, path, str(folder), num_processes=0, progress=False)
        yield path


@pytest.fixture
def answer_with(monkeypatch):
    """Replaces the network's answers: a function of each row's number in its batch."""

    def replace(answer):
        def predict(model, problem, batch, vocabularies, *, max_length=None):
            return [answer(row) for row in range(len(batch["targets"]))]

        monkeypatch.setattr(prediction, "predict", predict)

    return replace


def evaluate(problem, data_dir, **options):
    return evaluation.evaluate(
        FakeModel(),
        problem,
        options.pop("split", "test"),
        data_dir,
        HParams(batch_tokens=11, batch_examples=2),
        load_vocabularies([problem], data_dir),
        **options,
    )


def test_loss_and_accuracy_are_per_position_over_all_batches(data_dir, answer_with):
    answer_with(lambda row: "")
    result = evaluate(Echo(), data_dir)
    assert result["examples"] == 7
    assert (result["loss"], result["accuracy"]) == (2.0, 0.5)
    assert result["metrics"] == {"exact_match": 0.0, "wer": 1.0}


def test_a_limit_looks_at_so_many_examples(data_dir, answer_with):
    answer_with(lambda row: "")
    result = evaluate(Echo(), data_dir, limit=5, num_samples=9)
    assert result["examples"] == 5
    assert len(result["samples"]) == 5


def test_fewer_may_be_decoded_than_the_loss_looks_at(data_dir, answer_with):
    answer_with(lambda row: "")
    result = evaluate(Echo(), data_dir, decode_limit=3, num_samples=9)
    assert (result["loss_examples"], result["examples"]) == (7, 3)
    assert len(result["samples"]) == 3
    both = evaluate(Echo(), data_dir, limit=2, decode_limit=3)
    assert (both["loss_examples"], both["examples"]) == (2, 2)


def test_settings_of_the_search_reach_it(data_dir, monkeypatch):
    seen = []

    def predict(model, problem, batch, vocabularies, *, max_length, settings):
        seen.append(settings)
        return [""] * len(batch["targets"])

    monkeypatch.setattr(prediction, "predict", predict)
    settings = DecodeHParams(beam_size=3)
    evaluate(Echo(), data_dir, settings=settings)
    assert set(seen) == {settings}


def test_samples_are_spread_over_the_split(data_dir, answer_with):
    answer_with(lambda row: "x")
    shown = evaluate(Echo(), data_dir, num_samples=3)["samples"]
    assert len({sample["inputs"] for sample in shown}) == 3
    for sample in shown:
        assert sample["inputs"] == sample["reference"]
        assert sample["prediction"] == "x"
        assert "inputs_file" not in sample


def test_answers_stop_a_little_after_the_longest_training_target(data_dir, monkeypatch):
    seen = []

    def predict(model, problem, batch, vocabularies, *, max_length=None):
        seen.append(max_length)
        return [""] * len(batch["targets"])

    monkeypatch.setattr(prediction, "predict", predict)
    evaluate(Echo(), data_dir)
    # Five letters and the end of the text in training, and four more.
    assert set(seen) == {10}


def test_pictures_are_scored_by_rank_and_their_samples_are_files(
    data_dir, answer_with, tmp_path
):
    answer_with(lambda row: ["red", "blue"])
    result = evaluate(Colours(), data_dir, num_samples=7, run_dir=str(tmp_path))
    assert result["metrics"] == {"top1": 5 / 7}
    for number, sample in enumerate(result["samples"]):
        assert sample["inputs_file"] == f"samples/colours-test-{number}.png"
        with Image.open(tmp_path / sample["inputs_file"]) as picture:
            assert picture.size == (5, 3)
            colour = {"red": (255, 0, 0), "blue": (0, 0, 255)}[sample["reference"]]
            assert picture.convert("RGB").getpixel((1, 1)) == colour
        assert sample["prediction"] == "red"


def test_sounds_are_saved_without_their_padding(data_dir, answer_with, tmp_path):
    answer_with(lambda row: "click")
    result = evaluate(Clicks(), data_dir, num_samples=7, run_dir=str(tmp_path))
    lengths = set()
    for sample in result["samples"]:
        with wave.open(str(tmp_path / sample["inputs_file"])) as sound:
            lengths.add(sound.getnframes())
            assert sound.getframerate() == 8000
    assert lengths == {11, 12, 13, 14, 15, 16, 17}
    assert result["metrics"]["exact_match"] == 1.0


def test_without_a_run_no_file_is_written(data_dir, answer_with):
    answer_with(lambda row: ["red"])
    for sample in evaluate(Colours(), data_dir)["samples"]:
        assert "inputs_file" not in sample


def test_an_unknown_split_is_refused(data_dir):
    with pytest.raises(ValueError, match="no split 'tset'; expected one of train"):
        evaluate(Echo(), data_dir, split="tset")


def test_too_few_answers_are_refused(data_dir, monkeypatch):
    monkeypatch.setattr(prediction, "predict", lambda *_, **__: [])
    with pytest.raises(ValueError, match=r"\d references and 0 answers"):
        evaluate(Echo(), data_dir)


def test_many_problems_bring_no_warning_of_retracing(data_dir, answer_with, caplog):
    answer_with(lambda row: "")
    for _ in range(12):
        evaluate(Echo(), data_dir)
    assert "retracing" not in caplog.text


def test_a_model_is_compiled_once_and_can_be_forgotten(data_dir, answer_with):
    answer_with(lambda row: "")
    model, problem = FakeModel(), Echo()
    first = evaluation._compiled_losses(model, problem)
    assert evaluation._compiled_losses(model, problem) is first
    reference = weakref.ref(model)
    del model, first
    gc.collect()
    assert reference() is None


def baseline(problem, data_dir, split="test"):
    words = load_vocabularies([problem], data_dir)
    return evaluation.baseline(problem, split, data_dir, words)


def test_copying_is_perfect_where_nothing_changes(data_dir):
    expected = {"exact_match": 1.0, "wer": 0.0}
    assert baseline(Echo(), data_dir) == {"name": "copy", "metrics": expected}


def test_the_commonest_class_of_training_is_the_answer(data_dir):
    # Training has four red and one blue, the test split five red of seven.
    found = baseline(Colours(), data_dir)
    assert found == {"name": "frequent", "metrics": {"top1": 5 / 7}}


def test_the_commonest_text_of_training_is_the_answer(data_dir):
    assert baseline(Clicks(), data_dir)["metrics"]["exact_match"] == 1.0


def test_among_equally_common_texts_the_alphabet_decides(data_dir):
    problem = Echo()
    problem.baseline = "frequent"
    assert baseline(problem, data_dir)["metrics"]["exact_match"] == 1 / 7


def test_a_problem_may_have_no_baseline(data_dir):
    problem = Echo()
    problem.baseline = None
    assert baseline(problem, data_dir) is None


@pytest.mark.parametrize("name", ["copy", "best"])
def test_a_baseline_that_cannot_be_is_refused(data_dir, name):
    problem = Colours()
    problem.baseline = name
    with pytest.raises(ValueError, match="expected 'frequent', None, or"):
        baseline(problem, data_dir)


def test_spread_indices_are_as_far_apart_as_can_be():
    assert evaluation._spread(3, 9) == {1, 4, 7}
    assert evaluation._spread(5, 3) == {0, 1, 2}
    assert evaluation._spread(0, 3) == set()
