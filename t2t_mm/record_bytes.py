"""Examples as bytes, fast: the two places where datagen spends its time.

`RawFormat` is how raw examples lie in datagen's folder. `packed_examples` makes the
bytes of tf.train.Example for many examples at once, the same bytes as `records.pack`,
with numpy instead of a message object for each. Imports no TensorFlow.
"""

import functools
import itertools
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t2t_mm.problem import AUDIO, CLASS_LABEL, TEXT, Problem

# Wire format of protocol buffers, protobuf.dev/programming-guides/encoding: a tag is
# field number * 8 + 2 for what has a length. Example.features, Features.feature and a
# map's key, BytesList.value and Int64List.value, Feature.bytes_list have number 1; a
# map's value 2; Feature.int64_list 3.
_FIRST, _SECOND, _THIRD = b"\x0a", b"\x12", b"\x1a"


class RawFormat:
    """How raw examples of a problem are stored: numbers, then bytes end to end.

    Args:
      problem: whose examples.
    """

    def __init__(self, problem: Problem):
        self._keys: list[str] = []
        self._sized: list[bool] = []
        for name, feature in problem.features.items():
            self._keys.append(name)
            self._sized.append(feature.modality != CLASS_LABEL)
            if feature.modality == AUDIO:
                self._keys.append(f"{name}/length")
                self._sized.append(False)
        self._head = struct.Struct(f"<{len(self._keys)}q")

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Gives the bytes of what `raw_examples.raw_values` gave."""
        numbers, parts = [], [b""]
        for key, sized in zip(self._keys, self._sized, strict=True):
            value = values[key]
            if sized:
                parts.append(value)
                value = len(value)
            numbers.append(value)
        parts[0] = self._head.pack(*numbers)
        return b"".join(parts)

    def unpack(self, content: bytes) -> dict[str, Any]:
        """Gives the values again: bytes or an int by key."""
        values: dict[str, Any] = {}
        begin = self._head.size
        numbers = self._head.unpack_from(content)
        for key, sized, number in zip(self._keys, self._sized, numbers, strict=True):
            if sized:
                values[key] = content[begin : begin + number]
                begin += number
            else:
                values[key] = number
        return values


def packed_examples(
    problem: Problem,
    examples: Sequence[Mapping[str, Any]],
    texts: Mapping[str, Sequence[bytes]],
) -> list[bytes]:
    """Gives the bytes of a tf.train.Example for each example.

    Args:
      problem: whose examples.
      examples: as `RawFormat.unpack` gives them.
      texts: by text feature, the packed ids of each example, EOS included.
    """
    columns = []
    # Keys as protobuf sorts them: of two that begin alike, the longer is first.
    for key in sorted(examples[0], key=_by_bytes) if examples else ():
        feature = problem.features.get(key)
        name = key.encode()
        prefix = _FIRST + varint(len(name)) + name
        if feature is not None and feature.modality == TEXT:
            payloads = texts[key]
        elif feature is None or feature.modality == CLASS_LABEL:
            payloads = packed_ids([[example[key]] for example in examples])
        else:
            contents = [example[key] for example in examples]
            columns.append([_entry(prefix, _FIRST, one) for one in contents])
            continue
        columns.append([_entry(prefix, _THIRD, one) for one in payloads])
    packed = []
    for row in zip(*columns, strict=True):
        body = b"".join(row)
        packed.append(_FIRST + varint(len(body)) + body)
    return packed


def _by_bytes(key: str) -> bytes:
    return key.encode() + b"\xff"


def _entry(prefix: bytes, kind: bytes, payload: bytes) -> bytes:
    """Gives an entry of Features.feature: a key and its list of values."""
    values = _FIRST + varint(len(payload)) + payload
    feature = kind + varint(len(values)) + values
    body = prefix + _SECOND + varint(len(feature)) + feature
    return _FIRST + varint(len(body)) + body


@functools.lru_cache(maxsize=1 << 16)
def varint(number: int) -> bytes:
    """Gives a number in groups of seven bits, the lowest first."""
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])


def counted_ids(packed: Sequence[bytes]) -> np.ndarray:
    """Gives how many numbers each of some `packed_ids` holds, int64 [N]."""
    content = np.frombuffer(b"".join(packed), np.uint8)
    # The last byte of a number is below 128, the others are not.
    ended = np.concatenate([[0], np.cumsum(content < 128)])
    ends = np.cumsum([0, *map(len, packed)])
    return np.diff(ended[ends])


def unpacked_ids(packed: bytes) -> list[int]:
    """Gives the numbers of which `packed_ids` made bytes."""
    numbers, number, shift = [], 0, 0
    for byte in packed:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    return numbers


def packed_ids(rows: Sequence[Sequence[int]]) -> list[bytes]:
    """Gives each row of non-negative numbers as varints, end to end."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    flat = np.fromiter(itertools.chain.from_iterable(rows), np.int64, lengths.sum())
    sizes = np.ones(len(flat), np.int64)
    limit = 128
    while len(flat) and flat.max() >= limit:
        sizes += flat >= limit
        limit <<= 7
    ends = np.cumsum(sizes)
    content = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - sizes
    for place in range(int(sizes.max()) if len(sizes) else 0):
        here = sizes > place
        more = (sizes[here] > place + 1) * 128
        content[starts[here] + place] = flat[here] >> 7 * place & 127 | more
    whole = content.tobytes()
    bounds = np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(lengths)])]
    return [whole[begin:end] for begin, end in itertools.pairwise(bounds.tolist())]
