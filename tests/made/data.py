"""Generating the small problems, and what comes of it, for tests of datagen."""

import os
import pathlib
import time

from t2t_mm import datagen, manifests, records
from t2t_mm.vocabulary import load_vocabulary

NAMES = ["small_reverse", "small_tones", "small_colours", "small_captions"]


def generate(tmp_path, names=NAMES, **options):
    options = {"num_processes": 0, "progress": False} | options
    return datagen.generate_data(
        names, str(tmp_path / "data"), str(tmp_path / "tmp"), **options
    )


def contents(folder):
    """Gives every file that counts: those with final names."""
    return {
        path.name: path.read_bytes()
        for path in pathlib.Path(folder).iterdir()
        if not path.name.startswith(".")
    }


def texts(folder, name, split="train"):
    vocabulary = load_vocabulary("small_words", str(folder))
    entry = manifests.read_manifest(str(folder), name)["splits"][split]
    return [
        vocabulary.decode(records.unpack(record)["inputs"])
        for shard in entry["shards"]
        for record in records.read_records(os.path.join(folder, shard["name"]))
    ]


def wait_for(condition, seconds=300):
    """Waits until something is so, on a busy machine too; fails if it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def fail_after(monkeypatch, number, error):
    """Makes the write of the n-th record fail."""
    written = []
    write = records.RecordWriter.write

    def failing(self, record):
        written.append(record)
        if len(written) > number:
            raise error
        return write(self, record)

    monkeypatch.setattr(records.RecordWriter, "write", failing)
