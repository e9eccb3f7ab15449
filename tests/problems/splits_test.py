import collections

from t2t_mm.problems import splits


def test_shares_are_as_stated():
    counts = collections.Counter(splits.split_of_key(f"key {i}") for i in range(20_000))
    assert abs(counts["test"] / 20_000 - splits.TEST_SHARE) < 0.01
    assert abs(counts["dev"] / 20_000 - splits.DEV_SHARE) < 0.01


def test_the_rule_never_changes():
    # Another rule would mix test into training for everybody who has data.
    assert splits.fraction_of("banana") == 0.37663836583036636
    assert splits.split_of_text("Press 5 now!") == splits.split_of_text("press 77 now")


def test_larger_shares_hold_out_what_smaller_ones_did():
    for i in range(2000):
        text = f"sentence {chr(97 + i % 26)} {chr(97 + i // 26 % 26)} {i // 676 * 'x'}"
        small = splits.split_of_text(text)
        if small != "train":
            assert splits.split_of_text(text, dev=0.08, test=0.18) == small


def test_near_duplicates_are_equal_when_normalised():
    assert splits.normalised(" ÉTÉ, 5 h_à!") == splits.normalised("été 17 h_à")
    assert splits.normalised("on") != splits.normalised("off")
