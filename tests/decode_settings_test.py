import re

import pytest

from t2t_mm.decode_settings import (
    DecodeHParams,
    decode_settings,
    refuse_keywords,
)
from t2t_mm.registry import UnknownNameError


@pytest.mark.parametrize(
    "given",
    [
        "beam_size=4, alpha=1",
        {"beam_size": 4, "alpha": 1.0},
        DecodeHParams(beam_size=4, alpha=1.0),
    ],
    ids=["text", "dict", "settings"],
)
def test_settings_are_made_of_text_dict_or_settings(given):
    made = decode_settings(given)
    assert made == DecodeHParams(beam_size=4, alpha=1.0)
    assert hash(made) == hash(DecodeHParams(beam_size=4, alpha=1.0))


@pytest.mark.parametrize("given", [None, "", {}])
def test_nothing_gives_greedy_search(given):
    made = decode_settings(given)
    assert made == DecodeHParams()
    assert (made.beam_size, made.temperature, made.num_return) == (1, 0.0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("beam_size", "--decode_hparams has 'beam_size'; expected name=value. Write "),
        ("beam_size=4,beam_size=5", "--decode_hparams sets 'beam_size' twice"),
        ("beam_size=few", "--decode_hparams sets beam_size=few; expected int."),
        ("beam_size=0", "hparam 'beam_size' is 0; expected 1 to 256: answers kept"),
        ("temperature=-1", "hparam 'temperature' is -1.0; expected 0 or more"),
        ("temperature=1e-45", "temperature=1e-45; expected 0, or at least 0.001"),
        ("top_p=0,temperature=1", "hparam 'top_p' is 0.0; expected 1e-06 to 1"),
        ("beam_size=4,temperature=1", "Set beam_size=1 to draw, or temperature=0"),
        ("top_k=3", "top_k=3, top_p=1.0 with temperature=0; expected a temperature"),
        ("top_p=0.9", "Set temperature=1."),
        ("num_return=3", "Set beam_size=3, or temperature=1 to draw them."),
        ("max_length=5,min_length=5", "min_length=5 with max_length=5; expected a"),
        ("well_formed_trees=true,no_repeat_ngram=2", "Set both to 0."),
    ],
)
def test_mistakes_are_told(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        decode_settings(given)


@pytest.mark.parametrize("given", ["beam_sise=4", {"beam_sise": 4}])
def test_an_unknown_name_is_told_with_the_nearest(given):
    with pytest.raises(UnknownNameError, match="'beam_sise'; expected .*beam_size"):
        decode_settings(given)


def test_another_kind_is_refused():
    with pytest.raises(TypeError, match="came as int; expected text such as"):
        decode_settings(4)
    with pytest.raises(TypeError, match="hparam 'beam_size' came as 'a'"):
        decode_settings({"beam_size": "a"})


def test_drawn_answers_may_be_many():
    assert decode_settings("temperature=1,num_return=5").num_return == 5


def test_a_setting_given_as_a_keyword_is_told_where_it_belongs():
    refuse_keywords({}, "command", "prefix")
    message = (
        "The keyword beam_size=4 came; expected command, prefix. "
        "Pass decode_hparams='beam_size=4'."
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        refuse_keywords({"beam_size": 4}, "command", "prefix")


def test_an_unknown_keyword_gets_the_known_ones():
    message = r"expected command, prefix\. Nearest: prefix\."
    with pytest.raises(TypeError, match=message):
        refuse_keywords({"prefx": "a"}, "command", "prefix")
