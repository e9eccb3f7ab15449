"""What of an answer is marked as wrong."""

from t2t_mm import registry, sample_display
from t2t_mm.problem import Feature, Problem


def test_words_of_an_answer_are_compared_in_order():
    assert sample_display.marked_words("a b c", "a c b") == [
        ("a", True),
        ("c", False),
        ("b", True),
    ]
    assert sample_display.marked_words("a", "") == []


def test_a_label_is_right_or_wrong_as_a_whole(own_registries):
    @registry.register_problem
    class Groups(Problem):
        """Sorts."""

        inputs = Feature("image", height=3, width=5)
        targets = Feature("class_label", vocabulary="g", labels=("a & b", "c & b"))
        command = "To-Group"

    marked = sample_display.marked_answer("groups", "a & b", "c & b")
    assert marked == [("c & b", False)]
    assert sample_display.marked_answer("unknown", "a b", "c b") == [
        ("c", False),
        ("b", True),
    ]
