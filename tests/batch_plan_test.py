"""Plans of batches: every example once, little padding, decided by seed and epoch."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from t2t_mm import batch_cuts, batch_plan
from t2t_mm.configuration import HParams
from t2t_mm.problem import Feature, Problem
from t2t_mm.records import LENGTHS

TEXT = Feature("text", vocabulary="bytes")
SOUND = Feature("audio", sample_rate=100)
PICTURE = Feature("image", height=3, width=5)
LABEL = Feature("class_label", vocabulary="c", labels=("a", "b"))


def problem_of(first, second):
    class Some(Problem):
        """Some problem."""

        inputs, targets = first, second

    return Some()


def index_of(*columns):
    lengths = np.stack(columns, axis=1)
    return np.concatenate([np.zeros((len(lengths), LENGTHS)), lengths], 1).astype(int)


def sentences(number=7919, seed=0, mean=2.3, spread=0.7):
    """Gives lengths as of sentences and their translations."""
    rng = np.random.default_rng(seed)
    inputs = np.clip(rng.lognormal(mean, spread, number), 1, 250).astype(int)
    targets = np.clip(inputs * rng.lognormal(0.1, 0.25, number), 1, 250).astype(int)
    return index_of(inputs, targets)


def plan_of(problem, index, hparams, key=(1, 0)):
    limits = batch_plan.batch_limits(problem, hparams)
    rows = batch_plan.kept_rows(index, limits)
    return batch_plan.training_plan(index, rows, limits, key)


def padding_of(index, plan):
    """Gives the padding of a plan by hand: (inputs, targets, together)."""
    real = padded = np.zeros(2)
    for rows in plan:
        lengths = index[rows, LENGTHS:]
        real = real + lengths.sum(0)
        padded = padded + len(rows) * lengths.max(0)
    return *(1 - real / padded), 1 - real.sum() / padded.sum()


def test_every_example_is_in_exactly_one_batch():
    index = sentences()
    plan = plan_of(problem_of(TEXT, TEXT), index, HParams())
    assert sorted(np.concatenate(plan)) == list(range(len(index)))


@pytest.mark.parametrize("batch_tokens", [257, 1024])
def test_less_than_fifteen_percent_of_a_batch_is_padding(batch_tokens):
    index = sentences()
    hparams = HParams(batch_tokens=batch_tokens)
    plan = plan_of(problem_of(TEXT, TEXT), index, hparams)
    assert max(padding_of(index, plan)) < 0.15


def test_no_text_batch_has_more_padded_tokens_than_allowed():
    index = sentences()
    plan = plan_of(problem_of(TEXT, TEXT), index, HParams(batch_tokens=509))
    for rows in plan:
        assert len(rows) * index[rows, LENGTHS:].max() <= 509
    sizes = [len(rows) * index[rows, LENGTHS:].max() for rows in plan]
    assert np.mean(sizes) > 0.85 * 509


def test_no_sound_batch_has_more_padded_seconds_than_allowed():
    samples = np.random.default_rng(0).integers(30, 800, 997)
    index = index_of(samples, np.ones_like(samples))
    plan = plan_of(problem_of(SOUND, TEXT), index, HParams(batch_seconds=30.0))
    assert max(len(rows) * index[rows, LENGTHS].max() for rows in plan) <= 3000
    assert max(padding_of(index, plan)) < 0.15


def test_a_picture_batch_has_the_examples_asked_for():
    lengths = np.ones(101, int)
    plan = plan_of(
        problem_of(PICTURE, LABEL),
        index_of(lengths, lengths),
        HParams(batch_examples=7),
    )
    assert sorted(map(len, plan)) == [3] + [7] * 14


def test_pictures_with_captions_of_like_length_come_together():
    words = np.random.default_rng(0).integers(2, 30, 2003)
    index = index_of(np.ones_like(words), words)
    plan = plan_of(problem_of(PICTURE, TEXT), index, HParams(batch_examples=7))
    assert max(padding_of(index, plan)) < 0.05


def test_a_single_example_above_the_budget_is_a_batch_of_its_own():
    plan = plan_of(
        problem_of(TEXT, TEXT),
        index_of([200, 3, 150], [2, 2, 2]),
        HParams(batch_tokens=101),
    )
    assert sorted(rows.tolist() for rows in plan) == [[0], [1], [2]]


def test_over_long_examples_are_left_out_of_training():
    index = index_of([3, 11, 10, 10], [10, 10, 11, 1])
    limits = batch_plan.batch_limits(problem_of(TEXT, TEXT), HParams(max_length=10))
    assert batch_plan.kept_rows(index, limits).tolist() == [0, 3]
    sounds = HParams(max_seconds=0.1, max_length=10)
    limits = batch_plan.batch_limits(problem_of(SOUND, TEXT), sounds)
    assert batch_plan.kept_rows(index, limits).tolist() == [0, 3]
    limits = batch_plan.batch_limits(problem_of(SOUND, LABEL), sounds)
    assert batch_plan.kept_rows(index, limits).tolist() == [0, 2, 3]


def lists(plan):
    return [rows.tolist() for rows in plan]


def test_a_plan_is_decided_by_its_key_alone():
    problem, index = problem_of(TEXT, TEXT), sentences()
    plan = plan_of(problem, index, HParams(), (1, 2))
    assert lists(plan) == lists(plan_of(problem, index, HParams(), (1, 2)))
    for key in ((1, 3), (2, 2)):
        assert lists(plan) != lists(plan_of(problem, index, HParams(), key))


def test_neighbours_in_a_batch_change_from_epoch_to_epoch():
    problem, index = problem_of(TEXT, TEXT), sentences()
    mates = []
    for epoch in (0, 1):
        plan = plan_of(problem, index, HParams(), (1, epoch))
        rows = next(rows for rows in plan if 1234 in rows)
        mates.append(set(rows.tolist()) - {1234})
    assert len(mates[0] & mates[1]) < 0.5 * len(mates[0])


def test_long_and_short_batches_alternate():
    plan = plan_of(problem_of(TEXT, TEXT), sentences(), HParams())
    sizes = np.array([len(rows) for rows in plan], float)
    assert abs(np.corrcoef(sizes[1:], sizes[:-1])[0, 1]) < 0.3


def test_evaluation_takes_the_first_examples_sorted_by_length():
    index = index_of([300, 2, 9, 2], [1, 1, 1, 1])
    limits = batch_plan.batch_limits(problem_of(TEXT, LABEL), HParams(batch_tokens=20))
    plan = batch_plan.evaluation_plan(index, limits, 3)
    assert lists(plan) == [[1, 2], [0]]
    everything = batch_plan.evaluation_plan(index, limits, None)
    assert lists(everything) == [[1, 3], [2], [0]]


def limits_of(hparams, first=TEXT, second=TEXT):
    return batch_plan.batch_limits(problem_of(first, second), hparams)


@pytest.mark.parametrize("batch_tokens", [257, 4096])
@pytest.mark.parametrize("turned", [False, True])
def test_the_orders_are_chosen_for_the_data(batch_tokens, turned):
    index = sentences(4001)
    if turned:
        index[:, LENGTHS:] = index[:, LENGTHS:][:, ::-1].copy()
    limits = limits_of(HParams(batch_tokens=batch_tokens))
    rows = np.arange(len(index))
    chosen = batch_plan.least_padding(index, rows, limits)
    assert chosen == batch_plan.least_padding(index, rows, limits)

    def share(order):
        # At once, without trials that save what the order wastes.
        lengths = index[:, LENGTHS:][order.sort(index[:, LENGTHS:].astype(float))]
        starts = batch_cuts.cut(lengths, limits, 0.5)
        return max(batch_cuts.padding_of(lengths, starts)[:2])

    others = [
        batch_plan.LengthOrder(ratio, leads)
        for ratio in (1.01, 1.1, 1.25, 1.4, 1.6, 4.0)
        for leads in (0, 1)
    ]
    shares = [share(order) for order in others]
    mine = [share(order) for group in chosen for order in group]
    assert np.mean(mine) < min(shares) + 0.03 < max(shares)


def test_no_order_is_needed_where_nothing_has_a_length():
    ones = np.ones(7, int)
    limits = limits_of(HParams(), PICTURE, LABEL)
    (group,) = batch_plan.least_padding(index_of(ones, ones), np.arange(7), limits)
    assert len(group) == 1


# Data whose padding a naive order, or cuts by filling batches, would not keep low.
HARD = {
    "few sentences": lambda: sentences(6553, 0, 1.7, 0.45),
    "unlike columns": lambda: index_of(
        *np.random.default_rng(1).integers(1, 60, (2, 6007))
    ),
    "skewed": lambda: index_of(
        *np.minimum(250, np.random.default_rng(2).zipf(1.6, (2, 9001)))
    ),
    "two kinds": lambda: index_of(*np.repeat([[3, 40], [200, 5]], 1009, axis=0).T),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("batch_tokens", [512, 4096])
def test_little_is_padding_in_every_epoch(name, batch_tokens):
    index = HARD[name]()
    for epoch in range(3):
        hparams = HParams(batch_tokens=batch_tokens)
        plan = plan_of(problem_of(TEXT, TEXT), index, hparams, (1, epoch))
        assert max(padding_of(index, plan)) < 0.15


def test_few_batches_have_little_padding():
    # Filled one after the other, the twenty of these would have 24 % in targets.
    index = sentences(9001, 3, 1.7, 0.45)
    plan = plan_of(problem_of(TEXT, TEXT), index, HParams(batch_tokens=4096))
    assert len(plan) < 30
    assert max(padding_of(index, plan)) < 0.15


def again(index, plans):
    """Gives the share of pairs of examples of a batch that share one again."""
    numbers = np.zeros((2, len(index)), int)
    for place, plan in enumerate(plans):
        for number, rows in enumerate(plan):
            numbers[place, rows] = number

    def pairs(values):
        _, counts = np.unique(values, return_counts=True)
        return float((counts * (counts - 1)).sum())

    both = numbers[0] * (numbers.max() + 1) + numbers[1]
    return pairs(both) / pairs(numbers[0])


def test_batches_vary_though_they_are_few():
    index = sentences(9001, 3, 1.7, 0.45)
    hparams = HParams(batch_tokens=4096)
    plans = [
        plan_of(problem_of(TEXT, TEXT), index, hparams, (1, epoch))
        for epoch in range(9)
    ]
    shares = [again(index, pair) for pair in itertools.pairwise(plans)]
    # With an order that is not drawn each time it is above 0.8.
    assert np.mean(shares) < 0.65


def test_no_window_is_a_small_rest():
    # One more than a window: two of half, not a whole one and one of a single batch.
    index = index_of(np.full(6401, 3), np.ones(6401, int))
    plan = plan_of(problem_of(TEXT, LABEL), index, HParams(batch_tokens=192))
    assert sorted(map(len, plan)) == [1] + [64] * 100


LENGTH = strategies.integers(1, 97)
PAIRS = strategies.lists(strategies.tuples(LENGTH, LENGTH), min_size=1, max_size=200)


@hypothesis.given(
    pairs=PAIRS,
    batch_tokens=strategies.integers(10, 997),
    seed=strategies.integers(0, 2**32),
    features=strategies.sampled_from([(TEXT, TEXT), (SOUND, TEXT), (PICTURE, TEXT)]),
)
def test_laws_of_plans(pairs, batch_tokens, seed, features):
    index = index_of(*np.array(pairs).T)
    hparams = HParams(
        batch_tokens=batch_tokens, batch_seconds=batch_tokens / 100, batch_examples=11
    )
    limits = limits_of(hparams, *features)
    rows = batch_plan.kept_rows(index, limits)
    plans = [
        batch_plan.training_plan(index, rows, limits, (seed, 0)),
        batch_plan.training_plan(
            index,
            rows,
            limits,
            (seed, 0),
            batch_plan.least_padding(index, rows, limits),
        ),
    ]
    assert lists(plans[0]) == lists(plans[1])
    plans += [batch_plan.evaluation_plan(index, limits, None)]
    for plan in plans:
        assert sorted(np.concatenate(plan)) == rows.tolist()
        for batch in plan:
            assert len(batch) in range(
                1, limits.size_for(index[batch, LENGTHS:].max(0)) + 1
            )
        assert batch_plan.epoch_padding(index, plan, limits) == pytest.approx(
            padding_of(index, plan)
        )


def test_the_padding_of_a_problem_is_that_of_its_epoch():
    problem, index, hparams = problem_of(TEXT, TEXT), sentences(), HParams()
    key = (3, 2, batch_plan.problem_key(problem))
    found = batch_plan.problem_padding(problem, index, hparams, seed=3, epoch=2)
    expected = padding_of(index, plan_of(problem, index, hparams, key))
    assert found == pytest.approx(expected)
    assert found.worst == max(found.inputs, found.targets)
