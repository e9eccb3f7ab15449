"""The Beam pipeline writes what datagen writes, byte for byte."""

import importlib.util
import itertools
import os
import sys

import pytest

from t2t_mm import manifests
from t2t_mm.bin import mm_datagen
from t2t_mm.problem import Problem, get_problem

HAS_BEAM = importlib.util.find_spec("apache_beam") is not None
needs_beam = pytest.mark.skipif(
    not HAS_BEAM, reason="Apache Beam is not installed: pip install 't2t-mm[beam]'"
)
# Beam and what it stands on warn on their own account.
pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ["small_reverse", "small_tones", "small_colours", "small_captions"]
RUNNER = ("--runner=DirectRunner", "--direct_num_workers=1")


def contents(folder):
    return {
        name: open_bytes(os.path.join(folder, name))
        for name in os.listdir(folder)
        if not name.startswith(".")
    }


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def generate(tmp_path, names=NAMES, **options):
    from t2t_mm import beam_datagen

    return beam_datagen.generate_data(
        names, str(tmp_path / "data"), str(tmp_path / "tmp"), options=RUNNER, **options
    )


@needs_beam
def test_the_files_are_those_of_a_local_run_byte_for_byte(
    small_problems, small_data, tmp_path
):
    made = generate(tmp_path)
    assert contents(tmp_path / "data") == contents(small_data)
    assert set(made) == set(NAMES)
    assert generate(tmp_path) == made


@needs_beam
def test_a_source_in_shards_gives_the_same_bytes(
    small_problems, small_data, tmp_path, monkeypatch
):
    reverse = small_problems.SmallReverse
    whole = reverse.generate

    def generate_shard(self, split, tmp_dir, shard):
        begin = int(shard)
        yield from itertools.islice(whole(self, split, tmp_dir), begin, begin + 30)

    parts = lambda self, split, tmp_dir: ["0", "30", "60"]  # noqa: E731
    monkeypatch.setattr(reverse, "shards", parts)
    monkeypatch.setattr(reverse, "generate_shard", generate_shard)
    monkeypatch.setattr(reverse, "generate", Problem.generate)
    generate(tmp_path)
    assert contents(tmp_path / "data") == contents(small_data)


@needs_beam
def test_a_vocabulary_that_is_there_is_used_and_what_fits_is_kept(
    small_problems, small_data, tmp_path
):
    generate(tmp_path)
    folder = tmp_path / "data"
    os.remove(folder / "small_tones.manifest.json")
    kept = os.stat(folder / "small_reverse-train-00000-of-00010").st_mtime_ns
    generate(tmp_path)
    assert contents(folder) == contents(small_data)
    after = os.stat(folder / "small_reverse-train-00000-of-00010").st_mtime_ns
    assert after == kept


@needs_beam
def test_empty_shards_and_dropped_examples_are_there(
    small_problems, tmp_path, monkeypatch
):
    from t2t_mm import datagen

    colours = small_problems.SmallColours
    monkeypatch.setattr(colours, "on_bad_example", "drop")
    good = colours.generate

    def with_bad(self, split, tmp_dir):
        yield {"inputs": b"", "targets": "red"}
        yield from good(self, split, tmp_dir)

    monkeypatch.setattr(colours, "generate", with_bad)
    made = generate(tmp_path, ["small_colours"], num_shards=67)
    train = made["small_colours"]["splits"]["train"]
    assert train["dropped"]["reasons"] == {"empty": 1}
    assert [one["examples"] for one in train["shards"]].count(0) == 6
    local = str(tmp_path / "local")
    datagen.generate_data(
        ["small_colours"],
        local,
        str(tmp_path / "tmp"),
        num_shards=67,
        num_processes=0,
        progress=False,
    )
    assert contents(tmp_path / "data") == contents(local)


@needs_beam
def test_data_goes_to_an_address_of_beams_file_systems(
    small_problems, small_data, tmp_path
):
    """A file system that is none of the machine's, as gs:// is to a worker."""
    from apache_beam.io.filesystem import FileSystem
    from apache_beam.io.localfilesystem import LocalFileSystem

    root = tmp_path / "bucket"
    root.mkdir()

    class BucketFileSystem(LocalFileSystem):
        """A bucket that is a folder in truth."""

        @classmethod
        def scheme(cls):
            return "bucket"

        def join(self, base, *paths):
            return "/".join([base, *paths])

        def create(self, path, *args, **options):
            return super().create(self.real(path), *args, **options)

        def open(self, path, *args, **options):
            return super().open(self.real(path), *args, **options)

        def rename(self, sources, targets):
            real = [[self.real(one) for one in some] for some in (sources, targets)]
            return super().rename(*real)

        @staticmethod
        def real(path):
            return path.replace("bucket://", f"{root}/")

    assert issubclass(BucketFileSystem, FileSystem)
    from t2t_mm import beam_datagen

    made = beam_datagen.generate_data(
        NAMES, "bucket://", str(tmp_path / "tmp"), options=RUNNER
    )
    assert contents(root) == contents(small_data)
    assert made["small_tones"] == manifests.check_manifest(
        str(root), get_problem("small_tones")
    )


@needs_beam
def test_the_command_runs_the_pipeline(small_problems, small_data, tmp_path, capsys):
    flags = ["--problem=small_captions", "--beam", f"--beam_options={' '.join(RUNNER)}"]
    folder = tmp_path / "data"
    flags += [f"--data_dir={folder}", f"--tmp_dir={tmp_path / 'tmp'}"]
    assert mm_datagen.main(flags) == 0
    assert "small_captions  train 61" in capsys.readouterr().out
    for name, content in contents(folder).items():
        assert content == open_bytes(os.path.join(small_data, name))


def test_without_beam_the_command_says_what_to_install(
    small_problems, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "t2t_mm.beam_datagen", raising=False)
    monkeypatch.delattr("t2t_mm.beam_datagen", raising=False)
    flags = [f"--data_dir={tmp_path}", "--problem=small_captions", "--beam"]
    assert mm_datagen.main(flags) == 2
    error = capsys.readouterr().err
    assert "pip install 't2t-mm[beam]'" in error and "Traceback" not in error
