"""Fills the registries: the built-in zoo, installed plug-ins, the user's folder.

Called by `command.load_zoo` alone.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback

from t2t_mm import registry

PLUGIN_GROUP = "t2t_mm.plugins"
# Packages whose import registers or declares names, none of which imports TensorFlow.
BUILT_IN = (
    "t2t_mm.vocabulary",
    "t2t_mm.metrics",
    "t2t_mm.optimizers",
    "t2t_mm.modalities",
    "t2t_mm.models",
    "t2t_mm.problems",
    "t2t_mm.hparams",
)


def import_built_in() -> None:
    """Imports everything of this package that registers or declares a name."""
    for module in BUILT_IN:
        importlib.import_module(module)


def import_plugins() -> None:
    """Imports the modules that installed packages offer as `t2t_mm.plugins`.

    Raises:
      ValueError: if one cannot be imported; names the package.
    """
    for entry_point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            entry_point.load()
        except Exception as error:
            distribution = entry_point.dist.name if entry_point.dist else "?"
            raise ValueError(
                f"Plug-in '{entry_point.name}' ({entry_point.value}) of the installed "
                f"package '{distribution}' cannot be imported: {_reason(error)} "
                f"Repair it or uninstall {distribution}."
            ) from error


def import_user_dir(path: str) -> None:
    """Imports the folder of `--t2t_usr_dir` under its base name.

    With an `__init__.py` the folder is a package, which imports what it wants; without
    one, every Python file in it is imported.

    Args:
      path: the folder.

    Raises:
      ValueError: if there is no such folder, a file of it cannot be imported, its name
        belongs to another package, or it registers nothing.
    """
    folder = os.path.realpath(path)
    if not os.path.isdir(folder):
        raise ValueError(
            f"--t2t_usr_dir={path} is no folder; expected one with Python files that "
            "register problems, models or sets. Check the path."
        )
    before = _all_names()
    package = os.path.basename(folder)
    already_imported = package in sys.modules
    if os.path.dirname(folder) not in sys.path:
        # At the end: a user's folder hides no installed package. Worker processes
        # inherit the path.
        sys.path.append(os.path.dirname(folder))
        importlib.invalidate_caches()
    _check_name_is_free(package, folder)
    if os.path.exists(os.path.join(folder, "__init__.py")):
        _import(package, folder, os.path.join(folder, "__init__.py"))
    else:
        for file in sorted(os.listdir(folder)):
            if file.endswith(".py"):
                module = f"{package}.{file.removesuffix('.py')}"
                already_imported |= module in sys.modules
                _import(module, folder, os.path.join(folder, file))
    if not already_imported and _all_names() == before:
        raise ValueError(
            f"--t2t_usr_dir={path} registered nothing; expected a decorator such as "
            "@register_problem in a .py file there, imported by __init__.py if the "
            "folder has one. Add it, or leave the flag out."
        )


def _check_name_is_free(package: str, folder: str) -> None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    places: list[str] = []
    if spec:
        places = list(spec.submodule_search_locations or [spec.origin or "built in"])
    if folder not in [os.path.realpath(place) for place in places]:
        taken = places[0] if places else "no importable package"
        raise ValueError(
            f"--t2t_usr_dir={folder} cannot be imported as '{package}': that name is "
            f"{taken}. Expected a folder name that no other package has, of letters, "
            "digits and _. Rename the folder."
        )


def _import(module: str, folder: str, file: str) -> None:
    try:
        importlib.import_module(module)
    except registry.DuplicateNameError:
        raise
    except Exception as error:
        place = file
        for frame in traceback.extract_tb(error.__traceback__):
            if os.path.realpath(frame.filename).startswith(folder + os.sep):
                place = f"{frame.filename}:{frame.lineno}"
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}:{error.lineno}"
        raise ValueError(
            f"{place} cannot be imported: {_reason(error)} Expected Python that "
            "imports without errors. Correct it; --debug shows the traceback."
        ) from error


def _reason(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}".rstrip(".") + "."


def _all_names() -> dict[str, list[str]]:
    return {kind: entries.names() for kind, entries in registry.ALL.items()}
