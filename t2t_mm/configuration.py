"""What is learned and how: typed `HParams`, overrides, gin, and their files in a run.

Three homes for a setting: flags say which and where, `HParams` says what is learned,
gin-configurable keyword arguments say how a run goes. Imports no TensorFlow.
"""

import dataclasses
import json
import os
import re
import typing
from dataclasses import dataclass
from typing import Any

import gin

from t2t_mm import registry
from t2t_mm.files import write_atomically

HPARAMS_FILE = "hparams.json"
GIN_FILE = "operative_config.gin"


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Makes a documented, range-checked field of an `HParams`.

    Args:
      default: its value where a set says nothing.
      doc: what it means, with its unit.
      low, high: the bounds, both allowed values themselves.
      choices: the only allowed values.
    """
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class HParams:
    """What every model and its training need; a model's own class adds fields.

    Frozen: a set is changed with `dataclasses.replace` or `override`, both of which
    check name, type and range. Sets are registered functions that return one.

    Raises:
      TypeError: if a value has another type than its field.
      ValueError: if a value is out of its range.
    """

    # Size and regularisation.
    hidden_size: int = setting(128, "width D of the shared representation", low=1)
    dropout: float = setting(0.1, "share of values dropped in training", low=0, high=1)
    label_smoothing: float = setting(
        0.0, "probability mass spread over the wrong classes", low=0, high=1
    )
    # Modality nets.
    image_stages: int = setting(
        4, "stride-2 stages of the image net; 4 divides each side by 16", low=0, high=8
    )
    image_filters: int = setting(
        32, "filters of the image net's first step; doubled on the way to D", low=1
    )
    audio_input: str = setting(
        "log_mel",
        "what the audio net sees: log-mel made in the graph, or the waveform",
        choices=("log_mel", "waveform"),
    )
    audio_stages: int = setting(
        2, "stages of the audio net, each halves time; 8 is the paper's", low=0, high=12
    )
    audio_filters: int = setting(
        32, "filters of the audio net's first stage (log-mel)", low=1
    )
    audio_mel_bins: int = setting(80, "mel bands", low=1)
    audio_window_ms: float = setting(25.0, "length of a spectral window, ms", low=1)
    audio_hop_ms: float = setting(10.0, "time between spectral windows, ms", low=1)
    # Augmentation in training, all in the graph.
    image_max_shift: float = setting(
        0.0, "largest random shift of a picture, share of its side", low=0, high=1
    )
    image_flip: bool = setting(False, "mirror half of the pictures")
    image_colour_jitter: float = setting(
        0.0, "largest random change of brightness and contrast", low=0, high=1
    )
    spec_augment: bool = setting(
        False, "mask random bands of time and frequency of log-mel spectra"
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
    max_length: int = setting(
        256, "longest text in training, tokens; longer ones are dropped, counted", low=1
    )
    max_seconds: float = setting(
        20.0, "longest sound in training, s; longer ones are dropped, counted", low=0.1
    )
    # Optimisation.
    optimizer: str = setting("adam", "registered optimizer")
    learning_rate: float = setting(1e-3, "peak learning rate", low=0)
    schedule: str = setting(
        "constant*linear_warmup*rsqrt_decay",
        "factors of the learning rate, joined by *",
    )
    warmup_steps: int = setting(1000, "steps of linear warm-up", low=0)
    decay_steps: int = setting(
        0, "steps until cosine or linear decay ends; 0: train_steps", low=0
    )
    clip_norm: float = setting(
        1.0, "largest global norm of the gradient; 0 never clips", low=0
    )
    weight_decay: float = setting(0.0, "decoupled decay of matrices", low=0)
    adam_beta1: float = setting(0.9, "decay of Adam's first moment", low=0, high=1)
    adam_beta2: float = setting(0.98, "decay of Adam's second moment", low=0, high=1)
    adam_epsilon: float = setting(1e-9, "Adam's epsilon", low=0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _check_type(self, field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            _check_range(field, value)


def _check_type(hparams: HParams, field: dataclasses.Field, value: Any) -> Any:
    expected = typing.get_type_hints(type(hparams))[field.name]
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(expected) is tuple:
        if isinstance(value, list):
            value = tuple(value)
        inner = typing.get_args(expected)[0]
        if isinstance(value, tuple) and all(type(v) is inner for v in value):
            return value
    elif type(value) is expected:
        return value
    name = getattr(expected, "__name__", str(expected))
    if typing.get_origin(expected) is tuple:
        name = str(expected)
    raise TypeError(
        f"hparam '{field.name}' came as {value!r} ({type(value).__name__}); expected "
        f"{name}: {field.metadata.get('doc', '')}. Write a value of that type."
    )


def _check_range(field: dataclasses.Field, value: Any) -> None:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    choices = field.metadata.get("choices") or ()
    values = value if isinstance(value, tuple) else (value,)
    for one in values:
        if (
            (low is not None and not one >= low)
            or (high is not None and not one <= high)
            or (choices and one not in choices)
        ):
            allowed = (
                f"one of {', '.join(map(str, choices))}"
                if choices
                else f"{low if low is not None else 'any'} to "
                f"{high if high is not None else 'any'}"
            )
            raise ValueError(
                f"hparam '{field.name}' is {value!r}; expected {allowed}: "
                f"{field.metadata.get('doc', '')}. Choose a value in range."
            )


def override(hparams: HParams, **values: Any) -> HParams:
    """Gives a copy with some fields replaced; unknown names raise with the nearest.

    Raises:
      UnknownNameError: if there is no such field.
      TypeError, ValueError: as `HParams`.
    """
    known = [field.name for field in dataclasses.fields(hparams)]
    for name in values:
        if name not in known:
            raise registry.UnknownNameError(
                f"{type(hparams).__name__} has no hparam '{name}'. "
                f"{registry.nearest_names(name, known)}"
            )
    return dataclasses.replace(hparams, **values)


def parse_overrides(text: str, hparams: HParams) -> dict[str, Any]:
    """Reads `--hparams="hidden_size=64,kernels=(3,3),use_moe=false"`.

    Args:
      text: name=value pairs, joined by commas; tuples in (...) or [...].
      hparams: the set that will be overridden; gives each value its type.

    Returns:
      Values by name, of the fields' types.

    Raises:
      UnknownNameError: if there is no such field.
      ValueError: if a pair has no "=" or a value cannot be read as its type.
    """
    types = typing.get_type_hints(type(hparams))
    values: dict[str, Any] = {}
    for pair in re.split(r",(?![^(\[]*[)\]])", text):
        if not pair.strip():
            continue
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(
                f"--hparams has '{pair.strip()}'; expected name=value. "
                "Write for example --hparams=hidden_size=64,dropout=0.2."
            )
        override_names = {name: None}
        if name not in types:
            override(hparams, **override_names)
        values[name] = _read_value(name, value, types[name])
    return values


def _read_value(name: str, value: str, expected: Any) -> Any:
    if typing.get_origin(expected) is tuple:
        inner = typing.get_args(expected)[0]
        parts = [part.strip() for part in value.strip("()[] ").split(",")]
        return tuple(_read_value(name, part, inner) for part in parts if part)
    if expected is bool:
        if value.lower() in ("true", "1", "yes"):
            return True
        if value.lower() in ("false", "0", "no"):
            return False
    else:
        try:
            return expected(value)
        except ValueError:
            pass
    raise ValueError(
        f"--hparams sets {name}={value}; expected {expected.__name__}. "
        "Write a value of that type."
    )


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
    try:
        gin.parse_config_files_and_bindings(files or None, bindings)
    except Exception as error:
        raise ValueError(
            f"gin could not read --gin_file={files} --gin_binding={bindings}: "
            f"{str(error).strip()} Expected lines such as train.eval_frequency = 500 "
            "or hparams.hidden_size = 64."
        ) from error


def unused_gin_bindings() -> list[str]:
    """Lists bindings that were given but that nothing called has read."""
    configured = _binding_names(gin.config_str())
    operative = _binding_names(gin.operative_config_str())
    return sorted(configured - operative)


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
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); expected the JSON that mm-trainer "
            "writes. Restore the file, or train into another --output_dir."
        ) from error
    return override(named_hparams(named_set), **values), named_set


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
