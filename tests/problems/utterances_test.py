import numpy as np
import pytest

from t2t_mm.problems.utterances import Planner

NAMES = (
    [f"digits/{n}" for n in range(20)]
    + [f"digits/{n}0" for n in range(2, 10)]
    + [f"digits/mon-{n}" for n in range(12)]
    + [f"digits/h-{n}" for n in range(1, 20)]
    + ["letters/a", "phonetic/a_p", "vm-sorry", "vm-goodbye"]
)


def test_every_draw_names_recordings_at_hand_and_at_least_two():
    planner, rng = Planner(NAMES), np.random.default_rng(1)
    drawn = [planner.draw(rng, with_sentences=True) for _ in range(300)]
    assert all(len(names) >= 2 and set(names) <= set(NAMES) for names in drawn)
    assert any("vm-sorry" in names for names in drawn)


def test_sentences_stay_away_if_they_shall():
    planner, rng = Planner(NAMES), np.random.default_rng(1)
    for _ in range(300):
        assert not {"vm-sorry", "vm-goodbye"} & set(
            planner.draw(rng, with_sentences=False)
        )


def test_a_thin_collection_is_enough():
    planner, rng = Planner(["digits/1", "digits/2"]), np.random.default_rng(1)
    assert set(planner.draw(rng, with_sentences=False)) <= {"digits/1", "digits/2"}


@pytest.mark.parametrize(
    ("names", "with_sentences"), [([], True), (["vm-sorry"], False)]
)
def test_a_collection_without_units_is_refused(names, with_sentences):
    with pytest.raises(ValueError, match="Check the downloads"):
        Planner(names).draw(np.random.default_rng(1), with_sentences=with_sentences)
