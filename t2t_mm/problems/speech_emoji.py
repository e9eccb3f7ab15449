"""Synthetic speech: the names of emojis, spoken by a synthesizer in several voices."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from t2t_mm.problem import Feature, Problem
from t2t_mm.problems import emoji_table, splits, synthetic_voice, waveforms
from t2t_mm.problems.spoken_text import in_spoken_words
from t2t_mm.registry import register_problem

SAMPLE_RATE = 16000


@register_problem
class SpeechEmoji(Problem):
    """Synthetic voices saying emojis' English names -> the words.

    The splits are those of `caption_emoji`: `test` says combinations never heard,
    `test_concepts` concepts never heard. The speech is synthetic: a score here says
    nothing about people.

    Source: names from pip emoji 2.16.0, spoken by espeak-ng 1.52 from pip
    espeakng-loader 0.2.4 (run, not shipped), 22.05 kHz resampled to 16 kHz. Linux on
    x86-64 only. Sizes: train 5,938 utterances (145 minutes), dev 127, test 201,
    test_concepts 651.

    Class attributes:
      voices: language and variant.
      voices_per_name: how many of them say each name in training; one in the others.
      max_seconds: longer utterances are left out.
    """

    inputs = Feature("audio", sample_rate=SAMPLE_RATE)
    targets = Feature("text", vocabulary="eight_small")
    command = "To-English"
    metrics = ("wer", "cer")
    test_splits = ("test", "test_concepts")
    downloads = (
        synthetic_voice.ESPEAK,
        emoji_table.PICTURES,
        emoji_table.NAMES,
        emoji_table.GROUPS_OF_EMOJI,
    )
    licence = "names: Unicode CLDR, Unicode License v3; synthesizer: GPL-3.0, only run"
    voices = (
        "en-us",
        "en-us+f2",
        "en-us+m3",
        "en-us+f4",
        "en-us+m7",
        "en-gb-x-rp",
        "en-gb-x-rp+f3",
        "en-gb-scotland+m1",
    )
    voices_per_name = 2
    max_seconds = 8.0

    def generate(self, split: str, tmp_dir: str) -> Iterator[dict[str, Any]]:
        """Yields WAV files and names in spoken words."""
        speak, rate = synthetic_voice.start(tmp_dir)
        common = math.gcd(SAMPLE_RATE, rate)
        up, down = SAMPLE_RATE // common, rate // common
        # Sorted by voice, for changing the voice takes longer than speaking.
        for voice, text in sorted(self._utterances(split, tmp_dir)):
            samples = waveforms.trimmed(speak(text, voice), rate)
            samples = waveforms.resampled(samples, up=up, down=down)
            if len(samples) <= self.max_seconds * SAMPLE_RATE:
                wav = waveforms.wav_of(samples, SAMPLE_RATE)
                yield {"inputs": wav, "targets": text}

    def _utterances(self, split: str, tmp_dir: str) -> Iterator[tuple[str, str]]:
        for emoji in emoji_table.load(tmp_dir):
            text = in_spoken_words(emoji.names["en"])
            if text and emoji_table.naming_split(emoji) == split:
                for voice in self._voices_of(emoji.code, split):
                    yield voice, text

    def _voices_of(self, code: str, split: str) -> list[str]:
        number = self.voices_per_name if split == "train" else 1
        point = splits.fraction_of("voice:" + code)
        first = int(point * len(self.voices))
        order = np.roll(np.arange(len(self.voices)), -first)
        return [self.voices[i] for i in order[:number]]
