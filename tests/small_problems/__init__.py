"""A user's folder of small problems, one per modality, for tests of the data side."""

import io
import wave

import numpy as np
from PIL import Image

from t2t_mm.mixture import Mixture
from t2t_mm.problem import Feature, Problem
from t2t_mm.registry import register_mixture, register_problem, register_vocabulary
from t2t_mm.vocabulary import VocabularySpec

SIZES = {"train": 61, "dev": 7, "test": 5}
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@register_vocabulary
def small_words() -> VocabularySpec:
    """Sub-words of the small problems."""
    return VocabularySpec(size=300, problems=("small_reverse", "small_tones"))


@register_mixture
def small_mixture() -> Mixture:
    """Two of the small problems."""
    return Mixture(("small_reverse", "small_captions"))


@register_problem
class SmallReverse(Problem):
    """Writes words backwards."""

    inputs = Feature("text", vocabulary="small_words")
    targets = Feature("text", vocabulary="small_words")
    command = "To-Reversed"
    licence = "none needed"

    def generate(self, split, tmp_dir):
        """Yields rows of letters."""
        rng = np.random.default_rng(self.seed(split))
        for _ in range(SIZES[split]):
            letters = rng.choice(list("abcde"), size=rng.integers(1, 23))
            text = " ".join(letters)
            yield {"inputs": text, "targets": text[::-1]}


@register_problem
class SmallTones(Problem):
    """Names a tone."""

    inputs = Feature("audio", sample_rate=8000)
    targets = Feature("text", vocabulary="small_words")
    command = "To-English"

    def generate(self, split, tmp_dir):
        """Yields low and high tones."""
        rng = np.random.default_rng(self.seed(split))
        for number in range(SIZES[split]):
            seconds = np.arange(rng.integers(800, 4000)) / 8000
            wanted = number % 2
            samples = 9000 * np.sin(2 * np.pi * (300, 900)[wanted] * seconds)
            content = io.BytesIO()
            with wave.open(content, "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(8000)
                sound.writeframes(samples.astype("<i2").tobytes())
            yield {"inputs": content.getvalue(), "targets": ("low", "high")[wanted]}


class _Pictures(Problem):
    inputs = Feature("image", height=11, width=13)
    kind = "PNG"

    def target(self, name):
        """Gives the target of a picture of a colour."""
        return name

    def generate(self, split, tmp_dir):
        """Yields pictures of one colour."""
        rng = np.random.default_rng(self.seed(split))
        for _ in range(SIZES[split]):
            name = str(rng.choice(list(COLOURS)))
            pixels = np.zeros((19, 17, 3), np.uint8) + np.uint8(COLOURS[name])
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, self.kind)
            yield {"inputs": content.getvalue(), "targets": self.target(name)}


@register_problem
class SmallColours(_Pictures):
    """Says which colour a picture has."""

    targets = Feature("class_label", vocabulary="colours", labels=tuple(COLOURS))
    command = "To-Category"
    kind = "JPEG"


@register_problem
class SmallCaptions(_Pictures):
    """Says in bytes what a picture shows."""

    targets = Feature("text", vocabulary="bytes")
    command = "To-English"

    def target(self, name):
        """Gives a sentence."""
        return f"all {name}"
