"""The flags of commands that use a trained run, and loading the run that they name."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags

from t2t_mm import declarations
from t2t_mm.bin import command
from t2t_mm.mixture import parse_problems
from t2t_mm.registry import UnknownNameError

if TYPE_CHECKING:
    from t2t_mm.decode_settings import DecodeHParams
    from t2t_mm.inference import Run


def define_checkpoint_flags(values: flags.FlagValues) -> None:
    """Defines `--data_dir`, `--step` and `--checkpoint_path`."""
    command.define_path(
        values, "data_dir", None, "folder of the data; by default the run's"
    )
    flags.DEFINE_string(
        "step",
        None,
        "step of the checkpoint, or best; by default the newest",
        flag_values=values,
    )
    command.define_path(
        values,
        "checkpoint_path",
        None,
        "a checkpoint instead of --output_dir and --step: run/checkpoints/ckpt-5000",
    )


def define_decode_hparams(values: flags.FlagValues) -> None:
    """Defines `--decode_hparams`."""
    flags.DEFINE_string(
        "decode_hparams",
        "",
        "how to search: beam_size=4,alpha=0.6,num_return=3, or temperature=0.8,top_p="
        "0.9; docs/commands.md lists all; greedy by default",
        flag_values=values,
    )


# What Tensor2Tensor had in its decode_hparams and is elsewhere here.
DROPPED_DECODE_HPARAMS = {
    "return_beams": "Set num_return to the number of answers.",
    "write_beam_scores": "Use --scores, which writes score, tab, answer.",
    "num_decodes": "Set num_return, and temperature to draw.",
    "num_samples": "Use --limit.",
    "extra_length": "Set max_length, the most tokens of an answer.",
    "force_decode_length": "Set min_length and max_length.",
    "min_length_ratio": "Set min_length.",
    "eos_penalty": "Set alpha, or min_length.",
    "max_input_size": "Cut the lines of the input before.",
    "shards": "Cut the input with split(1).",
    "shard_id": "Cut the input with split(1).",
    "delimiter": "Inputs are lines.",
    "multiproblem_task_id": "Use --problem and --command.",
    "block_size": "There is no such model.",
    "identity_output": "Leave it out.",
    "log_results": "Leave it out.",
}


def decode_settings_from_flags(values: flags.FlagValues) -> "DecodeHParams":
    """Gives the settings of `--decode_hparams`.

    Raises:
      UnknownNameError, TypeError, ValueError: as `decode_settings.decode_settings`; and
        if a setting is one of Tensor2Tensor that is gone: says what replaces it.
    """
    from t2t_mm.decode_settings import decode_settings
    from t2t_mm.fields import split_outside_brackets

    for pair in split_outside_brackets(values.decode_hparams):
        name = pair.partition("=")[0].strip()
        if name in DROPPED_DECODE_HPARAMS:
            raise ValueError(
                f"--decode_hparams has '{name}', a setting of Tensor2Tensor that is "
                f"gone. {DROPPED_DECODE_HPARAMS[name]}"
            )
    return decode_settings(values.decode_hparams)


@contextlib.contextmanager
def loaded_run(values: flags.FlagValues) -> Iterator["Run"]:
    """Loads the run that the flags name; afterwards refuses gin bindings not read.

    Raises:
      ValueError: if no run is named, a step is no number, or a binding is not used.
    """
    path = _path(values)
    step = step_asked(values.step)
    command.load_zoo(values.t2t_usr_dir)
    command.start_tensorflow(values)
    from t2t_mm import configuration, inference

    command.read_gin(values)
    # These two are of training alone; what else is there, the command may yet read.
    configuration.refuse_unused_gin_bindings("train.", "hparams.")
    yield inference.load_run(path, data_dir=values.data_dir, step=step)
    configuration.refuse_unused_gin_bindings()


def problems_asked(run: "Run", names: str) -> list[str]:
    """Gives the run's problems that a comma list means.

    Args:
      run: what was trained.
      names: problems of the run, mixtures, or what they were declared with: a path
        that ends in .toml, a line such as tfds:mnist.

    Raises:
      ValueError: if one is no problem of the run.
    """

    found: list[str] = []
    for part in filter(None, map(str.strip, names.split(","))):
        if part in run.problems:
            found.append(part)
        elif declarations.is_reference(part):
            found += declarations.names_in(part)
        else:
            try:
                found += parse_problems(part).problems
            except UnknownNameError:
                found.append(part)  # the run says below what it knows
    if names and not found:
        raise ValueError(
            f"--problem={names} names no problem; expected one of "
            f"{', '.join(run.problems)}. Name one, or leave --problem out for all."
        )
    return [run.problem(name).name for name in dict.fromkeys(found)]


def problem_asked(run: "Run", name: str, command: str | None = None) -> str:
    """Gives the one problem of the run that a name means, as `problems_asked`.

    Args:
      run: what was trained.
      name: of the problem, or what it was declared with.
      command: that it is asked under; None for its own.

    Raises:
      ValueError: if it is none, or several, or the command does not fit.
    """
    found = [name]
    if name not in run.problems and declarations.is_reference(name):
        found = problems_asked(run, name)
    if len(found) > 1:
        raise ValueError(
            f"--problem={name} declares {', '.join(found)}; one problem was expected. "
            f"Name it: --problem={found[0]}."
        )
    run.problem(found[0], command)
    return found[0]


def step_asked(text: str | None) -> int | str | None:
    """Gives the step that `--step` names, "best", or None for the newest.

    Raises:
      ValueError: if it is something else.
    """
    if text is None or text == "best":
        return text
    if not (text.isascii() and text.isdigit()):
        raise ValueError(
            f"--step={text} came; expected the number of a checkpoint's step, or best. "
            "Leave it out for the newest."
        )
    return int(text)


def _path(values: flags.FlagValues) -> str:
    if values.checkpoint_path and values.step:
        raise ValueError(
            f"--checkpoint_path={values.checkpoint_path} and --step={values.step} came "
            "together; expected one of them. Leave one out."
        )
    if values.checkpoint_path and values.output_dir:
        run_dir = os.path.realpath(values.output_dir)
        if not os.path.realpath(values.checkpoint_path).startswith(run_dir):
            raise ValueError(
                f"--checkpoint_path={values.checkpoint_path} came with --output_dir="
                f"{values.output_dir}; expected a checkpoint of that run. Leave "
                "--output_dir out."
            )
    path = values.checkpoint_path or values.output_dir
    if not path:
        raise ValueError(
            "No value came for --output_dir. Expected: --output_dir: folder of the "
            "run: checkpoints, logs, settings. Or name a --checkpoint_path."
        )
    return path
