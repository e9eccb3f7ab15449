"""Which split a thing belongs to: one rule for the whole zoo.

A split is a pure function of a key, so that every problem, language and machine
agrees without talking: what is held out here is held out everywhere. Concepts of the
emoji table use `split_of_key` (see `emoji_table`), sentences use `split_of_text`.
"""

import hashlib
import re
import unicodedata

DEV_SHARE = 0.06
TEST_SHARE = 0.10


def split_of_key(key: str, *, dev: float = DEV_SHARE, test: float = TEST_SHARE) -> str:
    """Gives "train", "dev" or "test" for a key, the same on every machine.

    Args:
      key: whatever names the thing.
      dev, test: shares of all keys, 0 to 1.

    Example:
      >>> split_of_key("banana") == split_of_key("banana")
      True
    """
    point = fraction_of(key)
    if point < test:
        return "test"
    return "dev" if point >= 1.0 - dev else "train"


def fraction_of(key: str) -> float:
    """Gives a number in [0, 1), evenly spread over keys, the same on every machine."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def normalised(text: str) -> str:
    """Gives the form of a text in which near-duplicates are equal.

    Lower case, each run of digits a 0, every run of other marks one blank.

    Example:
      >>> normalised("Temperature 5!") == normalised("temperature  16")
      True
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    return " ".join(re.sub(r"\W+", " ", re.sub(r"\d+", "0", folded)).split())


def split_of_text(
    text: str, *, dev: float = DEV_SHARE, test: float = TEST_SHARE
) -> str:
    """Gives the split of a sentence; near-duplicates share one.

    Args:
      text: the sentence.
      dev, test: shares of all sentences. With larger shares, what was held out with
        smaller ones still is.

    Example:
      >>> split_of_text("Temperature 5") == split_of_text("temperature 6")
      True
    """
    return split_of_key("text:" + normalised(text), dev=dev, test=test)
