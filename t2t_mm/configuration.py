"""What is learned and how: typed `HParams`, overrides, gin, and their files in a run.

Three homes for a setting: flags say which and where, `HParams` says what is learned,
gin-configurable keyword arguments say how a run goes. Imports no TensorFlow.
"""

import dataclasses
import inspect
import json
import os
import re
import typing
from dataclasses import dataclass
from typing import Any

import gin

from t2t_mm import registry
from t2t_mm.audio_settings import AudioSettings, refuse_unread
from t2t_mm.augmentation_settings import AugmentationSettings
from t2t_mm.fields import (
    fit_fields,
    name_of,
    read_text,
    setting,
    split_outside_brackets,
)
from t2t_mm.files import write_atomically
from t2t_mm.optimisation import OptimisationSettings

HPARAMS_FILE = "hparams.json"
GIN_FILE = "operative_config.gin"


@dataclass(frozen=True)
class HParams(AudioSettings, AugmentationSettings, OptimisationSettings):
    """What every model and its training need; a model's own class adds fields.

    Frozen: a set is changed with `dataclasses.replace` or `override`, both of which
    check name, type and range. Sets are registered functions that return one.

    Raises:
      TypeError: if a value has another type than its field.
      ValueError: if a value is out of its range.
    """

    # Size and regularisation.
    hidden_size: int = setting(128, "width D of the shared representation", low=1)
    dropout: float = setting(0.1, "share of values dropped in training", low=0, below=1)
    label_smoothing: float = setting(
        0.0, "probability mass spread over the wrong classes", low=0, below=1
    )
    decode_classes: bool = setting(
        False, "class problems run the decoder for one position, too"
    )
    # Modality nets.
    tie_embeddings: bool = setting(
        False, "use the embedding matrix for the softmax, too"
    )
    image_stages: int = setting(
        4, "stride-2 stages of the image net; 4 divides each side by 16", low=0, high=8
    )
    image_filters: int = setting(
        32, "filters of the image net's first step; doubled on the way to D", low=1
    )
    # Batches.
    batch_tokens: int = setting(
        1024, "padded positions per batch of a text problem, inputs or targets", low=1
    )
    batch_examples: int = setting(
        32, "examples per batch where inputs have a fixed size (images)", low=1
    )
    batch_seconds: float = setting(
        60.0, "padded seconds of sound per batch of an audio problem", low=0.1
    )
    pack_length: int = setting(
        0,
        "text to text: positions of a row that several examples share in training, "
        "kept apart by the layers; 0: a row for each",
        low=0,
    )
    max_length: int = setting(
        256, "longest text in training, tokens; longer ones are dropped, counted", low=1
    )
    max_seconds: float = setting(
        20.0, "longest sound in training, s; longer ones are dropped, counted", low=0.1
    )

    def __post_init__(self):
        fit_fields(self)
        refuse_unread(self)
        if self.pack_length and not (
            self.max_length <= self.pack_length <= self.batch_tokens
        ):
            raise ValueError(
                f"pack_length={self.pack_length} came with max_length="
                f"{self.max_length} and batch_tokens={self.batch_tokens}; expected a "
                "number from the first to the second, since every text must fit in a "
                "row and a row in a batch. Set pack_length=batch_tokens, or lower "
                "max_length."
            )


def override(hparams: HParams, **values: Any) -> HParams:
    """Gives a copy with some fields replaced; unknown names raise with the nearest.

    Raises:
      UnknownNameError: if there is no such field.
      TypeError, ValueError: as `HParams`.
    """
    for name in values:
        _check_field(hparams, name)
    return dataclasses.replace(hparams, **values)


def _example(hparams: Any) -> str:
    first, second = dataclasses.fields(hparams)[:2]
    return ",".join(f"{f.name}={getattr(hparams, f.name)}" for f in (first, second))


def _check_field(hparams: Any, name: str) -> None:
    known = [field.name for field in dataclasses.fields(hparams)]
    if name not in known:
        raise registry.UnknownNameError(
            f"{type(hparams).__name__} has no hparam '{name}'; expected one of its "
            f"names. {registry.nearest_names(name, known)} Correct the name."
        )


def parse_overrides(
    text: str, hparams: Any, *, flag: str = "--hparams"
) -> dict[str, Any]:
    """Reads `--hparams="hidden_size=64,kernels=(3,3),use_moe=false"`.

    Args:
      text: name=value pairs, joined by commas; tuples in (...) or [...].
      hparams: the set that will be overridden, a dataclass; gives each value its type.
      flag: where the text comes from, for the messages.

    Returns:
      Values by name, of the fields' types.

    Raises:
      UnknownNameError: if there is no such field.
      ValueError: if a pair has no "=", a value cannot be read as its type, or a name
        comes twice.
    """
    types = typing.get_type_hints(type(hparams))
    values: dict[str, Any] = {}
    for pair in split_outside_brackets(text):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(
                f"{flag} has '{pair}'; expected name=value. "
                f"Write for example {flag}={_example(hparams)}."
            )
        _check_field(hparams, name)
        if name in values:
            raise ValueError(
                f"{flag} sets '{name}' twice; expected once. Remove one of them."
            )
        try:
            values[name] = read_text(value, types[name])
        except ValueError:
            raise ValueError(
                f"{flag} sets {name}={value}; expected {name_of(types[name])}. "
                "Write a value of that type."
            ) from None
    return values


def named_hparams(name: str) -> HParams:
    """Gives the registered set of a name.

    Raises:
      UnknownNameError: if there is none.
    """
    return registry.hparams.get(name)()


@gin.configurable("hparams")
def configured_hparams(named_set: str, **overrides: Any) -> HParams:
    """Gives a named set with overrides: from `--hparams`, or gin's `hparams.field = x`.

    Args:
      named_set: name of a registered set.
      **overrides: values by field.

    Raises:
      UnknownNameError, TypeError, ValueError: as `override`.
    """
    return override(named_hparams(named_set), **overrides)


def parse_gin(files: list[str], bindings: list[str]) -> None:
    """Reads gin files and bindings, with one-line errors for a user's mistakes.

    Raises:
      ValueError: if gin cannot read them.
    """
    for file in files:
        if not os.path.isfile(file):
            raise ValueError(
                f"--gin_file={file} is no file; expected one with lines such as "
                "train.eval_frequency = 500. Check the path."
            )
    gin.clear_config()  # settings of an earlier run in this process are not ours
    try:
        gin.parse_config_files_and_bindings(files or None, bindings)
    except Exception as error:  # gin raises nearly every built-in exception
        given = [f"--gin_file={name}" for name in files]
        given += [f"--gin_binding={binding}" for binding in bindings]
        lines = [line.strip(" :.") for line in str(error).splitlines()] or [""]
        reason = re.sub(r": <.*>| in config string$", "", lines[0])
        places = [f" ({line})" for line in lines if line.startswith("In file")]
        raise ValueError(
            f"gin cannot read {' '.join(given)}: {reason}{''.join(places[:1])}. "
            f"{_nearest_configurable(reason)}Expected lines such as "
            "train.eval_frequency = 500 or hparams.hidden_size = 64; text in quotes."
        ) from error
    # gin locks what it read, and refuses modules with settings imported later.
    gin.config._set_config_is_locked(False)


def _nearest_configurable(reason: str) -> str:
    """Gives the nearest names to the one that gin's message complains of, or ""."""
    # gin 0.5 has no public list of what can be configured.
    known = {
        selector.split(".")[-1]: configurable.wrapper
        for selector, configurable in gin.config._REGISTRY.items()
    }
    if match := re.search(r"No configurable matching (?:reference )?'@?(\w+)", reason):
        return registry.nearest_names(match[1], sorted(known)) + " "
    if match := re.search(r"'(?:\w+\.)*(\w+)' doesn't have .* named '(\w+)'", reason):
        parameters = list(inspect.signature(known[match[1]]).parameters)
        return registry.nearest_names(match[2], parameters) + " "
    return ""


def unused_gin_bindings() -> list[str]:
    """Lists bindings that were given but that nothing called has read."""
    configured = _binding_names(gin.config_str())
    operative = _binding_names(gin.operative_config_str())
    return sorted(configured - operative)


def refuse_unused_gin_bindings(*prefixes: str) -> None:
    """Refuses bindings that nothing has read; call it when all should be.

    Args:
      *prefixes: look only at names that begin so, "train."; none for all.

    Raises:
      ValueError: names them.
    """
    unused = unused_gin_bindings()
    if prefixes:
        unused = [name for name in unused if name.startswith(prefixes)]
    if unused:
        raise ValueError(
            f"Nothing has read the gin bindings {', '.join(unused)}; expected each to "
            "be used. A flag beats a binding of the same name: give one of them."
        )


def _binding_names(config: str) -> set[str]:
    return set(re.findall(r"^([\w./]+\.\w+) = ", config, re.MULTILINE))


def to_json(hparams: HParams, named_set: str) -> str:
    """Gives the text of `hparams.json`: class, set and every value."""
    record = {
        "class": type(hparams).__name__,
        "hparams_set": named_set,
        "values": dataclasses.asdict(hparams),
    }
    return json.dumps(record, indent=1)


def save_hparams(hparams: HParams, named_set: str, run_dir: str) -> None:
    """Writes `<run_dir>/hparams.json`."""
    path = os.path.join(run_dir, HPARAMS_FILE)
    write_atomically(path, to_json(hparams, named_set).encode())


def load_hparams(run_dir: str) -> tuple[HParams, str] | None:
    """Reads `<run_dir>/hparams.json`.

    Returns:
      (the hparams, the name of their set), or None where there is no such file.

    Raises:
      ValueError: if the file is not one that `save_hparams` wrote.
    """
    path = os.path.join(run_dir, HPARAMS_FILE)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        named_set = record["hparams_set"]
        values = record["values"]
        # A setting newer than the run is as its class has it, which is how the run was
        # trained, not as the set has it now.
        loaded = override(type(named_hparams(named_set))(), **values)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be used: {error} Expected the JSON that mm-trainer wrote "
            "with this version of the set. Restore it, or use another --output_dir."
        ) from error
    return loaded, named_set


def check_same(saved: HParams, asked: HParams, run_dir: str) -> None:
    """Refuses to go on with a run under other hparams than it was started with.

    Raises:
      ValueError: names every field that differs, with both values.
    """
    if type(saved) is not type(asked):
        raise ValueError(
            f"{run_dir} was trained with {type(saved).__name__}, now "
            f"{type(asked).__name__} came. Use another --output_dir."
        )
    differing = [
        f"{field.name} (run {getattr(saved, field.name)!r}, "
        f"asked {getattr(asked, field.name)!r})"
        for field in dataclasses.fields(saved)
        if getattr(saved, field.name) != getattr(asked, field.name)
    ]
    if differing:
        raise ValueError(
            f"{run_dir} has hparams that differ from the ones asked for: "
            f"{'; '.join(differing)}. Leave them as the run has them, or use "
            "another --output_dir."
        )


def save_operative_gin(run_dir: str) -> None:
    """Writes `<run_dir>/operative_config.gin`: every gin value that was read."""
    path = os.path.join(run_dir, GIN_FILE)
    write_atomically(path, gin.operative_config_str().encode())
