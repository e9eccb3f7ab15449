"""Problems declared in a TOML file, or in one line: reading and checking.

`read(reference)` gives plain dicts that JSON can hold, all paths absolute, all labels
found; `declared_problems` makes problems of them. A file declares one problem at its
top, or several under [problems.NAME]; docs/declared_problems.md lists every key.
No TensorFlow.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from t2t_mm import declared_sources, registry
from t2t_mm.problem import CLASS_LABEL
from t2t_mm.problem_kinds import KINDS

SUFFIX = ".toml"
_SHORT = ("tfds", "huggingface", "folder", "table", "csv", "tsv", "jsonl")
MAX_LABELS = 100_000

_TYPES: dict[str, tuple[type, ...]] = {
    "a text in quotes": (str,),
    "a whole number": (int,),
    "a table": (dict,),
    "a list": (list,),
    "true or false": (bool,),
    "a text, a list or a table of splits": (str, list, dict),
}
_WORD, _WHOLE, _TABLE, _LIST, _FLAG, _FILES = _TYPES
# What a problem may say, and of which type.
KEYS: dict[str, str] = {
    "kind": _WORD,
    "description": _WORD,
    "command": _WORD,
    "licence": _WORD,
    "inputs": _WORD,
    "targets": _WORD,
    "vocabulary": _WORD,
    "labels": _LIST,
    "label_set": _WORD,
    "side": _WHOLE,
    "height": _WHOLE,
    "width": _WHOLE,
    "channels": _WHOLE,
    "sample_rate": _WHOLE,
    "with_tags": _FLAG,
    "metrics": _LIST,
    "baseline": _WORD,
    "on_bad_example": _WORD,
    "version": _WHOLE,
    "held_out": _TABLE,
    "key": _WORD,
    "table": _FILES,
    "parallel": _FILES,
    "folder": _FILES,
    "huggingface": _WORD,
    "tfds": _WORD,
    "splits": _TABLE,
    "columns": _LIST,
    "delimiter": _WORD,
    "files": _WORD,
    "data_dir": _WORD,
}
_PLAIN = (
    *("command", "licence", "vocabulary", "label_set", "height", "width", "channels"),
    *("sample_rate", "with_tags", "baseline", "on_bad_example"),
)


def is_reference(name: str) -> bool:
    """Tells a file or a one-line declaration from the name of a problem.

    Example:
      >>> [is_reference(name) for name in ("mine.toml", "tfds:mnist", "caption_emoji")]
      [True, True, False]
    """
    return name.endswith(SUFFIX) or name.partition(":")[0] in _SHORT and ":" in name


def read(reference: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Reads a declaration.

    Args:
      reference: a path that ends in .toml, or one line: "tfds:mnist",
        "table:pairs.tsv?inputs=english&targets=german".

    Returns:
      (a dict per problem, whole and checked; rates by name, if there are any).

    Raises:
      FileNotFoundError: if a file is not there.
      ValueError: names file, table and key.
    """
    if reference.endswith(SUFFIX):
        return _read_file(os.path.expanduser(reference))
    name, declared = _read_line(reference)
    return [_whole(name, declared, f"--problem={reference}", os.getcwd(), name, {})], {}


def names_in(reference: str) -> list[str]:
    """Gives the names of the problems that a declaration declares.

    Nothing else of it is read, so what it says of files need not be there.

    Raises:
      FileNotFoundError, ValueError: if the file is not there, or is no TOML.

    Example:
      >>> names_in("tfds:wmt14_translate/de-en")
      ['tfds_wmt14_translate_de_en']
    """
    if not reference.endswith(SUFFIX):
        return [_read_line(reference)[0]]
    path = os.path.expanduser(reference)
    problems = _content_of(path).get("problems")
    return list(problems) if isinstance(problems, dict) else [_stem_of(path)]


def _read_line(reference: str) -> tuple[str, dict[str, Any]]:
    scheme, _, rest = reference.partition(":")
    place, _, query = rest.partition("?")
    source = scheme if scheme in ("tfds", "huggingface", "folder") else "table"
    declared: dict[str, Any] = {source: unquote(place)}
    if source in ("table", "huggingface"):
        declared["kind"] = "text_to_text"
    if source == "folder":
        declared["kind"] = "image_to_class"
    name = ""
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        value = unquote(value)
        if key == "name":
            name = value
        elif KEYS.get(key) == _WHOLE and value.isdecimal():
            declared[key] = int(value)
        elif KEYS.get(key) == _LIST:
            declared[key] = value.split("|")
        else:
            declared[key] = value
    stem = (
        place.rstrip("/") if scheme == "tfds" else os.path.basename(place.rstrip("/"))
    )
    stem = f"{scheme}_{stem}" if scheme == "tfds" else stem.split(".")[0]
    return name or _name_of(stem), declared


def _name_of(stem: str) -> str:
    return re.sub(r"\W+", "_", stem.lower()).strip("_") or "declared"


def _stem_of(path: str) -> str:
    return _name_of(os.path.basename(path).removesuffix(SUFFIX))


def _content_of(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is not there; a TOML file that declares problems was expected. "
            "Check the path; docs/declared_problems.md shows one."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no TOML: {error}. Expected lines such as "
            'kind = "text_to_text". Correct it.'
        ) from error


def _read_file(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    content = _content_of(path)
    stem = _stem_of(path)
    folder = os.path.dirname(os.path.abspath(path))
    vocabularies = _vocabularies(content.pop("vocabularies", {}), path)
    rates = content.pop("rates", {})
    problems = content.pop("problems", None)
    if problems is None:
        problems, content = {stem: content}, {}
    _check_keys(content, {}, f"{path}, top", "problems, vocabularies, rates")
    if not isinstance(problems, dict) or not problems:
        raise ValueError(
            f"{path} declares no problem; expected kind = ... and a source at its top, "
            "or tables such as [problems.pets]. Add one."
        )
    found = []
    for name, declared in problems.items():
        place = f"{path}, [problems.{name}]" if len(problems) > 1 else path
        if not isinstance(declared, dict) or not re.fullmatch(r"[a-z]\w*", name):
            raise ValueError(
                f"{place}: a table with a name of small letters, digits and _ was "
                "expected, such as [problems.my_pets]. Rename it."
            )
        found.append(_whole(name, declared, place, folder, stem, vocabularies))
    return found, _rates(rates, [one["name"] for one in found], path)


def _rates(rates: Any, names: list[str], path: str) -> dict[str, float]:
    if not isinstance(rates, dict) or not all(
        isinstance(rate, int | float) and rate > 0 for rate in rates.values()
    ):
        raise ValueError(
            f"{path}, [rates]: {rates} came; a number above 0 for each problem was "
            f"expected, such as {names[0]} = 2. Correct it."
        )
    return {name: float(rate) for name, rate in rates.items()}


def _vocabularies(declared: Any, path: str) -> dict[str, dict[str, Any]]:
    for name, spec in declared.items():
        place = f"{path}, [vocabularies.{name}]"
        if not isinstance(spec, dict):
            raise ValueError(f"{place}: a table was expected: size = 4096. Write one.")
        _check_keys(spec, {"kind": _WORD, "size": _WHOLE}, place)
    return dict(declared)


def _check_keys(
    given: Mapping[str, Any], known: Mapping[str, str], place: str, hint: str = ""
) -> None:
    for key, value in given.items():
        if key not in known:
            nearest = hint or registry.nearest_names(key, list(known))
            raise ValueError(
                f"{place}: there is no key '{key}'. {nearest} Correct the name, or "
                "remove it."
            )
        types = _TYPES[known[key]]
        if not isinstance(value, types) or (
            isinstance(value, bool) and bool not in types
        ):
            raise ValueError(
                f"{place}: {key} is {value!r:.60}; {known[key]} was expected. "
                "Correct it."
            )


def _whole(
    name: str,
    declared: Mapping[str, Any],
    place: str,
    folder: str,
    vocabulary: str,
    vocabularies: Mapping[str, dict],
) -> dict[str, Any]:
    """Gives a declaration that says all: source, columns, labels, attributes."""
    _check_keys(declared, KEYS, place)
    try:
        source = declared_sources.described(declared, folder)
        hints = declared_sources.hints(source, declared)
        merged = {**hints, **declared}
        kind = merged.get("kind", "")
        if kind not in KINDS:
            raise ValueError(
                f"kind is {kind!r}; expected one of {', '.join(KINDS)}. Choose one."
            )
        whole = {
            "name": name,
            "kind": kind,
            "source": source,
            "written": {key: declared[key] for key in sorted(declared)},
            "inputs_column": merged.get("inputs", "inputs"),
            "targets_column": merged.get("targets", "targets"),
            "attributes": _attributes(merged, vocabulary),
            "description": declared.get("description", ""),
        }
        whole["source"]["columns_read"] = [
            whole["inputs_column"],
            whole["targets_column"],
        ]
        _check_splits(declared_sources.make(whole).split_names)
        if KINDS[kind].target_modality == CLASS_LABEL:
            whole["attributes"]["labels"] = _labels(merged, whole)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from error
    used = whole["attributes"]["vocabulary"]
    whole["vocabularies"] = {
        key: spec for key, spec in vocabularies.items() if key == used
    }
    return whole


def _attributes(merged: Mapping[str, Any], vocabulary: str) -> dict[str, Any]:
    attributes = {key: merged[key] for key in _PLAIN if key in merged}
    attributes.setdefault("vocabulary", vocabulary)
    if "side" in merged:
        attributes |= {"height": merged["side"], "width": merged["side"]}
    if "labels_by_number" in merged:
        attributes["labels_by_number"] = merged["labels_by_number"]
    if "metrics" in merged:
        attributes["metrics"] = list(merged["metrics"])
    if attributes.get("baseline") == "none":
        attributes["baseline"] = None
    return attributes


def _check_splits(names: tuple[str, ...]) -> None:
    missing = {"train", "dev"} - set(names)
    if missing:
        raise ValueError(
            f"the splits are {', '.join(names)}; train and dev were expected, and best "
            "a test split, too. Give files for each split, or one source for all and "
            "held_out = {dev = 0.05, test = 0.05}."
        )


def _labels(merged: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    labels = [str(label) for label in merged.get("labels", ())]
    labels = labels or declared_sources.found_labels(whole)
    if not 2 <= len(labels) <= MAX_LABELS:
        raise ValueError(
            f"column '{whole['targets_column']}' holds {len(labels)} different labels; "
            f"2 to {MAX_LABELS} were expected. Name another column, or the labels: "
            'labels = ["cat", "dog"].'
        )
    return labels
