"""Exports a trained run as a SavedModel for TensorFlow Serving.

Its signatures take raw texts, picture files and sounds, and give texts, labels and
scores: vocabulary and search are inside. Examples:

  mm-export --output_dir=run
  mm-export --output_dir=run --problem=caption_emoji --export_dir=served/captions
  mm-export --output_dir=run --decode_hparams=beam_size=4,num_return=3 \\
      --command_pairs=caption_emoji@To-German
"""

import sys
from typing import Any

from absl import flags

from t2t_mm.bin import command, run_flags, threads
from t2t_mm.files import check_place

_DROPPED = {
    "model": "The run knows its model.",
    "hparams_set": "The run knows its hparams.",
    "hparams": "The run knows its hparams.",
    "checkpoint_path": "Use --output_dir and --step.",
    "export_as_tfhub": "TensorFlow Hub has no modules of this kind any more.",
    "as_text": "A SavedModel is binary.",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-export."""
    command.define_run_flags(values)
    command.define_path(
        values, "export_dir", None, "where versions go; default: export in the run"
    )
    flags.DEFINE_list(
        "problem", [], "which of the run's problems; default: all", flag_values=values
    )
    flags.DEFINE_string(
        "command_pairs",
        "",
        "untrained pairings too, problem@command,...; or all",
        flag_values=values,
    )
    run_flags.define_decode_hparams(values)
    command.define_path(values, "data_dir", None, "by default as the run was trained")
    flags.DEFINE_string(
        "step",
        None,
        "a checkpoint's step, or best; default: newest",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "version",
        None,
        "of the export; default: one more than the highest",
        lower_bound=1,
        flag_values=values,
    )
    _define_limits(values)
    threads.define_thread_flags(values)
    command.define_dropped_flags(values, _DROPPED)


def _define_limits(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "max_tokens", 2048, "most of an input text", lower_bound=2, flag_values=values
    )
    flags.DEFINE_float(
        "max_seconds", 60.0, "most of an input sound", lower_bound=0, flag_values=values
    )
    flags.DEFINE_integer(
        "max_pixels",
        2**24,
        "most of an input picture, before it is resized",
        lower_bound=1,
        flag_values=values,
    )


def export(values: flags.FlagValues) -> None:
    """Does what the flags say."""
    settings = run_flags.decode_settings_from_flags(values)
    if values.export_dir:
        check_place(values.export_dir, "--export_dir", is_folder=True)
    with run_flags.loaded_run(values) as run:
        _export_run(run, settings, values)


def _export_run(run: Any, settings: Any, values: flags.FlagValues) -> None:
    from t2t_mm import export as engine
    from t2t_mm.graph_inputs import Limits

    values["problem"].value = run_flags.problems_asked(run, ",".join(values.problem))
    if values.command_pairs == engine.ALL:
        pairs = engine.all_pairs(run, values.problem)
    else:
        pairs = engine.parse_pairs(values.command_pairs)
    folder = engine.export_run(
        run,
        values.export_dir,
        problems=values.problem,
        pairs=pairs,
        decode_hparams=settings,
        limits=Limits(values.max_tokens, values.max_seconds, values.max_pixels),
        version=values.version,
        say=lambda line: print(line, file=sys.stderr),
    )
    print(engine.summary(folder))


def main(argv: list[str] | None = None) -> int:
    """Runs mm-export; gives its exit code."""
    return command.run(
        "mm-export", export, __doc__, define_flags, argv, required=("output_dir",)
    )


if __name__ == "__main__":
    sys.exit(main())
