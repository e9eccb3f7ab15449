"""Shards -> batches: shapes, values, every example, and going on exactly."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from t2t_mm import input_pipeline
from t2t_mm.configuration import HParams
from t2t_mm.graph_inputs import Limits, PictureReader
from t2t_mm.problem import Feature, get_problem
from t2t_mm.raw_inputs import make_batch
from t2t_mm.records import pack
from t2t_mm.split_reader import SplitReader
from t2t_mm.vocabulary import load_vocabulary

NAMES = ["small_reverse", "small_tones", "small_colours", "small_captions"]
SMALL = HParams(batch_tokens=97, batch_examples=7, batch_seconds=1.3)


@pytest.fixture(params=NAMES)
def problem(request, small_problems):
    return get_problem(request.param)


def batches_of(problem, data_dir, number, start=(0, 0), seed=1, hparams=SMALL):
    dataset = input_pipeline.training_batches(
        problem, data_dir, hparams, seed=seed, start=start
    )
    return list(dataset.take(number).as_numpy_iterator())


def same(first, second):
    return all(
        first[name].dtype == second[name].dtype
        and np.array_equal(first[name], second[name])
        for name in first
    )


def test_batches_fit_the_signature_and_masks_are_prefixes(problem, small_data):
    signature = input_pipeline.batch_signature(problem)
    for _, batch in batches_of(problem, small_data, 5):
        assert set(batch) == set(signature)
        for name, spec in signature.items():
            assert spec.is_compatible_with(tf.constant(batch[name]))
        for name in ("inputs", "targets"):
            values, mask = batch[name], batch[f"{name}_mask"]
            assert values.shape[: mask.ndim] == mask.shape
            if mask.ndim == 2:
                assert mask[:, 0].all() and mask.any(axis=0).all()
                assert not np.any(values[~mask])
                assert (np.sort(mask, axis=1)[:, ::-1] == mask).all()


def test_going_on_from_a_position_gives_the_batches_that_would_follow(
    problem, small_data
):
    whole = batches_of(problem, small_data, 29)
    assert whole[-1][0][0] >= 1
    for place in (3, 17):
        position = tuple(whole[place][0])
        rest = batches_of(problem, small_data, 29 - place - 1, start=position)
        for (ours, batch), (theirs, other) in zip(
            rest, whole[place + 1 :], strict=True
        ):
            assert ours.tolist() == theirs.tolist()
            assert same(batch, other)


def test_an_epoch_has_every_example_once(problem, small_data):
    seen = []
    for position, batch in batches_of(problem, small_data, 100):
        seen += [
            (ids[mask].tobytes(), answer[answer_mask].tobytes())
            for ids, mask, answer, answer_mask in zip(
                batch["inputs"],
                batch["inputs_mask"],
                batch["targets"],
                batch["targets_mask"],
                strict=True,
            )
        ]
        if position[0] == 1:
            break
    reader = SplitReader(problem, "train", small_data)
    everything = input_pipeline.parse_batch(
        problem, tf.constant(reader.read(np.arange(61)))
    )
    expected = [
        (ids[mask].tobytes(), answer[answer_mask].tobytes())
        for ids, mask, answer, answer_mask in zip(
            *(value.numpy() for value in everything.values()), strict=True
        )
    ]
    assert sorted(seen) == sorted(expected)


def test_another_seed_gives_other_batches(small_problems, small_data):
    problem = get_problem("small_reverse")
    one, two = (batches_of(problem, small_data, 3, seed=seed) for seed in (1, 2))
    assert not all(same(a[1], b[1]) for a, b in zip(one, two, strict=True))


def test_epochs_differ(small_problems, small_data):
    problem = get_problem("small_colours")
    one, two = (batches_of(problem, small_data, 9, start=(n, 0)) for n in (0, 1))
    assert not all(same(a[1], b[1]) for a, b in zip(one, two, strict=True))


def test_text_is_padded_and_ends_in_eos(small_problems, small_data):
    problem = get_problem("small_reverse")
    words = load_vocabulary("small_words", small_data)
    for _, batch in batches_of(problem, small_data, 3):
        for ids, mask, answer in zip(
            batch["inputs"], batch["inputs_mask"], batch["targets"], strict=True
        ):
            assert ids[mask][-1] == 1 and not ids[~mask].any()
            assert words.decode(ids.tolist())[::-1] == words.decode(answer.tolist())


def test_pictures_are_resized_to_between_0_and_1(small_problems, small_data):
    problem = get_problem("small_captions")
    words = load_vocabulary("bytes", small_data)
    _, batch = batches_of(problem, small_data, 1)[0]
    assert batch["inputs"].shape[1:] == (11, 13, 3)
    for pixels, ids in zip(batch["inputs"], batch["targets"], strict=True):
        name = words.decode(ids.tolist()).removeprefix("all ")
        colour = np.array(small_problems.COLOURS[name]) / 255
        np.testing.assert_allclose(pixels, np.broadcast_to(colour, (11, 13, 3)), 1e-6)


def test_sounds_are_the_samples_of_their_files(small_problems, small_data):
    problem = get_problem("small_tones")
    files = {
        len(content) // 2 - 22: np.frombuffer(content[44:], "<i2") / 32768
        for content in (example["inputs"] for example in problem.generate("train", ""))
    }
    for _, batch in batches_of(problem, small_data, 5):
        for samples, mask in zip(batch["inputs"], batch["inputs_mask"], strict=True):
            np.testing.assert_array_equal(samples[mask], files[mask.sum()])


def wav_with_chunks(samples, before=b"", after=b""):
    """Gives a WAV file; all even in length, as chunks are."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    content = np.array(samples, "<i2").tobytes()
    data = b"data" + struct.pack("<I", len(content)) + content
    body = b"WAVE" + form + before + data + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("before", [b"", b"LIST\x04\0\0\0more"])
@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0more"])
def test_chunks_around_the_samples_of_a_sound_are_left_out(
    small_problems, before, after
):
    rows = [[1, -2, 3], [32767, -32768, 5, 7, -11], [13]]
    # The first has nothing around it: files of both kinds meet in a batch.
    files = [wav_with_chunks(rows[0])]
    files += [wav_with_chunks(row, before, after) for row in rows[1:]]
    records = [
        pack({"inputs": file, "inputs/length": len(row), "targets": 0})
        for file, row in zip(files, rows, strict=True)
    ]
    problem = get_problem("small_tones")
    for number in (1, 3):
        batch = input_pipeline.parse_batch(problem, tf.constant(records[:number]))
        longest = max(map(len, rows[:number]))
        padded = [row + [0] * (longest - len(row)) for row in rows[:number]]
        np.testing.assert_array_equal(batch["inputs"], np.array(padded) / 32768)
        assert batch["inputs_mask"].numpy().sum(1).tolist() == [3, 5, 1][:number]


def test_evaluation_gives_each_example_once_in_one_order(problem, small_data):
    runs = [
        list(
            input_pipeline.evaluation_batches(
                problem, "dev", small_data, SMALL
            ).as_numpy_iterator()
        )
        for _ in range(2)
    ]
    assert sum(len(batch["inputs"]) for batch in runs[0]) == 7
    assert all(same(*pair) for pair in zip(*runs, strict=True))


def test_evaluation_leaves_nothing_out_and_can_be_limited(small_problems, small_data):
    problem = get_problem("small_reverse")
    strict = HParams(max_length=2, batch_tokens=3)
    for limit, expected in ((None, 7), (3, 3), (99, 7)):
        batches = input_pipeline.evaluation_batches(
            problem, "dev", small_data, strict, limit=limit
        )
        assert sum(len(one["inputs"]) for one in batches) == expected


def test_over_long_examples_are_left_out_and_counted(small_problems, small_data):
    problem = get_problem("small_reverse")
    strict = HParams(max_length=20, batch_tokens=97)
    dropped = input_pipeline.count_dropped(problem, small_data, strict)
    reader = SplitReader(problem, "train", small_data)
    assert dropped == (reader.index[:, 3:] > 20).any(axis=1).sum() > 0
    text = input_pipeline.describe_batches(problem, small_data, strict)
    assert f"{61 - dropped} examples in" in text
    assert f"{dropped} over-long examples left out" in text
    for _, batch in batches_of(problem, small_data, 9, hparams=strict):
        assert max(batch["inputs"].shape[1], batch["targets"].shape[1]) <= 20


def test_nothing_short_enough_is_an_error(small_problems, small_data):
    problem = get_problem("small_reverse")
    with pytest.raises(ValueError, match="is longer than max_length=1 tokens"):
        batches_of(problem, small_data, 1, hparams=HParams(max_length=1))


def test_the_log_says_what_a_batch_is(problem, small_data):
    text = input_pipeline.describe_batches(problem, small_data, SMALL)
    size = {"text": "97 tokens", "audio": "1.3 seconds", "image": "7 examples"}
    assert "61 examples in " in text and size[problem.inputs.modality] in text


def test_a_batch_is_parsed_alike_eagerly_and_in_a_graph(problem, small_data):
    contents = tf.constant(SplitReader(problem, "dev", small_data).read(range(3)))
    eager = input_pipeline.parse_batch(problem, contents)
    graph = tf.function(lambda c: input_pipeline.parse_batch(problem, c))(contents)
    for name, value in eager.items():
        np.testing.assert_array_equal(value, graph[name])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_pictures_of_every_kind_become_the_declared_channels(mode):
    content = io.BytesIO()
    Image.new("RGB", (4, 6), (255, 255, 255)).convert(mode).save(content, "PNG")
    for channels in (1, 3):
        feature = Feature("image", height=5, width=7, channels=channels)
        pixels = input_pipeline.decode_image(tf.constant(content.getvalue()), feature)
        np.testing.assert_allclose(pixels, np.ones((5, 7, channels)), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_are_the_same_in_training_in_python_and_in_an_export(kind, channels):
    dice = np.random.default_rng(3)
    smooth = np.cumsum(np.cumsum(dice.normal(0, 3, (61, 47, 3)), 0), 1) + 128
    pixels = np.clip(smooth, 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    file = content.getvalue()
    # As large as the file: what is resized less hides less.
    feature = Feature("image", height=61, width=47, channels=channels)
    trained = input_pipeline.decode_image(tf.constant(file), feature).numpy()
    typed = make_batch(feature, [file], {})["inputs"][0]
    served, _ = PictureReader(feature, Limits()).read(tf.constant([file]))
    np.testing.assert_array_equal(trained, typed)
    np.testing.assert_array_equal(served["inputs"][0], typed)
