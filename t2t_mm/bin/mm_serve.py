"""Serves a run: a page to talk to it in a browser, and a JSON API.

Needs the extra: pip install 't2t_mm[serve]'. Examples:

  mm-serve --output_dir=run
  mm-serve --output_dir=run --port=8080 --data_dir=data
  curl -s localhost:7860/api/generate -H 'Content-Type: application/json' \\
      -d '{"problem": "translate_ende_home", "inputs": "Good morning"}'

Only this machine can reach it, unless --host says otherwise; it asks nobody for a
password. Ctrl-C or SIGTERM stops it.
"""

import importlib.util
import os
import sys
from typing import Any

from absl import flags

from t2t_mm.bin import command, run_flags, threads
from t2t_mm.serving.limits import Limits

_NEEDED = ("gradio", "fastapi", "uvicorn", "soundfile")
_LIMITS = {
    "max_upload_megabytes": "of one picture or sound",
    "max_text_characters": "of one text",
    "max_picture_megapixels": "of one picture",
    "max_sound_seconds": "of one sound",
    "max_inputs": "inputs of one request",
    "max_answers": "most alternatives, and the widest beam",
    "max_queue": "requests that may wait; more are answered 503",
    "deadline_seconds": "from a request to its answer; later, 504",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-serve."""
    command.define_run_flags(values)
    command.define_path(values, "data_dir", None, "by default as the run was trained")
    flags.DEFINE_string(
        "step",
        None,
        "a checkpoint's step, or best; default: newest",
        flag_values=values,
    )
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "address to listen on; 0.0.0.0 for everybody who can reach this machine",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "port",
        7860,
        "port to listen on; 0 for any free one",
        lower_bound=0,
        upper_bound=65535,
        flag_values=values,
    )
    for name, text in _LIMITS.items():
        default = getattr(Limits, name)
        define = flags.DEFINE_integer if type(default) is int else flags.DEFINE_float
        define(name, default, text, flag_values=values)
    threads.define_thread_flags(values)


def serve(values: flags.FlagValues) -> None:
    """Does what the flags say."""
    given: dict[str, Any] = {name: values[name].value for name in _LIMITS}
    limits = Limits(**given)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} cannot be imported; mm-serve expects the extra "
            "'serve'. Run: pip install 't2t_mm[serve]'"
        )
    # For each length of a sound that it meets, oneDNN keeps what it prepared: memory
    # grew by 170 MB. TensorFlow's own kernels are as quick for a few rows at once.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    command.load_zoo(values.t2t_usr_dir)
    command.start_tensorflow(values)
    from t2t_mm import inference
    from t2t_mm.serving import server

    command.read_gin(values)
    step = run_flags.step_asked(values.step)
    run = inference.load_run(values.output_dir, data_dir=values.data_dir, step=step)
    server.serve(run, limits, host=values.host, port=values.port)


def main(argv: list[str] | None = None) -> int:
    """Runs mm-serve; gives its exit code."""
    return command.run(
        "mm-serve", serve, __doc__, define_flags, argv, required=("output_dir",)
    )


if __name__ == "__main__":
    sys.exit(main())
