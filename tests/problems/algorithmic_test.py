import io
import wave

import numpy as np
import PIL.Image
import pytest

from t2t_mm.problems import algorithmic

RNG = np.random.default_rng


def examples(problem, number=50):
    rng = RNG(7)
    return [problem.example(rng) for _ in range(number)]


def test_digits_are_reversed():
    for example in examples(algorithmic.AlgorithmicReverseDigits()):
        assert example["targets"].split() == example["inputs"].split()[::-1]


def test_numbers_are_added():
    for example in examples(algorithmic.AlgorithmicAddition()):
        first, second = map(int, example["inputs"].split("+"))
        assert int(example["targets"]) == first + second


def test_letters_are_sorted():
    for example in examples(algorithmic.AlgorithmicSortLetters()):
        assert example["targets"].split() == sorted(example["inputs"].split())


def test_shape_and_caption_problems_draw_the_same_pictures():
    shapes = examples(algorithmic.AlgorithmicShapes())
    captions = examples(algorithmic.AlgorithmicShapesCaption())
    assert [e["inputs"] for e in shapes] == [e["inputs"] for e in captions]
    for shape, caption in zip(shapes, captions, strict=True):
        colour, name = caption["targets"].split()
        assert name == shape["targets"]
        picture = np.array(PIL.Image.open(io.BytesIO(shape["inputs"])))
        drawn = (picture == algorithmic.COLOURS[colour]).all(axis=-1)
        assert 5 < drawn.sum() < 400


@pytest.mark.parametrize("shape", algorithmic.SHAPES)
def test_shapes_are_symmetric_and_differ(shape):
    def inside(name):
        pixels = algorithmic.drawn(name, (0, 0, 0), np.array([6.0, 6.0]), 5.0, 12)
        return pixels[..., 0] == 0

    assert (inside(shape) == inside(shape)[:, ::-1]).all()
    for other in set(algorithmic.SHAPES) - {shape}:
        assert (inside(shape) != inside(other)).any()


def test_a_tone_has_the_pitch_of_its_digit():
    problem = algorithmic.AlgorithmicTones()
    for example in examples(problem, 20):
        with wave.open(io.BytesIO(example["inputs"])) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        first = sound[: round(problem.tone_seconds * 16000)]
        peak = np.argmax(np.abs(np.fft.rfft(first, 16000)))
        assert abs(peak - 200 - 100 * int(example["targets"][0])) < 10


def test_splits_and_problems_have_their_own_random_stream():
    problem = algorithmic.AlgorithmicAddition()
    train = next(problem.generate("train", ""))
    assert train == next(problem.generate("train", ""))
    assert train != next(problem.generate("test", ""))
