"""Lists every registered name with a line about it, or shows one thing whole.

mm-registry                      the whole menu
mm-registry --filter=translate   names that contain "translate"
mm-registry multimodel_tiny      everything about one name
mm-registry --json               the menu as JSON
"""

import json
import sys
from collections.abc import Sequence

from absl import flags

from t2t_mm import registry
from t2t_mm.bin import command, menu


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-registry."""
    flags.DEFINE_string("name", None, "show all about one name", flag_values=values)
    flags.DEFINE_string(
        "filter", "", "show only names that contain this text", flag_values=values
    )
    flags.DEFINE_bool("json", False, "print JSON", flag_values=values)


def show(values: flags.FlagValues) -> None:
    """Prints the menu, or all about one name."""
    command.load_zoo(values.t2t_usr_dir)
    with command.start_messages_held_back(values):
        shown = menu.details(values.name) if values.name else menu.menu(values.filter)
    if values.json:
        print(json.dumps(shown, indent=1, default=str))
    elif values.name:
        print(menu.details_text(shown))
    elif text := menu.menu_text(shown):
        print(text)
    else:
        raise registry.UnknownNameError(
            f"No name contains '{values.filter}'. "
            f"{registry.nearest_names(values.filter, menu.all_names())} "
            "Leave --filter out to see all."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code."""
    return command.run(
        "mm-registry", show, __doc__, define_flags, argv, positional="name"
    )


if __name__ == "__main__":
    sys.exit(main())
