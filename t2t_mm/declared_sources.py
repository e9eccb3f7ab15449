"""The sources that a declaration may name: plain dicts <-> `Source` objects.

Called by `declarations`, which checks, and by `declared_problems`, which makes problems
from the dict alone, in any process.
"""

import os
from collections.abc import Mapping
from typing import Any

from t2t_mm.dataset_sources import HuggingFace, Tfds
from t2t_mm.problem_kinds import KINDS
from t2t_mm.sources import ALL, ParallelText, PictureFolder, Source, column_of
from t2t_mm.tables import Table

TYPES = ("table", "parallel", "folder", "huggingface", "tfds")
# Which options go with which source.
_OPTIONS = {
    "table": ("columns", "delimiter", "files", "held_out", "key"),
    "parallel": ("held_out", "key"),
    "folder": ("held_out", "key"),
    "huggingface": ("splits", "held_out", "key"),
    "tfds": ("splits", "data_dir"),
}
_ALL_OPTIONS = (
    "columns",
    "delimiter",
    "files",
    "held_out",
    "key",
    "splits",
    "data_dir",
)


def described(declared: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Gives the source that a declaration names, with absolute paths.

    Args:
      declared: of a problem, its keys checked.
      folder: that its relative paths start from.

    Raises:
      ValueError: if it names none or several, or an option that the source lacks.
    """
    given = [one for one in TYPES if one in declared]
    if len(given) != 1:
        raise ValueError(
            f"{' and '.join(given) or 'no source'} came; exactly one of "
            f"{', '.join(TYPES)} was expected. It says where the examples lie."
        )
    [name] = given
    for option in _ALL_OPTIONS:
        if option in declared and option not in _OPTIONS[name]:
            raise ValueError(
                f"{option} came beside {name}, which has only "
                f"{', '.join(_OPTIONS[name])}. Remove it."
            )
    source = {"type": name, "content": declared[name]}
    source |= {key: declared[key] for key in _OPTIONS[name] if key in declared}
    for key, is_path in (("content", name != "tfds"), ("files", True)):
        if is_path and key in source:
            source[key] = _absolute(source[key], folder, is_pair=name == "parallel")
    if "data_dir" in source:
        source["data_dir"] = _absolute(source["data_dir"], folder)
    if name == "huggingface" and "splits" not in source:
        contents = HuggingFace(source["content"]).contents
        source["splits"] = contents
    return source


def _absolute(value: Any, folder: str, *, is_pair: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {key: _absolute(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_absolute(one, folder) for one in value]
    return os.path.join(folder, os.path.expanduser(value))


def make(whole: Mapping[str, Any]) -> Source:
    """Makes the source of a whole declaration; opens no file."""
    source = whole["source"]
    options = {key: source[key] for key in ("held_out", "key") if key in source}
    content = source["content"]
    kind = KINDS[whole["kind"]]
    if source["type"] == "tfds":
        return Tfds(
            content,
            source.get("splits"),
            columns=source["columns_read"],
            data_dir=source.get("data_dir", ""),
        )
    if source["type"] == "huggingface":
        return HuggingFace(content, source["splits"], **options)
    if source["type"] == "parallel":
        return ParallelText(content, **options)
    if source["type"] == "folder":
        return PictureFolder(content, **options)
    media = kind.input_modality in ("image", "audio")
    # Equal inputs are in one split, whatever their targets.
    options.setdefault("key", whole["inputs_column"])
    return Table(
        content,
        columns=source.get("columns", ()),
        delimiter=source.get("delimiter", ""),
        folder=source.get("files", ""),
        file_columns=(whole["inputs_column"],) if media else (),
        refuse_ragged=whole["attributes"].get("on_bad_example") != "drop",
        **options,
    )


def hints(source: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what a source itself says of its problem: kind, columns, sizes."""
    if source["type"] == "tfds":
        return _tfds_hints(source, declared)
    if source["type"] == "folder":
        return {"kind": "image_to_class"}
    return {}


def _tfds_hints(
    source: Mapping[str, Any], declared: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads tfds' feature spec; its `supervised_keys` are inputs and targets."""
    builder = Tfds(source["content"], data_dir=source.get("data_dir", "")).builder()
    features = builder.info.features
    keys = builder.info.supervised_keys or ("", "")
    columns = {
        "inputs": declared.get("inputs", keys[0]),
        "targets": declared.get("targets", keys[1]),
    }
    found: dict[str, Any] = {}
    modalities = []
    for role, column in columns.items():
        feature = _tfds_feature(features, column)
        if feature is None:
            raise ValueError(
                f"{role} is {column!r}; a column of '{source['content']}' was "
                f"expected: {', '.join(_flat(features))}. Write {role} = ..."
            )
        modalities.append(_tfds_modality(feature, found))
        found[role] = column
    kind = f"{modalities[0]}_to_{modalities[1]}"
    if kind in KINDS:
        found["kind"] = kind
    elif "kind" not in declared:
        raise ValueError(
            f"'{source['content']}' maps {modalities[0]} to {modalities[1]}; expected "
            f"one of {', '.join(KINDS)}. Name other columns as inputs and targets."
        )
    return found


def _flat(features: Any, prefix: str = "") -> list[str]:
    names = []
    for name in features:
        inner = getattr(features[name], "feature", features[name])
        if hasattr(inner, "items"):
            names += _flat(inner, f"{prefix}{name}/")
        else:
            names.append(prefix + name)
    return names


def _tfds_feature(features: Any, column: str) -> Any:
    if column in features:
        return features[column]
    feature = features
    for name in column.replace(".", "/").split("/"):
        inner = getattr(feature, "feature", feature)
        if not hasattr(inner, "items") or name not in inner:
            return None
        feature = inner[name]
    return feature


def _tfds_modality(feature: Any, found: dict[str, Any]) -> str:
    """Gives a tfds feature's modality; adds to `found` what it knows of sizes."""
    kind = type(feature).__name__
    if kind == "Image":
        height, width, channels = feature.shape
        sizes = {"height": height, "width": width, "channels": channels}
        found |= {key: size for key, size in sizes.items() if size}
        return "image"
    if kind == "Audio":
        found["sample_rate"] = int(feature.sample_rate or 16000)
        return "audio"
    if kind == "ClassLabel":
        names = [feature.int2str(number) for number in range(feature.num_classes)]
        found |= {"labels": names, "labels_by_number": True}
        return "class"
    dtype = getattr(feature, "np_dtype", None) or getattr(feature, "dtype", None)
    return "text" if kind in ("Text", "Sequence") or dtype is str else kind.lower()


def found_labels(whole: Mapping[str, Any]) -> list[str]:
    """Gives the labels that a source holds: names of folders, values of a column."""
    source = make(whole)
    column = whole["targets_column"]
    if isinstance(source, PictureFolder):
        folders = source.contents.values()
        found = {name for one in folders for name in source.class_names(one)}
        return sorted(found)
    if isinstance(source, HuggingFace):
        feature = source.features_of("train").get(column)
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            return list(feature["names"])
    split = ALL if ALL in source.contents else "train"
    return sorted(
        {
            str(label)
            for part in source.parts(split, "")
            for row in source.rows_of(part, "")
            if _is_label(label := column_of(row, column))
        }
    )


def _is_label(value: Any) -> bool:
    """Whether a cell says a class: an empty one is a fault of its row."""
    return value is not None and bool(str(value).strip())
