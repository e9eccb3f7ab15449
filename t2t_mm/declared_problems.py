"""Problems without code: what `--problem=my.toml` and `--problem=tfds:mnist` mean.

`declare` registers the problems of a declaration; `remembered` and `restore` carry
them to other processes and to later commands, which need the file no more. Called by
`mixture` (names), `registry.load` (workers) and `run_settings` (runs). No TensorFlow.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

from t2t_mm import declarations, declared_sources, registry
from t2t_mm.problem_kinds import KINDS, ProblemOfPairs
from t2t_mm.vocabulary import VocabularySpec


def declare(reference: str) -> tuple[tuple[str, ...], dict[str, float]]:
    """Registers the problems of a TOML file, or of a line such as "tfds:mnist".

    Returns:
      (names of its problems, and of registered ones that its rates name; its rates).

    Raises:
      FileNotFoundError, ValueError: as `declarations.read`.
      DuplicateNameError: if a problem that is no declared one has the name.
    """
    wholes, rates = declarations.read(reference)
    for whole in wholes:
        register(whole, reference)
    names = [whole["name"] for whole in wholes]
    for name in rates:
        if name not in names and name not in registry.problems:
            known = names + registry.problems.names()
            raise registry.UnknownNameError(
                f"{reference}, [rates]: no problem is called '{name}'. "
                f"{registry.nearest_names(name, known)}"
            )
    return tuple(dict.fromkeys([*names, *rates])), rates


def register(whole: Mapping[str, Any], reference: str = "") -> type[ProblemOfPairs]:
    """Makes the problem of a whole declaration and registers it.

    One that was declared before under the name gives way.

    Args:
      whole: the declaration.
      reference: the file or the line that declares it; by default the problem's name.

    Raises:
      DuplicateNameError: if another kind of problem has the name.
      ValueError: if the problem's features make no sense.
    """
    name = whole["name"]
    known = registry.problems.get(name) if name in registry.problems else None
    if known is not None and not issubclass(known, Declared):
        raise registry.DuplicateNameError(
            f"problem '{name}' is declared, and registered in {known.__module__}, too. "
            "Give the declared one another name."
        )
    for vocabulary, spec in whole["vocabularies"].items():
        _register_vocabulary(vocabulary, spec)
    if known is not None:
        if known.declaration == whole:
            known.reference = reference or known.reference
            return known
        registry.problems.forget(name)
    problem = _made(whole, reference or name)
    registry.problems.register(problem, name=name)
    return problem


class Declared:
    """Mixed into the kind of a declared problem.

    Class attributes:
      declaration: all that it was declared with, as JSON can hold it.
      reference: what `--problem` takes: the file or the line that declares it.
    """

    declaration: ClassVar[Mapping[str, Any]]
    reference: ClassVar[str]

    @property
    def origin(self) -> str:
        """What registers it in another process: see `registry.load`."""
        return f"{__name__}:{json.dumps(self.declaration, sort_keys=True)}"

    def changed_version(self, before: int) -> str:
        """Says what has changed; the version is a number that nobody wrote."""
        return (
            f"its declaration ({self.reference}) says something else of its source, "
            "columns, splits or features than when the data was made"
        )


def _made(whole: Mapping[str, Any], reference: str) -> type[ProblemOfPairs]:
    kind = KINDS[whole["kind"]]
    source = declared_sources.make(whole)
    tests = tuple(name for name in source.split_names if name not in ("train", "dev"))
    attributes = dict(whole["attributes"])
    for key in ("labels", "metrics"):
        if key in attributes:
            attributes[key] = tuple(attributes[key])
    title = "".join(word.title() for word in whole["name"].split("_"))
    made: Any = type(
        title,
        (Declared, kind),
        {
            **attributes,
            "__doc__": whole["description"] or f"Declared: {whole['kind']}.",
            "__module__": __name__,
            "declaration": whole,
            "reference": reference,
            "source": source,
            "inputs_column": whole["inputs_column"],
            "targets_column": whole["targets_column"],
            "test_splits": tests,
            "version": _version(whole),
        },
    )
    return made


def _version(whole: Mapping[str, Any]) -> int:
    """Gives a number that changes with all that decides the examples.

    Paths count as they were written, so that a folder may be moved with its file.
    """
    written = dict(whole["written"])
    for key in ("description", "licence", "metrics", "baseline", "command"):
        written.pop(key, None)
    content = json.dumps([written, whole["attributes"].get("labels")], sort_keys=True)
    return zlib.crc32(content.encode()) & 0x7FFFFFFF


def _register_vocabulary(name: str, spec: Mapping[str, Any]) -> None:
    def vocabulary() -> VocabularySpec:
        return VocabularySpec(**spec)

    vocabulary.__doc__ = "Declared beside a problem."
    known = registry.vocabularies.get(name) if name in registry.vocabularies else None
    if known is not None and known.__module__ != __name__:
        raise registry.DuplicateNameError(
            f"vocabulary '{name}' is declared, and registered in {known.__module__}, "
            "too. Give the declared one another name, or use that one as it is."
        )
    vocabulary()  # refuses sizes and kinds that make no sense
    if known is not None:
        registry.vocabularies.forget(name)
    registry.vocabularies.register(vocabulary, name=name)


def restore(text: str) -> None:
    """Registers a problem from the JSON of its declaration."""
    register(json.loads(text))


def remembered(names: Any) -> dict[str, Any]:
    """Gives the declarations of those problems that are declared, for run.json."""
    return {
        name: registry.problems.get(name).declaration
        for name in names
        if name in registry.problems
        and issubclass(registry.problems.get(name), Declared)
    }


def restore_all(declarations_by_name: Mapping[str, Any]) -> None:
    """Registers what a run remembers, unless the same is declared already."""
    for name, whole in declarations_by_name.items():
        known = registry.problems.get(name) if name in registry.problems else None
        if known is None or essence_of(known) != essence(whole):
            register(whole)


def check_same(declarations_by_name: Mapping[str, Any], run_dir: str) -> None:
    """Refuses to go on with a run whose problems are declared otherwise now.

    Raises:
      ValueError: names the problem and what differs.
    """
    for name, whole in declarations_by_name.items():
        then, now = essence(whole), essence_of(registry.problems.get(name))
        differing = [key for key in then if then[key] != now.get(key)]
        if differing:
            key = differing[0]
            raise ValueError(
                f"Problem '{name}' is declared otherwise than when {run_dir} was "
                f"started: {', '.join(differing)} was {str(then[key]):.120} and is "
                f"{str(now.get(key)):.120} now. Restore the declaration, or train into "
                "another --output_dir."
            )


def essence(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Gives, of a declaration, what a trained network depends on."""
    kept = {key: whole[key] for key in ("name", "kind")} | dict(whole["attributes"])
    for key in ("licence", "on_bad_example", "baseline", "metrics"):
        kept.pop(key, None)
    return json.loads(json.dumps(kept))


def essence_of(problem: type) -> dict[str, Any]:
    """Gives the essence of a registered problem; nothing if it is none declared."""
    return essence(problem.declaration) if issubclass(problem, Declared) else {}
