"""What a user types after a command: flags read, mistakes explained, the help text."""

import inspect
import re
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches

from absl import flags

# What absl adds to the help of a flag that may be repeated.
_REPEAT = "repeat this option to specify a list of values"


class DroppedFlagError(ValueError):
    """A flag of Tensor2Tensor that is gone; the message says what replaces it."""


class DroppedFlag(flags.Flag):
    """A flag that is known only to say what replaces it."""

    def __init__(self, name: str, replacement: str):
        super().__init__(flags.ArgumentParser(), None, name, None, replacement)
        self.boolean = True  # so that --name, --noname and --name=x all arrive

    def parse(self, argument):
        """Raises what explains it, whatever the value."""
        raise DroppedFlagError(
            f"--{self.name} is a flag of Tensor2Tensor that is gone. {self.help}"
        )


def parse_flags(
    values: flags.FlagValues, name: str, arguments: list[str], positional: str | None
) -> None:
    """Reads arguments into flags.

    Args:
      values: the command's flags.
      name: of the command.
      arguments: what was typed after it.
      positional: the flag that one argument without a flag's name stands for.

    Raises:
      DroppedFlagError: if one is a flag of Tensor2Tensor that is gone.
      ValueError: if one is no flag, or its value not one that it takes.
    """
    try:
        rest = values([name, *arguments])[1:]
    except DroppedFlagError:
        raise
    except (flags.Error, ValueError) as error:
        if isinstance(error.__cause__, DroppedFlagError):
            raise error.__cause__ from None
        reason = _flag_mistake(error, values, name)
        raise ValueError(f"{reason} `{name} --help` lists the flags.") from error
    if positional and rest:
        values[positional].parse(rest.pop(0))
    if rest:
        beside = f"beside the {positional}, " if positional else ""
        raise ValueError(
            f"'{rest[0]}' came {beside}without a flag's name; expected --flag=value. "
            f"`{name} --help` lists the flags."
        )
    for flag in values:
        if values[flag].value != values[flag].value:  # not a number
            raise ValueError(f"--{flag}=nan came; expected a number. Give another.")


def _flag_mistake(error: Exception, values: flags.FlagValues, name: str) -> str:
    """Gives what absl says of a wrong flag, as what came and what was expected."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        near = get_close_matches(error.flagname, list(values))
        advice = f" Did you mean --{near[0]}?" if near else ""
        return f"--{error.flagname} came, which is no flag of {name}.{advice}"
    if isinstance(error, flags.IllegalFlagValueError):
        flag, _, value = text.removeprefix("flag --").partition(": ")[0].partition("=")
        parser = values[flag].parser
        expected = parser.syntactic_help or "true or false"
        if isinstance(parser, flags.EnumParser):
            expected = f"one of {', '.join(parser.enum_values)}"
        return f"--{flag}={value} came; expected {expected}."
    if found := re.match(r"Missing value for flag (--\w+)", text):
        return f"{found[1]} came without a value; expected {found[1]}=VALUE."
    if found := re.match(r"((--\w+)=.*) does not take an argument", text, re.DOTALL):
        return f"{found[1]} came; expected {found[2]} alone."
    return f"{text.rstrip('.')}."


def help_text(
    values: flags.FlagValues, name: str, description: str, positional: str | None
) -> str:
    """Gives what --help prints: usage, description, every flag with its default."""
    argument = f" [{positional.upper()}]" if positional else ""
    lines = [f"usage: {name}{argument} [flags]", "", inspect.cleandoc(description)]
    lines += ["", "flags:"]
    shown = [flag for group in values.flags_by_module_dict().values() for flag in group]
    for flag in dict.fromkeys(shown):
        if isinstance(flag, DroppedFlag):
            continue
        lines.append(f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}=")
        text = " ".join(flag.help.split(_REPEAT)[0].split()).rstrip(";")
        if flag.default not in (None, "", [], False):
            text += f" (default: {flag.default})"
        lines += textwrap.wrap(
            text, width=80, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
    return "\n".join(lines)


def check_required(values: flags.FlagValues, required: Sequence[str]) -> None:
    """Raises a ValueError that explains the flags that need a value and have none."""
    missing = [name for name in required if values[name].value in (None, "", [])]
    if missing:
        raise ValueError(
            "No value came for "
            + " ".join(f"--{name}" for name in missing)
            + ". Expected: "
            + "; ".join(f"--{name}: {values[name].help}" for name in missing)
            + "."
        )
