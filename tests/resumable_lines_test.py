import io
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from t2t_mm.locks import Lock
from t2t_mm.resumable_lines import answer_lines, read_chunks
from tests.made.data import wait_for

SETTINGS = {"problem": "upper", "beam_size": 4}


def answered(text, path, *, settings=SETTINGS, answer=None, **options):
    said = []
    source = io.BytesIO(text if isinstance(text, bytes) else text.encode())
    count = answer_lines(
        source,
        "in.txt",
        str(path),
        answer or (lambda lines, first: [line.upper() for line in lines]),
        settings=settings,
        say=said.append,
        **options,
    )
    return count, said


def killed_after(path, text, number, **options):
    """Answers chunks until one that starts at `number` comes, then dies."""

    def answer(lines, first):
        if first >= number:
            raise KeyboardInterrupt
        return [line.upper() for line in lines]

    with pytest.raises(KeyboardInterrupt):
        answered(text, path, answer=answer, **options)


def files_in(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_each_line_gets_a_line_whatever_the_chunks(size, tmp_path):
    path = tmp_path / "deep" / "out.txt"
    count, said = answered("a\n\nc d\nlast", path, chunk_lines=size)
    assert (count, said) == (4, [])
    assert path.read_text() == "A\n\nC D\nLAST\n"
    assert files_in(path.parent) == ["out.txt"]


def test_no_lines_give_an_empty_file(tmp_path):
    assert answered("", tmp_path / "out.txt")[0] == 0
    assert (tmp_path / "out.txt").read_bytes() == b""


def test_lines_end_at_line_feeds_alone():
    content = "\ufeffa\r\nb\u2028c\x0bd\x85e\rf\n g \n".encode()
    chunks = list(read_chunks(io.BytesIO(content), "x", 2))
    texts = [[line.text for line in chunk] for chunk in chunks]
    assert texts == [["a", "b\u2028c\x0bd\x85e\rf"], [" g "]]


def test_a_limit_stops_before_a_line(tmp_path):
    assert answered("a\nb\nc\n", tmp_path / "out.txt", limit=2, chunk_lines=1)[0] == 2
    assert (tmp_path / "out.txt").read_text() == "A\nB\n"


def test_nothing_stands_under_the_name_before_it_is_whole(tmp_path):
    path = tmp_path / "out.txt"
    killed_after(path, "a\nb\nc\n", 2, chunk_lines=1)
    assert not path.exists()
    assert {"out.txt.partial", "out.txt.progress.json"} < set(files_in(tmp_path))


def test_the_next_run_goes_on_where_the_last_one_was_killed(tmp_path):
    path, seen = tmp_path / "out.txt", []
    killed_after(path, "a\nb\nc\nd\n", 2, chunk_lines=1)

    def answer(lines, first):
        seen.append((first, list(lines)))
        return [line.upper() for line in lines]

    count, said = answered("a\nb\nc\nd\n", path, answer=answer, chunk_lines=3)
    assert (count, seen) == (4, [(2, ["c", "d"])])
    assert said == ["Going on after line 2 of in.txt."]
    assert path.read_text() == "A\nB\nC\nD\n"


def test_what_was_written_after_the_last_save_is_cut_off(tmp_path):
    path = tmp_path / "out.txt"
    killed_after(path, "a\nb\nc\n", 2, chunk_lines=1)
    with open(f"{path}.partial", "ab") as file:
        file.write(b"C\nhalf a li")
    answered("a\nb\nc\n", path)
    assert path.read_text() == "A\nB\nC\n"


def test_a_kill_between_renaming_and_tidying_up_loses_nothing(tmp_path):
    path = tmp_path / "out.txt"
    killed_after(path, "a\nb\nc\n", 2, chunk_lines=1)
    os.replace(f"{path}.partial", path)
    answered("a\nb\nc\n", path)
    assert path.read_text() == "A\nB\nC\n"
    assert files_in(tmp_path) == ["out.txt"]


def test_lines_may_be_added_or_mended_behind_what_is_done(tmp_path):
    path = tmp_path / "out.txt"
    killed_after(path, "a\nb\nwrong\n", 2, chunk_lines=1)
    answered("a\nb\nright\nmore\n", path)
    assert path.read_text() == "A\nB\nRIGHT\nMORE\n"


def test_a_finished_file_is_written_anew(tmp_path):
    path = tmp_path / "out.txt"
    answered("a\n", path)
    answered("b\n", path, settings={"other": 1})
    assert path.read_text() == "B\n"


def test_other_settings_are_refused_by_name(tmp_path):
    path = tmp_path / "out.txt"
    killed_after(path, "a\nb\n", 1, chunk_lines=1)
    with pytest.raises(
        ValueError,
        match=r"out.txt.partial was begun with other settings: beam_size \(then 4, "
        r"now 1\); step \(then None, now 3\). Expected the same. Delete .* begin anew",
    ):
        answered(
            "a\nb\n", path, settings={"problem": "upper", "beam_size": 1, "step": 3}
        )


@pytest.mark.parametrize("text", ["x\nb\nc\n", "a\n"])
def test_other_lines_are_refused(text, tmp_path):
    path = tmp_path / "out.txt"
    killed_after(path, "a\nb\nc\n", 2, chunk_lines=1)
    with pytest.raises(
        ValueError, match="The first 2 lines of in.txt are not those that .* answers"
    ):
        answered(text, path)


@pytest.mark.parametrize("content", [None, b"A\n", b"A\nX\n"])
def test_a_partial_file_that_was_changed_is_refused(content, tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("of an earlier run\n")
    killed_after(path, "a\nb\nc\n", 2, chunk_lines=1)
    os.remove(f"{path}.partial")
    if content is not None:
        (tmp_path / "out.txt.partial").write_bytes(content)
    with pytest.raises(ValueError, match="partial does not hold the 2 lines that .*"):
        answered("a\nb\nc\n", path)
    assert path.read_text() == "of an earlier run\n"


@pytest.mark.parametrize("content", ["{", "[1]", '{"lines": 3}'])
def test_a_broken_record_is_refused(content, tmp_path):
    (tmp_path / "out.txt.progress.json").write_text(content)
    with pytest.raises(ValueError, match="progress.json cannot be read .* Delete"):
        answered("a\n", tmp_path / "out.txt")


def test_a_second_process_is_refused(tmp_path):
    with Lock(str(tmp_path / "out.txt.lock")) as lock:
        assert lock.take()
        with pytest.raises(ValueError, match="Another process is writing .*out.txt"):
            answered("a\n", tmp_path / "out.txt")


def test_a_line_that_is_no_utf_8_is_named(tmp_path):
    with pytest.raises(ValueError, match="Line 2 of in.txt is no UTF-8 at byte 1;"):
        answered(b"a\nb\xff\n", tmp_path / "out.txt")


def test_a_wrong_number_of_answers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 answers came for 2 lines of in.txt"):
        answered("a\nb\n", tmp_path / "out.txt", answer=lambda lines, first: ["A"])


SLOW = """
import sys, time
from t2t_mm.resumable_lines import answer_lines
chunks = iter(range(15))
def answer(lines, first):
    if next(chunks, None) is None:
        time.sleep(1000)  # it is killed before it is done, however slow the killer
    time.sleep(0.01)
    return [f"{first + i}:{line}" for i, line in enumerate(lines)]
with open(sys.argv[1], "rb") as source:
    answer_lines(source, "in", sys.argv[2], answer, settings={}, chunk_lines=50)
"""


def lines_done(path):
    try:
        with open(f"{path}.progress.json", encoding="utf-8") as file:
            return json.load(file)["lines"]
    except FileNotFoundError:
        return 0


def wait_for_progress(process, path, before):
    wait_for(lambda: process.poll() is not None or lines_done(path) > before)


def test_no_kill_at_any_moment_loses_or_doubles_a_line(tmp_path):
    lines = [f"line {i}" for i in range(4000)]
    source, path = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("".join(f"{line}\n" for line in lines))
    command = [sys.executable, "-c", SLOW, str(source), str(path)]
    moments, kills = random.Random(5), 0
    while not path.exists():
        before = lines_done(path)
        process = subprocess.Popen(command)
        wait_for_progress(process, path, before)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL)
        kills += process.returncode != 0
    assert kills >= 4000 // 50 // 15
    wanted = "".join(f"{i}:{line}\n" for i, line in enumerate(lines))
    assert path.read_text() == wanted
