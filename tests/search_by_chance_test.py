"""Answers that are drawn."""

import numpy as np
import pytest

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.vocabulary import PAD_ID
from tests.search_test import INPUTS, SIZE, Table, found_by, penalty


def drawn(settings, table, length=1, **options):
    return found_by(table, settings, length, **options)["ids"]


def test_ids_are_drawn_as_often_as_they_are_likely():
    count = 256
    table = Table(9, count, spread=1.0)
    for temperature in (0.5, 1.0, 2.0):
        settings = DecodeHParams(temperature=temperature, num_return=count)
        ids = np.concatenate(
            [drawn(settings, table, row_numbers=[2 * k, 2 * k + 1]) for k in range(10)],
            1,
        )[:, :, 0]
        for row in range(INPUTS):
            p = np.exp(table.log_probabilities(row, ())[1:] / temperature)
            counts = np.bincount(ids[row], minlength=SIZE)
            assert counts[PAD_ID] == 0
            np.testing.assert_allclose(counts[1:] / 2560, p / p.sum(), atol=0.04)


@pytest.mark.parametrize("top_k", [1, 2])
def test_only_the_likeliest_k_are_drawn(top_k):
    table = Table(10, 64, spread=0.3)
    settings = DecodeHParams(temperature=1.0, top_k=top_k, num_return=64)
    ids = drawn(settings, table)[:, :, 0]
    for row in range(INPUTS):
        likely = 1 + np.argsort(-table.log_probabilities(row, ())[1:])[:top_k]
        assert set(ids[row]) == set(likely)


def test_only_the_likeliest_that_hold_top_p_are_drawn():
    table = Table(10, 64)
    table.table[:] = np.log([1e-9, 0.5, 0.3, 0.15, 0.05])
    for top_p, expected in [(0.4, {1}), (0.6, {1, 2}), (0.9, {1, 2, 3})]:
        settings = DecodeHParams(temperature=1.0, top_p=top_p, num_return=64)
        assert set(drawn(settings, table)[0, :, 0]) == expected


def test_a_seed_draws_the_same_again_and_another_one_does_not():
    table = Table(11, 7, spread=0.2)
    first, again, other = (
        drawn(DecodeHParams(temperature=1.0, num_return=7, random_seed=seed), table, 4)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_is_drawn_for_a_row_depends_on_its_number_not_on_the_batch():
    settings = DecodeHParams(temperature=1.0, num_return=3)
    pair = Table(12, 3, spread=0.2)
    both = drawn(settings, pair, 4, row_numbers=[5, 9])
    alone = Table(12, 3, spread=0.2, inputs=1)
    alone.table = pair.table[1:]
    np.testing.assert_array_equal(drawn(settings, alone, 4, row_numbers=[9]), both[1:])
    assert (drawn(settings, alone, 4, row_numbers=[5]) != both[1:]).any()


def test_drawn_answers_come_the_likeliest_first_with_their_scores():
    settings = DecodeHParams(temperature=1.0, num_return=5, alpha=1.0)
    table = Table(13, 5, spread=0.5)
    found = found_by(table, settings, 4)
    assert (np.diff(found["penalized"]) <= 0).all()
    for row in range(INPUTS):
        for place in range(5):
            ids = found["ids"][row, place]
            ids = tuple(ids[ids != PAD_ID])
            score = sum(
                table.log_probabilities(row, ids[:i])[chosen]
                for i, chosen in enumerate(ids)
            )
            np.testing.assert_allclose(found["scores"][row, place], score, rtol=1e-4)
            np.testing.assert_allclose(
                found["penalized"][row, place], score / penalty(len(ids), 1), rtol=1e-4
            )
