"""Fast bytes of examples: the same as those of the plain way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2t_mm import records
from t2t_mm.problem import Feature, Problem
from t2t_mm.record_bytes import (
    RawFormat,
    counted_ids,
    packed_examples,
    packed_ids,
    unpacked_ids,
)

TEXT = Feature("text", vocabulary="bytes")
FEATURES = {
    "text": TEXT,
    "class_label": Feature("class_label", vocabulary="c", labels=("cat", "dog")),
    "image": Feature("image", height=2, width=3),
    "audio": Feature("audio", sample_rate=8000),
}
number = st.integers(0, 2**63 - 1)
ids = st.lists(st.one_of(st.integers(0, 300), number), min_size=1, max_size=9)


def problem_of(modality):
    class Some(Problem):
        """Some problem."""

        inputs = FEATURES[modality]
        targets = TEXT

    return Some()


@st.composite
def raw_example(draw, modality):
    values = {"inputs": draw(st.binary()), "targets": draw(st.binary())}
    if modality == "class_label":
        values["inputs"] = draw(number)
    if modality == "audio":
        values["inputs/length"] = draw(number)
    return values


@pytest.mark.parametrize("modality", FEATURES)
@given(data=st.data())
def test_what_is_packed_raw_is_unpacked(modality, data):
    values = data.draw(raw_example(modality))
    form = RawFormat(problem_of(modality))
    assert form.unpack(form.pack(values)) == values


@pytest.mark.parametrize("modality", FEATURES)
@given(data=st.data())
def test_examples_are_packed_as_one_by_one(modality, data):
    examples = data.draw(st.lists(raw_example(modality), max_size=5))
    texts = ["targets"] + ["inputs"] * (modality == "text")
    rows = {name: [data.draw(ids) for _ in examples] for name in texts}
    expected = [
        records.pack(example | {name: rows[name][place] for name in texts})
        for place, example in enumerate(examples)
    ]
    packed = {name: packed_ids(rows[name]) for name in texts}
    assert packed_examples(problem_of(modality), examples, packed) == expected


def test_large_pictures_are_packed_as_one_by_one():
    examples = [{"inputs": bytes(size), "targets": b"x"} for size in (127, 128, 70_000)]
    packed = {"targets": packed_ids([[5, 1]] * 3)}
    expected = [records.pack(one | {"targets": [5, 1]}) for one in examples]
    assert packed_examples(problem_of("image"), examples, packed) == expected


def test_numbers_are_varints_end_to_end():
    rows = [[1], [], [127, 128, 300], [2**14, 2**63 - 1]]
    assert packed_ids(rows) == [
        b"\x01",
        b"",
        b"\x7f\x80\x01\xac\x02",
        b"\x80\x80\x01" + b"\xff" * 8 + b"\x7f",
    ]
    assert packed_ids([]) == []


@given(rows=st.lists(ids))
def test_packed_numbers_are_counted_and_come_back(rows):
    packed = packed_ids(rows)
    assert counted_ids(packed).tolist() == [len(row) for row in rows]
    assert [unpacked_ids(one) for one in packed] == rows
