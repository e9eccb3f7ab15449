import os
import sys
import zipfile

import pytest

from t2t_mm import trees
from t2t_mm.downloads import path_of
from t2t_mm.problems import parsing


def test_every_target_is_a_whole_tree_with_a_leaf_a_token(tmp_dir):
    problem = parsing.ParsingSilver()
    for split in ("dev", "test"):
        for example in problem.generate(split, tmp_dir):
            words = len(example["inputs"].split())
            assert problem.min_words <= words <= problem.max_words
            assert len(trees.parse(example["targets"]).leaves()) >= words


def test_verses_are_of_the_two_public_editions_only(stand_ins):
    verses = parsing.read_verses(stand_ins)
    assert len(verses) == 300
    assert not [verse for verse in verses if " 2 " in verse]


@pytest.mark.parametrize(
    ("verse", "sentences"),
    [
        ("God said, Go. They went.", ["God said, Go.", "They went."]),
        ('He said, "Go!" They went.', ["They went."]),
        ("`Where is he?' and so on", ["Where is he?"]),
        ("He  didn`t go.", ["He didn't go."]),
        ("the end of the matter.", []),
        ("No mark at the end", []),
    ],
)
def test_only_whole_sentences_are_taken(verse, sentences):
    assert parsing.sentences_of(verse) == sentences


def test_without_the_parser_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"pip install 't2t-mm\[demo\]'"):
        list(parsing.parsed(["They went."], str(tmp_path)))


def test_a_model_is_read_from_its_wheel(tmp_path):
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example

    model = spacy.blank("en")
    model.add_pipe("tagger")
    model.add_pipe("parser", config={"min_action_freq": 1})
    document = model.make_doc("They went .")
    gold = {
        "tags": ["PRP", "VBD", "."],
        "heads": [1, 1, 1],
        "deps": ["nsubj", "ROOT", "punct"],
    }
    example = Example.from_dict(document, gold)
    optimizer = model.initialize(lambda: [example])
    for _ in range(20):
        model.update([example], sgd=optimizer)
    model.to_disk(tmp_path / "model")
    wheel = path_of(parsing.PARSER_MODEL, str(tmp_path))
    os.makedirs(os.path.dirname(wheel))
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted((tmp_path / "model").rglob("*")):
            if path.is_file():
                name = path.relative_to(tmp_path / "model").as_posix()
                archive.write(path, f"{parsing.MODEL_FOLDER}/{name}")
    ((sentence, tokens),) = parsing.parsed(["They went ."], str(tmp_path))
    assert sentence == "They went ."
    assert [(token.head, token.relation, token.tag) for token in tokens] == [
        (1, "nsubj", "PRP"),
        (1, "ROOT", "VBD"),
        (1, "punct", "."),
    ]
