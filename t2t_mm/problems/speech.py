"""Recorded speech: the voice prompts of a telephone exchange, and joins of them."""

import dataclasses
import functools
import gzip
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from t2t_mm.problem import Download, Feature, Problem
from t2t_mm.problems import archives, emoji_table, splits, utterances, waveforms
from t2t_mm.problems.spoken_text import in_spoken_words
from t2t_mm.registry import register_problem

SAMPLE_RATE = 16000
RECORDED_RATE = 8000

TRANSCRIPTS = Download(
    channel="apt",
    package="asterisk-core-sounds-en",
    version="1.6.1-1",
    filename="asterisk-core-sounds-en_1.6.1-1_all.deb",
    sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
)
RECORDINGS = Download(
    channel="apt",
    package="asterisk-core-sounds-en-gsm",
    version="1.6.1-1",
    filename="asterisk-core-sounds-en-gsm_1.6.1-1_all.deb",
    sha256="ddc33205a56aebf54c73a0fb95c3a0d8131087878d74857a4e54bcab2b0d72ae",
)

# Recordings whose transcript does not say what is heard: "does not say '2'" and such.
_NOT_AS_WRITTEN = {"spy-iax2", "vm-savemessage", "spy-h323", "spy-misdn"}

_TRIES_PER_JOIN = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """One recording: its name, what is said, and float32 [T] at SAMPLE_RATE."""

    name: str
    text: str
    samples: np.ndarray

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / SAMPLE_RATE


@register_problem
class SpeechPrompts(Problem):
    """Recorded telephone prompts, one English speaker -> what is said.

    Training hears the prompts of its split and joins of them (see `utterances`): runs
    of digits, letters, dates, numbers, prompts in a row. Two tests: `test`, sentences
    never heard, split by sentence; `test_sequences`, sequences never heard of words
    that were. Prompts of at most three words are in training only, as the words
    of sequences.

    Source: Debian asterisk-core-sounds-en and -gsm 1.6.1-1, 8 kHz GSM 06.10, resampled
    to 16 kHz; tones and silences left out. Sizes: train 4,472 utterances (309 minutes,
    472 of them prompts as recorded), dev 25, test 27, test_sequences 200 (12 minutes).

    Class attributes:
      max_seconds: longer recordings and joins are left out.
      num_joins: split -> how many joined utterances it holds.
      lengths: a training join is played this much slower, in sixteenths, at random.
    """

    inputs = Feature("audio", sample_rate=SAMPLE_RATE)
    targets = Feature("text", vocabulary="eight_small", spelled=True)
    command = "To-English"
    metrics = ("wer", "cer")
    test_splits = ("test", "test_sequences")
    downloads = (
        TRANSCRIPTS,
        RECORDINGS,
        emoji_table.PICTURES,
        emoji_table.NAMES,
        emoji_table.GROUPS_OF_EMOJI,
    )
    licence = "CC-BY-SA-3.0 (Allison Smith, June Wallack, Digium)"
    version = 3
    max_seconds = 8.0
    num_joins: ClassVar[dict[str, int]] = {"train": 4000, "test_sequences": 200}
    lengths = (15, 16, 17)

    def generate(self, split: str, tmp_dir: str) -> Iterator[dict[str, Any]]:
        """Yields WAV files and transcripts: first the prompts, then the joins."""
        prompts = [
            p for p in read_prompts(tmp_dir) if 0.2 <= p.seconds <= self.max_seconds
        ]
        held_out = emoji_table.held_out_names(tmp_dir)
        for prompt in prompts:
            if split_of_prompt(prompt, held_out) == split:
                yield _example(prompt.samples, prompt.text)
        if num_joins := self.num_joins.get(split, 0):
            heard = [p for p in prompts if split_of_prompt(p, held_out) == "train"]
            yield from self._joins(split, heard, num_joins)

    def _joins(
        self, split: str, prompts: list[Prompt], number: int
    ) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(self.seed(split))
        planner = utterances.Planner([prompt.name for prompt in prompts])
        by_name = {prompt.name: prompt for prompt in prompts}
        seen: set[str] = set()
        for _ in range(_TRIES_PER_JOIN * number):
            if len(seen) == number:
                return
            names = planner.draw(rng, with_sentences=split == "train")
            parts = [by_name[name] for name in names]
            text = " ".join(part.text for part in parts)
            if text in seen or _is_held_out(text) != (split != "train"):
                continue
            samples = _join(parts, rng)
            if split == "train":
                up = self.lengths[rng.integers(len(self.lengths))]
                samples = waveforms.resampled(samples, up=up, down=16)
                samples *= rng.uniform(0.5, 1.0)
            if len(samples) <= self.max_seconds * SAMPLE_RATE:
                seen.add(text)
                yield _example(samples, text)
        raise ValueError(
            f"Only {len(seen)} different utterances could be joined for split "
            f"'{split}' of {self.name}; {number} were expected. Check the downloads, "
            "or lower num_joins."
        )


def split_of_prompt(prompt: Prompt, held_out: dict[str, str]) -> str:
    """Gives the split of a prompt; "" for one that says a held-out emoji's name."""
    if splits.normalised(prompt.text) in held_out:
        return ""
    if len(prompt.text.split()) <= 3:
        return "train"
    return splits.split_of_text(prompt.text, dev=0.08, test=0.18)


@functools.lru_cache(maxsize=2)
def read_prompts(tmp_dir: str) -> tuple[Prompt, ...]:
    """Reads every spoken recording that has a transcript, sorted by name.

    Raises:
      FileNotFoundError: if a download is missing.
    """
    texts = read_transcripts(tmp_dir)
    prompts = []
    for path, content in archives.deb_members(RECORDINGS, tmp_dir):
        name = path.partition("/sounds/")[2].partition("/")[2].removesuffix(".gsm")
        if path.endswith(".gsm") and name in texts:
            samples = waveforms.trimmed(_decoded(content), RECORDED_RATE)
            samples = waveforms.resampled(
                samples, up=SAMPLE_RATE // RECORDED_RATE, down=1
            )
            prompts.append(Prompt(name, texts[name], samples))
    return tuple(sorted(prompts, key=lambda prompt: prompt.name))


def read_transcripts(tmp_dir: str) -> dict[str, str]:
    """Gives recording -> its words, without tones, silences and wrong transcripts."""
    for path, content in archives.deb_members(TRANSCRIPTS, tmp_dir):
        if path.endswith("core-sounds-en.txt.gz"):
            lines = gzip.decompress(content).decode().splitlines()
            break
    else:
        raise ValueError(
            f"{TRANSCRIPTS.filename} holds no core-sounds-en.txt.gz; version "
            f"{TRANSCRIPTS.version} has it. Delete it and run mm-datagen again."
        )
    texts = {}
    for line in lines:
        name, _, text = line.partition(": ")
        if line.startswith(";") or name in _NOT_AS_WRITTEN or not text:
            continue
        if words := in_spoken_words(text):
            texts[name] = words
    return texts


def _decoded(gsm: bytes) -> np.ndarray:
    import soundfile

    samples, _ = soundfile.read(
        io.BytesIO(gsm),
        format="RAW",
        subtype="GSM610",
        samplerate=RECORDED_RATE,
        channels=1,
        dtype="float32",
    )
    return samples


def _is_held_out(sequence: str) -> bool:
    return splits.fraction_of("sequence:" + sequence) < splits.TEST_SHARE


def _join(parts: list[Prompt], rng: np.random.Generator) -> np.ndarray:
    pauses = rng.uniform(0.02, 0.25, size=len(parts) - 1)
    return waveforms.joined([part.samples for part in parts], pauses, SAMPLE_RATE)


def _example(samples: np.ndarray, text: str) -> dict[str, Any]:
    return {"inputs": waveforms.wav_of(samples, SAMPLE_RATE), "targets": text}
