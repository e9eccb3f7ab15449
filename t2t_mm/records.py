"""Examples <-> TFRecord files, from `Feature` alone, without importing TensorFlow.

What a problem yields (a "raw" example: text is str), checked by `raw_examples`, is
packed into the wire format of tf.train.Example, which TensorFlow parses in batches. How
a feature is stored, under its own name:

| modality      | stored                                                       |
|---------------|--------------------------------------------------------------|
| "text"        | int64 ids, the last is EOS                                   |
| "class_label" | int64, the label's place among `labels`                      |
| "image"       | bytes of the picture file, unchanged                         |
| "audio"       | bytes of the WAV file; `<name>/length`, int64: samples       |

A shard comes with an index (int64 rows of shard, offset, size and one length per
feature), so that any record is reached at once and batches are planned by length.
"""

import functools
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np

from t2t_mm.problem import AUDIO, TEXT, Problem
from t2t_mm.record_bytes import packed_ids, unpacked_ids
from t2t_mm.vocabulary import EOS_ID, Vocabulary

# A TFRecord: uint64 length, its checksum, the bytes, their checksum. Source:
# tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details".
_HEADER, _CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")
HEADER_BYTES, FOOTER_BYTES = _HEADER.size, _CHECKSUM.size
# Columns of an index; a column for each feature follows.
SHARD, OFFSET, SIZE, LENGTHS = 0, 1, 2, 3


@functools.cache
def _example_class():
    """Makes tf.train.Example from its public field numbers, in a pool of its own.

    When it is first needed: mm-datagen's processes do without, and start sooner.

    Source: tensorflow/core/example/example.proto and feature.proto.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="t2t_mm/example.proto", package="t2t_mm", syntax="proto3"
    )

    def message(parent, name, *fields):
        new = parent.add(name=name)
        for number, (field_name, kind, label, type_name) in enumerate(fields, 1):
            new.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=label,
                type_name=type_name and f".t2t_mm.{type_name}",
            )
        return new

    one, many, nested = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    types = file.message_type
    message(types, "BytesList", ("value", field.TYPE_BYTES, many, None))
    message(types, "FloatList", ("value", field.TYPE_FLOAT, many, None))
    message(types, "Int64List", ("value", field.TYPE_INT64, many, None))
    feature = message(
        types,
        "Feature",
        ("bytes_list", nested, one, "BytesList"),
        ("float_list", nested, one, "FloatList"),
        ("int64_list", nested, one, "Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for kind in feature.field:
        kind.oneof_index = 0
    features = message(
        types, "Features", ("feature", nested, many, "Features.FeatureEntry")
    )
    entry = message(
        features.nested_type,
        "FeatureEntry",
        ("key", field.TYPE_STRING, one, None),
        ("value", nested, one, "Feature"),
    )
    entry.options.map_entry = True
    message(types, "Example", ("features", nested, one, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t2t_mm.Example"))


def pack(values: Mapping[str, Any]) -> bytes:
    """Gives the bytes of a tf.train.Example; equal values, equal bytes.

    Args:
      values: by key: a str or bytes, an int, or a sequence of ints.
    """
    example = _example_class()()
    for key, value in values.items():
        feature = example.features.feature[key]
        if isinstance(value, str):
            value = value.encode("utf-8")
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.int64_list.value.extend(value)
    return example.SerializeToString(deterministic=True)


def unpack(content: bytes) -> dict[str, Any]:
    """Gives the values of a tf.train.Example: bytes, or a list of ints, by key.

    Raises:
      ValueError: if it is none.
    """
    from google.protobuf.message import DecodeError

    values: dict[str, Any] = {}
    try:
        example = _example_class().FromString(content)
    except DecodeError as error:
        raise ValueError(
            f"{content[:20]!r} came as an example; a tf.train.Example was "
            "expected. Run mm-datagen again."
        ) from error
    for key, feature in example.features.feature.items():
        if feature.bytes_list.value:
            values[key] = feature.bytes_list.value[0]
        else:
            values[key] = list(feature.int64_list.value)
    return values


def packed_texts(
    problem: Problem,
    examples: Sequence[Mapping[str, Any]],
    vocabularies: Mapping[str, Vocabulary],
) -> dict[str, list[bytes]]:
    """Gives, by text feature, the packed ids of each raw example, EOS included."""
    packed = {}
    for name, feature in problem.features.items():
        if feature.modality == TEXT:
            texts = [example[name].decode("utf-8") for example in examples]
            words = vocabularies[str(feature.vocabulary)]
            if feature.spelled:
                spelled = words.spell_batch(texts)
                packed[name] = packed_ids([[*row, EOS_ID] for row in spelled])
            else:
                packed[name] = words.packed_batch(texts)
    return packed


def encoded_values(
    problem: Problem,
    examples: Sequence[dict],
    vocabularies: Mapping[str, Vocabulary],
) -> list[dict]:
    """Replaces the text of unpacked raw examples by ids that end in EOS."""
    encoded = [dict(example) for example in examples]
    for name, rows in packed_texts(problem, examples, vocabularies).items():
        for example, row in zip(encoded, rows, strict=True):
            example[name] = unpacked_ids(row)
    return encoded


def lengths(problem: Problem, values: Mapping[str, Any]) -> list[int]:
    """Gives the length of each feature: ids of text, samples of audio, else 1."""
    found = []
    for name, feature in problem.features.items():
        if feature.modality == TEXT:
            found.append(len(values[name]))
        elif feature.modality == AUDIO:
            length = values[f"{name}/length"]
            found.append(length if isinstance(length, int) else length[0])
        else:
            found.append(1)
    return found


class RecordWriter:
    """Writes records to a TFRecord file.

    Args:
      path: the file; replaced if it is there.

    Attributes:
      offset: bytes written so far.
    """

    def __init__(self, path: str):
        self._path = path
        self._file = open(path, "wb")
        self.offset = 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self._file.close()
        except OSError as error:
            raise self._named(error) from error

    def _named(self, error: OSError) -> OSError:
        """Adds the path to an error of the file system, which writing leaves out."""
        return OSError(error.errno, error.strerror, self._path)

    def write(self, record: bytes) -> int:
        """Writes one record; gives the offset at which it begins.

        Raises:
          OSError: as the file system does, with the path.
        """
        footer = _CHECKSUM.pack(_masked_checksum(record))
        try:
            self._file.write(b"".join((_header(len(record)), record, footer)))
        except OSError as error:
            raise self._named(error) from error
        begin = self.offset
        self.offset += HEADER_BYTES + len(record) + FOOTER_BYTES
        return begin


@functools.lru_cache(maxsize=1 << 14)
def _header(size: int) -> bytes:
    """Gives what stands before a record of a size: the size and its checksum."""
    number = size.to_bytes(8, "little")
    return number + _CHECKSUM.pack(_masked_checksum(number))


class RecordFile:
    """Reads records of a TFRecord file at any offset, checking each one's checksum.

    The file is mapped, not loaded: memory stays small however large it is.

    Args:
      path: the file.
    """

    def __init__(self, path: str):
        self._path = path
        with open(path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Lets go of the file."""
        self._bytes.close()

    def read(self, offset: int, size: int) -> bytes:
        """Gives the record of `size` bytes that begins at `offset`.

        Raises:
          ValueError: if the file does not hold such a record there.
        """
        end = offset + HEADER_BYTES + size
        record = self._bytes[offset + HEADER_BYTES : end]
        footer = self._bytes[end : end + FOOTER_BYTES]
        if footer != _CHECKSUM.pack(_masked_checksum(record)):
            raise ValueError(
                f"{self._path} is damaged: the record at byte {offset} does not have "
                "the checksum that was written with it. Delete the file and run "
                "mm-datagen again."
            )
        return record


def read_records(path: str) -> Iterator[bytes]:
    """Yields every record of a TFRecord file, in order.

    Raises:
      ValueError: if the file is damaged.
    """
    position = 0
    with open(path, "rb") as file:
        while header := file.read(HEADER_BYTES):
            record = footer = b""
            if len(header) == HEADER_BYTES:
                size, checksum = _HEADER.unpack(header)
                if checksum == _masked_checksum(header[:8]):
                    record, footer = file.read(size), file.read(FOOTER_BYTES)
            if footer != _CHECKSUM.pack(_masked_checksum(record)):
                raise ValueError(
                    f"{path} is damaged at byte {position}; a TFRecord was expected "
                    "there. Delete the file and run mm-datagen again."
                )
            yield record
            position = file.tell()


def _masked_checksum(content: bytes) -> int:
    # CRC-32C, rotated and shifted as the TFRecord format asks.
    value = google_crc32c.value(content)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def empty_index(problem: Problem) -> np.ndarray:
    """Gives an index of no records: int64 [0, 3 + number of features]."""
    return np.zeros((0, LENGTHS + len(problem.features)), np.int64)
