"""What the registries hold, as values and as text, for `mm-registry`."""

import dataclasses
import inspect

from t2t_mm import registry

Menu = dict[str, dict[str, str]]


def menu(text: str = "") -> Menu:
    """Gives {kind: {name: a line about it}} of the names that contain `text`."""
    return {
        kind: {name: entries.describe(name) for name in entries.names() if text in name}
        for kind, entries in registry.ALL.items()
    }


def menu_text(kinds: Menu) -> str:
    """Gives the menu as lines to print, grouped by kind; empty groups are left out."""
    lines: list[str] = []
    for kind, entries in kinds.items():
        if not entries:
            continue
        lines += (
            ["", f"{kind} ({len(entries)})"] if lines else [f"{kind} ({len(entries)})"]
        )
        width = max(map(len, entries))
        lines += [f"  {name:<{width}}  {doc}".rstrip() for name, doc in entries.items()]
    return "\n".join(lines)


def details(name: str) -> dict[str, dict]:
    """Gives everything about a name, by kind.

    Raises:
      UnknownNameError: if no registry has it.
    """
    found = {}
    for kind, entries in registry.ALL.items():
        if name in entries:
            target = entries.get(name)
            found[kind] = {
                "name": name,
                "module": target.__module__,
                "description": inspect.getdoc(target) or "",
                "values": _values(kind, target),
            }
    if not found:
        known = all_names()
        raise registry.UnknownNameError(
            f"Nothing is called '{name}'. {registry.nearest_names(name, known)} "
            "mm-registry lists all; --filter=TEXT searches."
        )
    return found


def _values(kind: str, target) -> dict:
    """Gives what a thing is made of: a set's fields, a problem's declarations."""
    if kind == "hparams sets":
        return dataclasses.asdict(target())
    if kind in ("mixtures", "vocabularies"):
        return dataclasses.asdict(target())
    if kind == "problems":
        problem = target()
        return {
            "inputs": str(problem.inputs),
            "targets": str(problem.targets),
            "command": problem.command,
            "splits": list(problem.splits),
            "metrics": list(problem.metric_names),
            "licence": problem.licence,
        }
    return {}


def details_text(found: dict[str, dict]) -> str:
    """Gives the lines to print of what `details` found."""
    lines: list[str] = []
    for kind, entry in found.items():
        lines += [f"{entry['name']}, in {kind}, from {entry['module']}", ""]
        lines += [entry["description"], ""]
        lines += [f"  {name} = {value}" for name, value in entry["values"].items()]
    return "\n".join(lines).rstrip()


def all_names() -> list[str]:
    """Gives every registered name of any kind, sorted."""
    return sorted({n for entries in registry.ALL.values() for n in entries.names()})
