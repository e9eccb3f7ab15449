"""Verification: each kind of fault is found and named, and before training if cheap."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t_mm import manifests, records
from t2t_mm.bin import mm_datagen
from t2t_mm.problem import get_problem
from t2t_mm.split_reader import SplitReader
from t2t_mm.verification import verify

NAMES = ["small_reverse", "small_tones", "small_colours", "small_captions"]


@pytest.fixture
def own_data(small_data, tmp_path):
    return pathlib.Path(shutil.copytree(small_data, tmp_path / "data"))


def check(folder, *names):
    return verify(names or NAMES, str(folder), num_processes=0, progress=False)


def refused(folder, words, name="small_reverse", error=ValueError):
    with pytest.raises(error, match=words):
        check(folder, name)


def refused_before_training(name, folder, words, error=ValueError):
    refused(folder, words, name, error)
    with pytest.raises(error, match=words):
        SplitReader(get_problem(name), "train", str(folder))


def test_whole_data_is_whole(small_problems, small_data):
    assert set(check(small_data)) == set(NAMES)


def test_the_command_says_what_is_whole_and_where_the_first_fault_is(
    small_problems, own_data, capsys
):
    flags = [f"--data_dir={own_data}", "--problem=small_mixture", "--verify"]
    assert mm_datagen.main(flags) == 0
    shown = capsys.readouterr().out
    assert "small_reverse" in shown and "Every record is what was written." in shown
    name = "small_captions-dev-00000-of-00001"
    flip(own_data / name, 20)
    assert mm_datagen.main(flags) == 2
    error = capsys.readouterr().err
    assert f"{name}, record 0: " in error and "Traceback" not in error


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_several_processes_name_the_same_fault(small_data, own_data):
    for shard in (8, 2):
        flip(own_data / f"small_reverse-train-0000{shard}-of-00010", 40)
    user_dir = pathlib.Path(__file__).parent / "small_problems"
    flags = ["--problem=small_reverse", "--verify", f"--t2t_usr_dir={user_dir}"]
    command = [sys.executable, "-m", "t2t_mm.bin.mm_datagen", f"--data_dir={own_data}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert done.returncode == 2
    assert "small_reverse-train-00002-of-00010, record 0:" in done.stderr


@pytest.mark.parametrize("row", [0, 3, 6])
def test_a_flipped_bit_is_named_with_file_and_record(small_problems, own_data, row):
    name = "small_reverse-dev-00000-of-00001"
    index = np.load(own_data / "small_reverse-dev.index.npy")
    flip(own_data / name, int(index[row, records.OFFSET]) + 14)
    refused(own_data, f"{name}, record {row}: .*damaged")


def test_a_flipped_bit_in_a_header_is_found_too(small_problems, own_data):
    name = "small_reverse-dev-00000-of-00001"
    index = np.load(own_data / "small_reverse-dev.index.npy")
    flip(own_data / name, int(index[2, records.OFFSET]) + 1)
    refused(own_data, f"{name}, record 2: ")


def test_a_shard_that_was_cut_off_is_refused_before_training(small_problems, own_data):
    path = own_data / "small_reverse-train-00003-of-00010"
    path.write_bytes(path.read_bytes()[:-5])
    refused_before_training(
        "small_reverse", own_data, "bytes were written|were written"
    )


def test_a_missing_shard_is_refused_before_training(small_problems, own_data):
    (own_data / "small_tones-train-00003-of-00010").unlink()
    refused_before_training("small_tones", own_data, "00003-of-00010 is missing")


def test_a_foreign_shard_of_the_same_size_is_refused_before_training(
    small_problems, own_data
):
    path = own_data / "small_reverse-train-00003-of-00010"
    size = path.stat().st_size
    with records.RecordWriter(str(path)) as writer:
        writer.write(bytes(size - 16))
    assert path.stat().st_size == size
    refused(own_data, f"{path.name}, record 0: it has .* bytes, the index says")
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        SplitReader(get_problem("small_reverse"), "train", str(own_data))


def rewritten(path, change):
    """Writes a shard again, its records changed, with their checksums right."""
    contents = list(records.read_records(str(path)))
    with records.RecordWriter(str(path)) as writer:
        for number, content in enumerate(contents):
            writer.write(change(number, content))


def test_other_records_of_the_same_sizes_are_no_match(small_problems, own_data):
    path = own_data / "small_reverse-dev-00000-of-00001"

    def swap(number, content):
        values = records.unpack(content)
        if number == 4:
            values["inputs"] = [*values["inputs"][-2::-1], 1]
        return records.pack(values)

    before = path.read_bytes()
    rewritten(path, swap)
    assert path.stat().st_size == len(before) and path.read_bytes() != before
    refused(own_data, f"{path.name}, record 0: every record is whole, and yet")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("small_reverse", {"targets": [5, 0, 1]}, "'targets' holds the id 0; ids from"),
        ("small_reverse", {"targets": [5, 1, 1]}, "'targets' holds the id 1; ids from"),
        ("small_reverse", {"targets": [5, 7]}, "'targets' does not end in EOS"),
        ("small_reverse", {"targets": []}, "'targets' does not end in EOS"),
        ("small_reverse", {"targets": [300, 1]}, "holds the id 300; ids from 2 to 2"),
        ("small_reverse", {"targets": b"x"}, "is bytes; ids of text were expected"),
        ("small_reverse", {"more": [1]}, "it holds inputs, more, targets; expected"),
        ("small_colours", {"targets": [3]}, "a label below 3 was expected"),
        ("small_colours", {"targets": [0, 0]}, "a label below 3 was expected"),
        ("small_colours", {"inputs": b"JPEG"}, "no picture that Pillow can read"),
        ("small_captions", {"inputs": [1]}, r"\[1\] \(list\); an image feature"),
        ("small_tones", {"inputs": b"RIFF"}, "is no PCM WAV file"),
        ("small_tones", {"inputs/length": 7}, "samples, not"),
    ],
)
def test_a_record_that_does_not_fit_its_features_is_named(
    small_problems, own_data, name, change, words
):
    path = own_data / f"{name}-dev-00000-of-00001"

    def other(number, content):
        return (
            content if number != 3 else records.pack(records.unpack(content) | change)
        )

    rewritten(path, other)
    sizes = [len(one) for one in records.read_records(str(path))]
    manifest = own_data / f"{name}.manifest.json"
    described = json.loads(manifest.read_text())
    offsets = np.cumsum([0, *(size + 16 for size in sizes)])
    index = np.load(own_data / f"{name}-dev.index.npy")
    index[:, records.OFFSET], index[:, records.SIZE] = offsets[:-1], sizes
    np.save(own_data / f"{name}-dev.index.npy", index)
    split = described["splits"]["dev"]
    for entry in (split["shards"][0], split["index"]):
        changed = own_data / entry["name"]
        entry |= {"bytes": changed.stat().st_size}
        entry |= {"sha256": manifests.sha256_of(str(changed))}
    del described["checksum"]
    manifest.write_text(json.dumps(described))
    refused(own_data, f"{path.name}, record 3: feature|record 3: it holds", name)
    refused(own_data, words, name)


def test_a_shard_that_nobody_names_is_foreign(small_problems, own_data):
    (own_data / "small_reverse-train-00010-of-00011").write_bytes(b"")
    refused(own_data, "00010-of-00011 does not belong to the data of .* Delete it")


def test_a_foreign_index_is_refused_before_training(small_problems, own_data):
    index = "{}-train.index.npy"
    source = own_data / index.format("small_captions")
    shutil.copy(source, own_data / index.format("small_reverse"))
    refused_before_training("small_reverse", own_data, "no index that belongs here")


def test_a_changed_vocabulary_is_refused_before_training(small_problems, own_data):
    flip(own_data / "small_words.subwords.model", 50)
    refused_before_training("small_tones", own_data, "was learned again since")


def test_a_changed_set_of_features_is_refused_before_training(
    small_problems, own_data, monkeypatch
):
    cls = small_problems.SmallReverse
    more = property(lambda self: {"inputs": cls.inputs, "notes": cls.inputs})
    monkeypatch.setattr(cls, "features", more)
    words = "the features were inputs, targets and are inputs, notes now"
    refused_before_training("small_reverse", own_data, words)


def test_a_changed_manifest_is_refused_before_training(small_problems, own_data):
    path = own_data / "small_reverse.manifest.json"
    path.write_text(path.read_text().replace('"examples": 61', '"examples": 62'))
    refused_before_training("small_reverse", own_data, "changed since it was written")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"problem": "small_tones"}, "it is of problem 'small_tones'"),
        ({"licence": 3}, "'licence' of the manifest is '3'"),
        ({"checkzum": "0"}, "lacks or should not have 'checkzum'"),
        ({"splits": {"train": []}}, "split 'train' is no table"),
    ],
)
def test_a_manifest_without_checksum_is_checked_for_its_form(
    small_problems, own_data, change, words
):
    path = own_data / "small_reverse.manifest.json"
    manifest = json.loads(path.read_text()) | change
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    refused(own_data, words)


def test_a_manifest_of_the_first_release_still_fits(small_problems, own_data):
    path = own_data / "small_reverse.manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    check(own_data, "small_reverse")


# Fuzzing: whatever happens to a file, there is an error, or the data is what it was.


def everything(name, folder):
    """Gives what training and evaluation would read: every record of each split."""
    problem = get_problem(name)
    found = {}
    for split in problem.splits:
        reader = SplitReader(problem, split, str(folder))
        found[split] = list(reader.read(np.arange(len(reader.index))))
    return found


MUTATIONS = ("flip", "cut", "grow", "zero", "copy", "swap", "lose", "empty")


def mutated(draw, content, others):
    """Gives a file's content after an accident, or None if it is lost."""
    kind = draw(st.sampled_from(MUTATIONS))
    if kind == "lose":
        return None
    if kind == "empty" or not content:
        return b""
    if kind == "swap":
        return draw(st.sampled_from(others))
    place = draw(st.integers(0, len(content) - 1))
    length = draw(st.integers(1, 64))
    if kind == "flip":
        other = content[place] ^ draw(st.integers(1, 255))
        return content[:place] + bytes([other]) + content[place + 1 :]
    if kind == "cut":
        return content[:place]
    if kind == "grow":
        return content + draw(st.binary(min_size=1, max_size=64))
    if kind == "zero":
        return content[:place] + bytes(length) + content[place + length :]
    piece = content[draw(st.integers(0, len(content) - 1)) :][:length]
    return content[:place] + piece + content[place + len(piece) :]


def meaning(name, content):
    """Gives what a file says: of JSON its values, whatever the blanks between them."""
    return json.loads(content) if name.endswith(".json") else content


def run_fuzz(small_data, folder, problem_name, data):
    """Changes one file of a copy; puts it back afterwards."""
    whole = pathlib.Path(small_data)
    files = sorted(
        path.name for path in whole.iterdir() if path.name.startswith(problem_name)
    )
    if problem_name in ("small_reverse", "small_tones"):
        files.append("small_words.subwords.model")
    name = data.draw(st.sampled_from(files))
    content = (whole / name).read_bytes()
    others = [(whole / one).read_bytes() for one in files]
    changed = mutated(data.draw, content, others)
    path = folder / name
    try:
        path.unlink() if changed is None else path.write_bytes(changed)
        try:
            check(folder, problem_name)
        except (ValueError, FileNotFoundError):
            assert changed != content
        else:
            assert changed is not None
            assert meaning(name, changed) == meaning(name, content)
        try:
            found = everything(problem_name, folder)
        except (ValueError, FileNotFoundError):
            return
        assert found == everything(problem_name, small_data)
    finally:
        path.write_bytes(content)


@pytest.fixture(params=NAMES)
def fuzzed(request, small_problems, small_data, tmp_path):
    folder = pathlib.Path(shutil.copytree(small_data, tmp_path / "fuzzed"))
    return request.param, small_data, folder


def fuzz(fuzzed, max_examples, **options):
    name, small_data, folder = fuzzed

    @settings(max_examples=max_examples, database=None, **options)
    @given(st.data())
    def run(data):
        run_fuzz(small_data, folder, name, data)

    run()


def test_a_damaged_file_is_an_error_or_unharmed(fuzzed):
    fuzz(fuzzed, 40)


@pytest.mark.slow
def test_thousands_of_damaged_files_are_errors_or_unharmed(fuzzed):
    fuzz(fuzzed, 1500, derandomize=False)
