"""The page about a run: whole, in one file, and safe whatever the run holds."""

import base64
import html.parser
import json
import struct
import wave
import zlib

import pytest

from t2t_mm import report
from t2t_mm.bin import mm_report

HOSTILE = "<script>alert('x')</script>&\"'"
TREE = "(S (NP DT NN )NP (VP VBD )VP )S"
VOID = {"meta", "img", "link", "br"}


def png():
    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\1\2\3")
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def make_run(folder, *, with_scores=True):
    """Writes a run of four made-up problems, one of each kind of answer."""
    (folder / "samples").mkdir()
    (folder / "samples" / "a.png").write_bytes(png())
    with wave.open(str(folder / "samples" / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 5)
    samples = {
        "pictures": {"inputs": "", "inputs_file": "samples/a.png", "reference": "cat"},
        "sounds": {"inputs": "", "inputs_file": "samples/a.wav", "reference": "a b"},
        "trees": {"inputs": "the dog ran", "reference": TREE},
        "texts": {"inputs": HOSTILE, "reference": "b " + HOSTILE},
    }
    scores = {
        "pictures": {"top1": 0.7, "top5": 0.9},
        "sounds": {"wer": 0.25, "cer": 0.1},
        "trees": {"bracket_f1": 0.5},
        "texts": {"bleu": 13.57, HOSTILE: 0.1},
    }
    baselines = {"top1": 0.2, "wer": 1.0, "bracket_f1": 0.6, "bleu": 2.0}
    records, problems = [], {}
    for name, sample in samples.items():
        answers = {3: HOSTILE, 7: sample["reference"]}
        for step, answer in answers.items():
            shared = {"step": step, "problem": name, "loss": 9 / step, "accuracy": 0.1}
            records.append(shared | {"kind": "train", "seconds": 61.0})
            answered = [sample | {"prediction": answer}]
            metrics = {"metrics": scores[name], "samples": answered, "examples": 5}
            records.append(shared | {"kind": "eval", "split": "dev"} | metrics)
            use = {"layer": "encoder/experts", "use": [0.25, 0.75]}
            records.append(shared | {"kind": "expert_use"} | use)
        headline = next(iter(scores[name]))
        baseline = {"name": "copy", "metrics": {headline: baselines[headline]}}
        wrong = sample | {
            "prediction": "(S (NP DT )NP NN VBD )S x"[: 4 + len(name) * 4]
        }
        right = sample | {"prediction": sample["reference"]}
        result = metrics | {"samples": [wrong, right], "baseline": baseline}
        problems[name] = {"test": result, "test_harder": result}
    write = {
        "run.json": {"model": "multimodel", "problems": list(samples)},
        "hparams.json": {"hparams_set": HOSTILE, "values": {"dropout": 0.1}},
    }
    if with_scores:
        head = {"step": 7, "model": "multimodel", "parameters": 1_432_118}
        write["eval.json"] = head | {"problems": problems}
    for name, content in write.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


class Page(html.parser.HTMLParser):
    """Collects ids, tags, links and text; notes every end tag that fits no start."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.links, self.text = [], [], [], ""
        self.open, self.misfits = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.links.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.misfits.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.text += data


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run_dir):
    with open(report.write_report(run_dir), encoding="utf-8") as file:
        return Page(file.read())


def test_all_sections_are_there_and_every_tag_is_closed(page):
    assert page.misfits == [] and page.open == []
    assert {"results", "problems", "experts", "settings"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_needs_nothing_but_itself(page):
    assert "script" not in page.tags and "link" not in page.tags
    for link in page.links:
        assert link.startswith(("data:", "#"))


def test_links_within_the_page_lead_somewhere(page):
    targets = [link[1:] for link in page.links if link.startswith("#")]
    assert targets and set(targets) <= set(page.ids)


def test_hostile_text_is_shown_and_never_runs(page):
    assert HOSTILE in page.text
    assert page.tags.count("script") == 0


def test_scores_baselines_and_facts_are_shown(page):
    for text in ("70.0 %", "20.0 %", "25.0 %", "13.6", "1.43 M", "8 min 8 s"):
        assert text in page.text, text
    assert "Better than its baseline on 3 of 4 problems." in page.text
    assert page.text.count("(lower is better)") == 3  # two rows and a head
    assert "test_harder" in page.text


def test_a_curve_says_of_how_many_examples_it_is(page):
    assert "of 5 dev examples" in page.text


def test_curves_trees_pictures_and_sounds_are_inside(page):
    assert page.tags.count("figure") == 3 * 4
    # Systems name the kind of a WAV file audio/x-wav or audio/wav.
    kinds = {link.partition("/")[0] for link in page.links}
    assert {"data:image", "data:audio"} <= kinds
    with_png = [link for link in page.links if link.startswith("data:image/png")]
    assert base64.b64decode(with_png[0].split(",")[1]) == png()
    assert "the" in page.text and "NP" in page.text


def test_a_run_without_test_scores_shows_those_of_training(tmp_path):
    path = report.write_report(make_run(tmp_path, with_scores=False))
    with open(path, encoding="utf-8") as file:
        page = Page(file.read())
    assert "No test scores yet" in page.text
    assert "70.0 %" in page.text


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    line = {"step": 1, "kind": "train", "problem": "p", "loss": 3.0, "accuracy": 0.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    with open(report.write_report(str(tmp_path)), encoding="utf-8") as file:
        assert Page(file.read()).misfits == []


@pytest.mark.parametrize("path", ["../secret.png", "samples/none.png", "run.json"])
def test_a_file_that_is_no_sample_of_the_run_is_not_taken_in(tmp_path, path):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    run_dir = make_run(folder)
    text = (folder / "eval.json").read_text().replace("samples/a.png", path)
    (folder / "eval.json").write_text(text)
    (folder / "metrics.jsonl").write_text("")
    with open(report.write_report(run_dir), encoding="utf-8") as file:
        page = Page(file.read())
    assert f"(the file {path} is not there)" in page.text
    assert not [link for link in page.links if link.startswith("data:image")]


def test_mm_report_prints_the_path_of_the_page(run_dir, capsys):
    assert mm_report.main([f"--output_dir={run_dir}"]) == 0
    assert capsys.readouterr().out.strip() == f"{run_dir}/report.html"


def test_mm_report_explains_a_folder_that_is_no_run(tmp_path, capsys):
    assert mm_report.main([f"--output_dir={tmp_path}"]) == 2
    assert "Give the --output_dir of mm-trainer." in capsys.readouterr().err
