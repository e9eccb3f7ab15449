"""The shell that every command shares: flags, help, the zoo, errors, exit codes.

A command is a module `mm_<verb>.py` of this shape; the engine is imported inside the
body, after the flags were read:

    def define_flags(values):
        command.define_problem_flags(values)
        flags.DEFINE_integer("num_shards", 10, "files a split", flag_values=values)

    def generate(values):
        from t2t_mm import datagen
        command.load_zoo(values.t2t_usr_dir)
        command.read_gin(values)
        datagen.generate_data(values.problem, values.data_dir, values.tmp_dir)

    def main(argv=None):
        return command.run(
            "mm-datagen", generate, __doc__, define_flags, argv, required=("problem",)
        )

Exit codes: 0 done, 2 the user's mistake (one message, no traceback), 130 Ctrl-C, 1
anything else (with its traceback).
"""

import contextlib
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import flags

from t2t_mm import allocation
from t2t_mm.bin import menu, plugins, threads
from t2t_mm.bin.command_line import (
    DroppedFlag,
    check_required,
    help_text,
    parse_flags,
)

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path; ~ is the home folder"

    def parse(self, argument):
        return os.path.expanduser(argument)


def define_path(
    values: flags.FlagValues, name: str, default: str | None, text: str
) -> None:
    """Defines a flag that holds a path; a leading ~ becomes the home folder."""
    flags.DEFINE(_PathParser(), name, default, text, flag_values=values)


def define_problem_flags(values: flags.FlagValues) -> None:
    """Defines `--problem`, `--data_dir` and `--tmp_dir`."""
    flags.DEFINE_string(
        "problem",
        None,
        "a problem, a mixture, a TOML file that declares problems, tfds:NAME, or a "
        "comma list of these; mm-registry lists all",
        flag_values=values,
    )
    define_path(values, "data_dir", None, "folder of the shards and vocabularies")
    define_path(
        values,
        "tmp_dir",
        os.path.join(tempfile.gettempdir(), "t2t_mm"),
        "folder of downloaded files",
    )


def define_model_flags(values: flags.FlagValues) -> None:
    """Defines `--model`, `--hparams_set` and `--hparams`."""
    flags.DEFINE_string("model", None, "a registered model", flag_values=values)
    flags.DEFINE_string(
        "hparams_set", None, "a registered hparams set", flag_values=values
    )
    flags.DEFINE_string(
        "hparams",
        "",
        "changes to the set: hidden_size=64,dropout=0.2",
        flag_values=values,
    )


def define_run_flags(values: flags.FlagValues) -> None:
    """Defines `--output_dir`, the folder of one training run."""
    define_path(
        values, "output_dir", None, "folder of the run: checkpoints, logs, settings"
    )


def define_dropped_flags(
    values: flags.FlagValues, replacements: Mapping[str, str]
) -> None:
    """Makes each use of a Tensor2Tensor flag an error that says what replaces it.

    Args:
      values: the command's flags.
      replacements: sentence by flag: {"worker_gpu": "Use --strategy=mirrored."}.
    """
    for name, replacement in replacements.items():
        values[name] = DroppedFlag(name, replacement)


def _define_shared_flags(values: flags.FlagValues, reads_gin: bool) -> None:
    define_path(
        values, "t2t_usr_dir", None, "folder of your own problems, models and sets"
    )
    flags.DEFINE_bool(
        "registry_help", False, "list every registered name", flag_values=values
    )
    if reads_gin:
        _define_gin_flags(values)
    flags.DEFINE_bool(
        "debug", False, "show the traceback of every error", flag_values=values
    )
    flags.DEFINE_bool(
        "help", False, "show this text", short_name="h", flag_values=values
    )


def _define_gin_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
        "gin_file", [], "file of gin settings; may be repeated", flag_values=values
    )
    flags.DEFINE_multi_string(
        "gin_binding",
        [],
        "one gin setting, such as train.eval_frequency=500; may be repeated",
        flag_values=values,
    )


def load_zoo(user_dir: str | None = None) -> None:
    """Fills the registries: built-in problems and sets, plug-ins, the user's folder.

    Args:
      user_dir: the value of `--t2t_usr_dir`.

    Raises:
      ValueError: if the folder, one of its files or a plug-in cannot be imported.
    """
    plugins.import_built_in()
    plugins.import_plugins()
    if user_dir:
        plugins.import_user_dir(user_dir)


def start_tensorflow(values: flags.FlagValues | None = None) -> None:
    """Imports TensorFlow, in silence (see `start_messages_held_back`).

    The process keeps memory that it frees; see `allocation`.

    Args:
      values: flags, with those of `threads.define_thread_flags` in commands that run a
        network; none in a process without flags.

    Raises:
      ValueError: if it is too late to set the threads that they ask for.
    """
    with start_messages_held_back(values):
        import tensorflow  # noqa: F401
    allocation.keep_freed_memory()
    if values is not None:
        threads.use_thread_flags(values)


@contextlib.contextmanager
def start_messages_held_back(values: flags.FlagValues | None = None) -> Iterator[None]:
    """Holds back what TensorFlow says of GPUs that are not there when it is imported.

    Its lines come before its own log level counts, straight to the file descriptor.
    They are shown if what runs inside fails, or with --debug.
    """
    # Without it, TensorFlow reports on each start that it found no GPU, as an error.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules or (values is not None and values.debug):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(kept, held_back.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def read_gin(values: flags.FlagValues) -> None:
    """Reads `--gin_file` and `--gin_binding`; call it after importing the engine.

    Raises:
      ValueError: if gin cannot read them.
    """
    from t2t_mm import configuration

    configuration.parse_gin(values.gin_file, values.gin_binding)


def hparams_from_flags(values: flags.FlagValues):
    """Gives the set of `--hparams_set` under gin bindings and `--hparams`.

    Where both a binding and `--hparams` name a field, `--hparams` wins.

    Raises:
      UnknownNameError, TypeError, ValueError: as `configuration.override`.
    """
    from t2t_mm import configuration

    named = configuration.named_hparams(values.hparams_set)
    overrides = configuration.parse_overrides(values.hparams, named)
    return configuration.configured_hparams(values.hparams_set, **overrides)


def run(
    name: str,
    body: Callable[[flags.FlagValues], int | None],
    description: str,
    define_flags: Callable[[flags.FlagValues], None],
    argv: Sequence[str] | None = None,
    *,
    required: Sequence[str] = (),
    positional: str | None = None,
    reads_gin: bool = True,
) -> int:
    """Runs a command: reads flags, calls the body, turns errors into exit codes.

    Args:
      name: what the user types, "mm-trainer".
      body: does the work; gets the parsed flags; may return an exit code.
      description: shown by --help above the flags; usually the module's docstring.
      define_flags: defines the command's own flags on the given values.
      argv: arguments without the program; by default those of the process.
      required: flags that must have a value.
      positional: the flag that one argument without a flag's name stands for.
      reads_gin: whether there are settings of gin that it would read.

    Returns:
      The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    values = flags.FlagValues()
    define_flags(values)
    _define_shared_flags(values, reads_gin)
    show_traceback = "--debug" in arguments
    try:
        parse_flags(values, name, arguments, positional)
        if values.help:
            print(help_text(values, name, description, positional))
            return 0
        if values.registry_help:
            load_zoo(values.t2t_usr_dir)
            print(menu.menu_text(menu.menu()))
            return 0
        check_required(values, required)
        return body(values) or 0
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"\n{name}: stopped by Ctrl-C.", file=sys.stderr)
        return 130
    except Exception as error:
        if show_traceback or not _is_users_mistake(error):
            traceback.print_exc()
            return 2 if _is_users_mistake(error) else 1
        print(f"{name}: {_message(error)}", file=sys.stderr)
        return 2


def _is_users_mistake(error: BaseException) -> bool:
    """Tells a check of ours, or the file system's answer, from a fault in a program.

    A ValueError or TypeError counts when it was raised by this package itself; one that
    comes from inside a library or a user's own file needs its traceback.
    """
    if isinstance(error, OSError) or "No space left on device" in str(error):
        return True
    if not isinstance(error, ValueError | TypeError):
        return False
    return _raised_in(error).startswith(_PACKAGE + os.sep)


def _raised_in(error: BaseException) -> str:
    """Gives the file that raised an error, here, in a worker process or in a graph."""
    remote = getattr(error.__cause__, "tb", None)
    if isinstance(remote, str):  # a worker process sends its traceback as text
        return (["", *re.findall(r'^  File "(.+?)", line', remote, re.MULTILINE)])[-1]
    traced = getattr(error, "ag_error_metadata", None)
    if traced and traced.translated_stack:  # a function that TensorFlow rewrote
        return traced.translated_stack[0].filename
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename if frames else ""


def _message(error: BaseException) -> str:
    if traced := getattr(error, "ag_error_metadata", None):
        return traced.cause_message.partition(": ")[2]
    if isinstance(error, OSError) and isinstance(error.__context__, OSError):
        if str(error).startswith(str(error.__context__)):
            error = error.__context__  # what gin raises again has lost its parts
    if not isinstance(error, OSError) or error.strerror is None:
        # gin adds where the call went through it, with addresses in memory.
        return str(error).split("\n  In call to configurable")[0].strip()
    where = f": {error.filename}" if error.filename else ""
    if "No space left" in error.strerror:
        advice = (
            " Free some space or choose a folder on another disk; whole files stay."
        )
    elif isinstance(error, PermissionError):
        advice = " Choose a folder that you may write to."
    elif isinstance(error, FileNotFoundError):
        advice = " Check the path."
    else:
        advice = ""
    return f"{error.strerror}{where}.{advice}"
