"""Written text to the words that are spoken: "Press 1 now." -> "press one now".

Used by the speech problems for transcripts. Lower case, letters and apostrophes only,
digits spelled out.
"""

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SIGNS = {"#": " pound ", "*": " star ", "&": " and "}


def number_in_words(number: int) -> str:
    """Gives the words of a whole number from 0 to 999.

    Example:
      >>> number_in_words(0), number_in_words(42), number_in_words(305)
      ('zero', 'forty two', 'three hundred five')

    Raises:
      ValueError: if the number is outside 0..999.
    """
    if not 0 <= number <= 999:
        raise ValueError(
            f"number is {number}; 0 to 999 was expected. Say longer ones digit by "
            "digit."
        )
    if number < 20:
        return _ONES[number]
    if number < 100:
        rest = f" {_ONES[number % 10]}" if number % 10 else ""
        return _TENS[number // 10] + rest
    rest = f" {number_in_words(number % 100)}" if number % 100 else ""
    return f"{_ONES[number // 100]} hundred{rest}"


def in_spoken_words(text: str) -> str:
    """Gives the lower-case words of a text as they are spoken.

    Numbers of up to two digits are read as numbers, longer ones digit by digit;
    remarks in brackets are dropped.

    Example:
      >>> in_spoken_words("Dial 500, or press * [a tone].")
      'dial five zero zero or press star'
      >>> in_spoken_words("I'm de-activated at 9 A.M.")
      "i'm de activated at nine a m"
    """
    text = re.sub(r"\[[^]]*\]|\([^)]*\)|<[^>]*>", " ", text.lower())
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(r"\d+", lambda match: f" {_read(match.group())} ", text)
    return " ".join(re.sub(r"[^\w']|_", " ", text.replace("’", "'")).split())


def _read(digits: str) -> str:
    if len(digits) <= 2:
        return number_in_words(int(digits))
    return " ".join(_ONES[int(digit)] for digit in digits)
