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
    if values.name and values.filter:
        raise ValueError(
            f"--filter={values.filter} came with the name {values.name}; expected one "
            "of them. Leave one out."
        )
    command.load_zoo(values.t2t_usr_dir)
    with command.start_messages_held_back(values):
        shown = menu.details(values.name) if values.name else menu.menu(values.filter)
    if not any(shown.values()):
        raise registry.UnknownNameError(
            f"No name contains '{values.filter}'. "
            f"{registry.nearest_names(values.filter, menu.all_names())} "
            "Leave --filter out to see all."
        )
    if values.json:
        print(json.dumps(shown, indent=1, default=str))
    else:
        print((menu.details_text if values.name else menu.menu_text)(shown))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code."""
    return command.run(
        "mm-registry",
        show,
        __doc__,
        define_flags,
        argv,
        positional="name",
        reads_gin=False,
    )


if __name__ == "__main__":
    sys.exit(main())
