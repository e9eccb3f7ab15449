"""Plans of utterances to join from recorded prompts: digits, letters, dates, prompts.

Deals in names of recordings alone, so that it can be read and tested without sound.
"""

from collections.abc import Sequence

import numpy as np

_MOST_TRIES = 1000


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
        # How often each kind is drawn, relative to the others.
        self._shares = {
            self._draw_digits: 3,
            self._draw_letters: 3,
            self._draw_spelled: 2,
            self._draw_number: 3,
            self._draw_date: 2,
            self._draw_time: 2,
            self._draw_words: 4,
            self._draw_sentences: 48,
        }

    def draw(self, rng: np.random.Generator, *, with_sentences: bool) -> list[str]:
        """Gives the recordings of one utterance, in order, at least two.

        Args:
          rng: decides.
          with_sentences: whether prompts of several words may take part.

        Raises:
          ValueError: if the recordings at hand make no row of two.
        """
        draws = dict(self._shares)
        if not with_sentences:
            del draws[self._draw_sentences]
        shares = np.array(list(draws.values())) / sum(draws.values())
        for _ in range(_MOST_TRIES):
            names = list(draws)[rng.choice(len(draws), p=shares)](rng)
            if len(names) >= 2:
                return names
        raise ValueError(
            f"Nothing can be joined from the {len(self.names)} recordings at hand; "
            "digits or letters among them were expected. Check the downloads of the "
            "speech problem."
        )

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
