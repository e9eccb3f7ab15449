"""Plans of utterances to join from recorded prompts: digits, letters, dates, prompts.

Deals in names of recordings alone, so that it can be read and tested without sound.
"""

from collections.abc import Sequence

import numpy as np

# Kinds and how often each is drawn.
_KINDS = {
    "digits": 3,
    "letters": 3,
    "spelled": 2,
    "number": 3,
    "date": 2,
    "time": 2,
    "words": 4,
    "sentences": 8,
}


class Planner:
    """Draws rows of recording names to be joined into one utterance.

    Args:
      names: recordings at hand; those under digits/, letters/ and phonetic/ are units
        of sequences, all others are words and sentences.

    Raises:
      ValueError: if there is no recording.
    """

    def __init__(self, names: Sequence[str]):
        if not names:
            raise ValueError(
                "No recordings came; at least one was expected to join utterances "
                "from. Check the downloads of the speech problem."
            )
        self.names = sorted(names)
        self.digits = self._there([f"digits/{n}" for n in range(10)] + ["digits/oh"])
        self.teens = self._there([f"digits/{n}" for n in range(10, 20)])
        self.tens = self._there([f"digits/{n}0" for n in range(2, 10)])
        self.scales = self._there(["digits/hundred", "digits/thousand"])
        self.days = self._there([f"digits/day-{n}" for n in range(7)])
        self.months = self._there([f"digits/mon-{n}" for n in range(12)])
        self.ordinals = self._there([f"digits/h-{n}" for n in range(1, 20)])
        self.ordinal_tens = self._there(["digits/h-20", "digits/h-30"])
        self.halves = self._there(["digits/a-m", "digits/p-m", "digits/oclock"])
        self.letters = [name for name in self.names if name.startswith("letters/")]
        self.spelled = [name for name in self.names if name.startswith("phonetic/")]
        self.prompts = [
            name
            for name in self.names
            if not name.startswith(("digits/", "letters/", "phonetic/"))
        ]

    def draw(self, rng: np.random.Generator, *, with_sentences: bool) -> list[str]:
        """Gives the recordings of one utterance, in order, at least two.

        Args:
          rng: decides.
          with_sentences: whether prompts of several words may take part.
        """
        kinds = [k for k in _KINDS if with_sentences or k != "sentences"]
        shares = np.array([_KINDS[kind] for kind in kinds], float)
        while True:
            kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
            names = getattr(self, f"_draw_{kind}")(rng)
            if len(names) >= 2:
                return names

    def _there(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self.names]

    def _draw_digits(self, rng) -> list[str]:
        return _some(rng, self.digits, 3, 8)

    def _draw_letters(self, rng) -> list[str]:
        return _some(rng, self.letters, 2, 6)

    def _draw_spelled(self, rng) -> list[str]:
        return _some(rng, self.spelled, 2, 6)

    def _draw_number(self, rng) -> list[str]:
        names = []
        if rng.random() < 0.6:
            names += _some(rng, self.digits[1:], 1, 1) + _some(rng, self.scales, 1, 1)
        if rng.random() < 0.3:
            return names + _some(rng, self.teens, 1, 1)
        return names + _some(rng, self.tens, 1, 1) + _some(rng, self.digits[1:], 0, 1)

    def _draw_date(self, rng) -> list[str]:
        names = _some(rng, self.days, 0, 1) + _some(rng, self.months, 1, 1)
        if rng.random() < 0.4:
            names += _some(rng, self.ordinal_tens, 1, 1)
            return names + _some(rng, self.ordinals[:9], 0, 1)
        return names + _some(rng, self.ordinals, 1, 1)

    def _draw_time(self, rng) -> list[str]:
        names = _some(rng, self.digits[1:10] + self.teens[:3], 1, 1)
        if rng.random() < 0.7:
            names += _some(rng, self.tens[:4], 1, 1) + _some(rng, self.digits[1:], 0, 1)
        return names + _some(rng, self.halves, 1, 1)

    def _draw_words(self, rng) -> list[str]:
        units = self.digits + self.letters + self.spelled + self.days + self.months
        return _some(rng, units + self.teens + self.tens + self.ordinals, 2, 6)

    def _draw_sentences(self, rng) -> list[str]:
        names = _some(rng, self.prompts, 1, 4)
        if rng.random() < 0.3:
            names += self._draw_digits(rng)[:3]
        return names


def _some(rng, names: list[str], least: int, most: int) -> list[str]:
    if not names:
        return []
    return [
        names[i] for i in rng.integers(len(names), size=rng.integers(least, most + 1))
    ]
