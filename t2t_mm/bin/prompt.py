"""The prompt of mm-decoder: type an input, see the answer, change how it is asked for.

What was typed is remembered between calls in `~/.local/state/t2t_mm/history` (or under
`$XDG_STATE_HOME`); the arrow keys bring it back.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2t_mm.answers import Answer
    from t2t_mm.decode_settings import DecodeHParams
    from t2t_mm.inference import Run

_MOST_REMEMBERED = 1000
_HELP = """\
  :problem NAME     ask another problem of the run; without a name, list them
  :command NAME     ask for another product, :command alone for the problem's own
  :decode SETTINGS  search otherwise: :decode beam_size=4,num_return=3
  :help, :quit      an empty line ends, too"""


class Prompt:
    """Answers what is typed until an empty line or the end of input.

    Args:
      run: who answers.
      problem: the name of the one that is asked first.
      settings: how it searches.
      command: another product than the problem's own, or None.
      prefix: how every answer begins, or None.
      with_scores: whether each answer's log-probability stands before it.
    """

    def __init__(
        self,
        run: "Run",
        problem: str,
        settings: "DecodeHParams",
        command: str | None,
        *,
        prefix: str | None = None,
        with_scores: bool = False,
    ):
        self._run = run
        self._problem = problem
        self._settings = settings
        self._command = command
        self._prefix = prefix
        self._with_scores = with_scores

    def converse(self) -> None:
        """Asks and answers."""
        print(self._greeting())
        with _history():
            while True:
                try:
                    line = input("> ").strip()
                except EOFError:
                    print()
                    return
                if line in ("", ":quit", ":q"):
                    return
                try:
                    self._respond(line)
                except (OSError, ValueError) as error:
                    print(error)

    def _greeting(self) -> str:
        from t2t_mm.problem import TEXT

        is_text = self._run.problem(self._problem).inputs.modality == TEXT
        command = f", {self._command}" if self._command else ""
        return (
            f"{self._problem}{command} at step {self._run.step}. "
            f"{'Type text' if is_text else 'Type the path of a file'}; "
            "an empty line ends, :help lists what else there is."
        )

    def _respond(self, line: str) -> None:
        if line.startswith(":"):
            verb, _, rest = line[1:].partition(" ")
            self._change(verb, rest.strip())
            return
        path = os.path.expanduser(line)
        answer = self._run.generate(
            self._problem,
            path if os.path.isfile(path) and self._takes_files() else line,
            command=self._command,
            decode_hparams=self._settings,
            prefix=self._prefix,
        )
        print("\n".join(shown(answer, with_scores=self._with_scores)))

    def _takes_files(self) -> bool:
        from t2t_mm.problem import TEXT

        return self._run.problem(self._problem).inputs.modality != TEXT

    def _change(self, verb: str, rest: str) -> None:
        if verb == "problem" and rest:
            self._run.problem(rest)
            self._problem, self._command, self._prefix = rest, None, None
            print(self._greeting())
        elif verb == "problem":
            print("\n".join(f"  {name}" for name in self._run.problems))
        elif verb == "command":
            self._run.problem(self._problem, rest or None)
            self._command = rest or None
            print(self._greeting())
        elif verb == "decode":
            from t2t_mm.decode_settings import decode_settings

            self._settings = decode_settings(rest)
        else:
            if verb != "help":
                print(f"There is no :{verb}; expected one of these:")
            print(_HELP)


def shown(answer: "Answer", *, with_scores: bool = False) -> list[str]:
    """Gives the lines that the prompt prints of an answer, or of several and scores."""
    if answer.ranked:
        bars = [f"  {share:6.1%}  {label}" for label, share in answer.ranked]
        return [answer.output, *bars]
    if not (answer.alternatives or with_scores):
        return [answer.output]
    return [f"  {one.score:8.2f}  {one.output}" for one in answer.best_few]


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Gives input() a history that outlives the process, where there is readline."""
    try:
        import readline
    except ImportError:  # Windows has none; its console remembers by itself
        yield
        return
    path = _history_path()
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_MOST_REMEMBERED)
    try:
        yield
    finally:
        # A home that cannot be written is no reason to fail after the answers.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            readline.write_history_file(path)


def _history_path() -> str:
    state: Any = os.environ.get("XDG_STATE_HOME")
    folder = state or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(folder, "t2t_mm", "history")
