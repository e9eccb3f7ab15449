import pytest

from t2t_mm.problems.spoken_text import in_spoken_words, number_in_words


def test_numbers_are_read_as_people_do():
    assert number_in_words(0) == "zero"
    assert number_in_words(19) == "nineteen"
    assert number_in_words(90) == "ninety"
    assert number_in_words(999) == "nine hundred ninety nine"


def test_a_number_out_of_range_is_refused():
    with pytest.raises(ValueError, match="number is 1000; 0 to 999"):
        number_in_words(1000)


def test_signs_brackets_and_digits_become_words_or_nothing():
    assert in_spoken_words("[a tone]") == ""
    assert in_spoken_words("Press # or * (twice)") == "press pound or star"
    assert in_spoken_words("Zoë’s mail: 28 & 8500") == (
        "zoë's mail twenty eight and eight five zero zero"
    )
