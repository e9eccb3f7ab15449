"""Made-up problems that need no download: for tests, and to see a network learn.

Text problems after those of Tensor2Tensor (Vaswani et al. 2018,
arxiv.org/abs/1803.07416) and tiny ones with pictures and sound, so that each modality
has a quick problem. All use the vocabulary "bytes", which learns nothing.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from t2t_mm.problem import Feature, Problem
from t2t_mm.problems import pictures, waveforms
from t2t_mm.registry import register_problem

BYTES = Feature("text", vocabulary="bytes")

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (235, 200, 30),
}
SHAPES = ("circle", "cross", "square", "triangle")


class MadeUp(Problem):
    """What problems without a source share: counts, a stream of random examples.

    Inputs come from one random stream a split, so splits may share an easy example.

    Class attributes:
      num_examples: split -> how many examples.
    """

    licence = "made up; as this package, Apache-2.0"
    num_examples: ClassVar[dict[str, int]] = {"train": 10_000, "dev": 200, "test": 500}

    def generate(self, split: str, tmp_dir: str) -> Iterator[dict[str, Any]]:
        """Yields the split's examples; reads nothing from tmp_dir."""
        rng = np.random.default_rng(self.seed(split))
        for _ in range(self.num_examples[split]):
            yield self.example(rng)

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gives one random example."""
        raise NotImplementedError


@register_problem
class AlgorithmicReverseDigits(MadeUp):
    """Writes a row of digits backwards: 3 1 4 -> 4 1 3."""

    inputs = BYTES
    targets = BYTES
    command = "To-Reversed"
    metrics = ("exact_match", "word_f1")
    max_digits = 8

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gives 1 to max_digits digits and the same backwards."""
        digits = rng.integers(0, 10, size=rng.integers(1, self.max_digits + 1))
        return {"inputs": _row(digits), "targets": _row(digits[::-1])}


@register_problem
class AlgorithmicAddition(MadeUp):
    """Adds two whole numbers: 27+5 -> 32."""

    inputs = BYTES
    targets = BYTES
    command = "To-Sum"
    metrics = ("exact_match",)
    max_number = 999

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gives two numbers of 0 to max_number and their sum."""
        first, second = (int(n) for n in rng.integers(0, self.max_number + 1, size=2))
        return {"inputs": f"{first}+{second}", "targets": str(first + second)}


@register_problem
class AlgorithmicSortLetters(MadeUp):
    """Puts letters in the order of the alphabet: c a b -> a b c."""

    inputs = BYTES
    targets = BYTES
    command = "To-Sorted"
    metrics = ("exact_match", "word_f1")
    max_letters = 8

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gives 1 to max_letters letters and the same sorted."""
        size = rng.integers(1, self.max_letters + 1)
        letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=size)
        return {"inputs": _row(letters), "targets": _row(sorted(letters))}


class DrawnShapes(MadeUp):
    """What the picture problems share: one coloured shape on white, 24 x 24."""

    inputs = Feature("image", height=24, width=24)
    num_examples: ClassVar[dict[str, int]] = {"train": 2_000, "dev": 100, "test": 200}

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gives a picture and its answer."""
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        radius = rng.uniform(4.0, 9.0)
        side = self.inputs.height
        centre = rng.uniform(radius, side - radius, size=2)
        pixels = drawn(str(shape), COLOURS[str(colour)], centre, radius, side)
        return {
            "inputs": pictures.png_of_array(pixels),
            "targets": self.answer(str(colour), str(shape)),
        }

    def answer(self, colour: str, shape: str) -> str:
        """Gives what to say of a picture."""
        raise NotImplementedError


@register_problem
class AlgorithmicShapes(DrawnShapes):
    """Picture of a coloured shape -> which shape: a circle, cross, square, triangle."""

    targets = Feature("class_label", vocabulary="shapes", labels=SHAPES)
    command = "To-Category"
    metrics = ("top1",)

    def answer(self, colour: str, shape: str) -> str:
        """Gives the shape."""
        return shape


@register_problem
class AlgorithmicShapesCaption(DrawnShapes):
    """Picture of a coloured shape -> its name: "red circle"."""

    targets = BYTES
    command = "To-English"
    metrics = ("word_f1", "exact_match", "rouge_l")

    def answer(self, colour: str, shape: str) -> str:
        """Gives colour and shape."""
        return f"{colour} {shape}"


@register_problem
class AlgorithmicTones(MadeUp):
    """A row of tones -> their digits: 200, 500 Hz -> 0 3; higher is more."""

    inputs = Feature("audio", sample_rate=16000)
    targets = BYTES
    command = "To-Digits"
    metrics = ("wer", "cer")
    num_examples: ClassVar[dict[str, int]] = {"train": 500, "dev": 50, "test": 100}
    max_tones = 4
    tone_seconds = 0.12

    def example(self, rng: np.random.Generator) -> dict[str, Any]:
        """Gives 1 to max_tones tones of 200 + 100 * digit Hz with pauses between."""
        digits = rng.integers(0, 10, size=rng.integers(1, self.max_tones + 1))
        rate = self.inputs.sample_rate
        times = np.arange(round(self.tone_seconds * rate)) / rate
        fade = np.minimum(1.0, 100.0 * np.minimum(times, times[::-1]))
        tones = [
            (0.5 * fade * np.sin(2 * np.pi * (200 + 100 * digit) * times))
            for digit in digits
        ]
        pauses = rng.uniform(0.02, 0.1, size=len(digits) - 1)
        samples = waveforms.joined(tones, pauses, rate)
        return {"inputs": waveforms.wav_of(samples, rate), "targets": _row(digits)}


def drawn(
    shape: str,
    colour: tuple[int, int, int],
    centre: np.ndarray,
    radius: float,
    side: int,
) -> np.ndarray:
    """Draws a shape on white.

    Args:
      shape: one of SHAPES.
      colour: red, green, blue, 0 to 255.
      centre: x and y in pixels.
      radius: in pixels.
      side: height and width in pixels (H, W).

    Returns:
      uint8 [H, W, 3].
    """
    rows, columns = np.mgrid[:side, :side] + 0.5
    x, y = (columns - centre[0]) / radius, (rows - centre[1]) / radius
    inside = {
        "circle": x**2 + y**2 <= 1,
        "cross": (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.abs(x * y) <= 0.09),
        "square": np.maximum(np.abs(x), np.abs(y)) <= 0.85,
        "triangle": (y <= 0.8) & (y >= 2 * np.abs(x) - 0.9),
    }[shape]
    return np.where(inside[..., None], np.array(colour), 255).astype(np.uint8)


def _row(things) -> str:
    return " ".join(str(thing) for thing in things)
