"""How good decoded answers are: one registered function per metric.

A metric takes all references and all predictions of a split, so that averages are
those of the field (BLEU, WER and brackets count over the corpus, F1 and ROUGE per
example). `evaluation` calls them by the names in `Problem.metric_names`. Imports
neither TensorFlow nor the scoring packages before one is used.

Two scales: points from 0 to 100 for BLEU and chrF, as everybody quotes them; for all
others a share of 1, printed as percent. No examples give nan: there is no score then.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from t2t_mm import registry, trees
from t2t_mm.registry import register_metric

POINTS, SHARE = "points", "share"


def described(
    title: str,
    *,
    unit: str = SHARE,
    higher_is_better: bool = True,
    signature: Callable[[], str] | None = None,
) -> Callable[[Callable], Callable]:
    """Makes the decorator that says how a metric is read, and that checks its input.

    Args:
      title: how tables call it, "BLEU".
      unit: SHARE (0 to 1, printed as percent) or POINTS (0 to 100).
      higher_is_better: false for error rates.
      signature: gives what someone else must know to compute the same.

    Example:
      >>> @described("Longest", unit=POINTS)
      ... def longest(references, predictions):
      ...     return float(max(map(len, predictions)))
      >>> longest(["a"], ["abc"]), longest.title, math.isnan(longest([], []))
      (3.0, 'Longest', True)
    """

    def decorate(function: Callable) -> Callable:
        def metric(references: Sequence[str], predictions: Sequence[Any]) -> float:
            if len(references) != len(predictions):
                raise ValueError(
                    f"Metric '{function.__name__}' got {len(references)} references "
                    f"and {len(predictions)} predictions; expected as many of both. "
                    "Pass one prediction for each reference."
                )
            if not references:
                return math.nan
            return float(function(list(references), list(predictions)))

        metric.__name__ = function.__name__
        metric.__qualname__ = function.__qualname__
        metric.__module__ = function.__module__
        metric.__doc__ = function.__doc__
        metric.__wrapped__ = function  # type: ignore[attr-defined]
        metric.title = title  # type: ignore[attr-defined]
        metric.unit = unit  # type: ignore[attr-defined]
        metric.higher_is_better = higher_is_better  # type: ignore[attr-defined]
        metric.signature = signature  # type: ignore[attr-defined]
        return metric

    return decorate


def score(
    names: Sequence[str], references: Sequence[str], predictions: Sequence[Any]
) -> dict[str, float]:
    """Gives the value of each named metric.

    Raises:
      UnknownNameError: if there is no metric of a name.
    """
    return {name: registry.metrics.get(name)(references, predictions) for name in names}


def title_of(name: str) -> str:
    """Gives how tables call a metric; a user's metric may go by its name."""
    return getattr(registry.metrics.get(name), "title", name)


def is_higher_better(name: str) -> bool:
    """Tells whether more is better; a metric that does not say is taken so."""
    return getattr(registry.metrics.get(name), "higher_is_better", True)


def unit_of(name: str) -> str:
    """Gives SHARE or POINTS; a metric that does not say is a share."""
    return getattr(registry.metrics.get(name), "unit", SHARE)


def format_score(name: str, value: float | None) -> str:
    """Gives a value as people read it.

    Example:
      >>> format_score("bleu", 14.62), format_score("wer", 0.2513)
      ('14.6', '25.1 %')
    """
    if value is None or math.isnan(value):
        return "n/a"
    if unit_of(name) == POINTS:
        return f"{value:.1f}"
    return f"{100 * value:.1f} %"


def signatures(names: Sequence[str]) -> dict[str, str]:
    """Gives the signatures of those metrics that have one."""
    found = {
        name: getattr(registry.metrics.get(name), "signature", None) for name in names
    }
    return {name: signature() for name, signature in found.items() if signature}


# Translation


def _bleu_signature() -> str:
    import sacrebleu

    bleu = sacrebleu.BLEU()
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())


def _chrf_signature() -> str:
    import sacrebleu

    chrf = sacrebleu.CHRF()
    chrf.corpus_score(["a"], [["a"]])
    return str(chrf.get_signature())


@register_metric
@described("BLEU", unit=POINTS, signature=_bleu_signature)
def bleu(references: list[str], predictions: list[str]) -> float:
    """Shared word n-grams of a corpus, 0 to 100: sacreBLEU with its defaults.

    Source: Papineni et al. 2002; Post 2018, arxiv.org/abs/1804.08771.
    """
    import sacrebleu

    return sacrebleu.BLEU(force=True).corpus_score(predictions, [references]).score


@register_metric
@described("chrF", unit=POINTS, signature=_chrf_signature)
def chrf(references: list[str], predictions: list[str]) -> float:
    """Shared character n-grams of a corpus, 0 to 100: sacreBLEU's chrF2.

    Source: Popovic 2015, aclanthology.org/W15-3049.
    """
    import sacrebleu

    return sacrebleu.CHRF().corpus_score(predictions, [references]).score


# Text against text


def words_of(text: str) -> list[str]:
    """Gives the words of a text in any script, in small letters, without punctuation.

    Example:
      >>> words_of("Flagge: Österreich, groß")
      ['flagge', 'österreich', 'groß']
    """
    return re.findall(r"\w+", text.lower())


@register_metric
@described("Exact match")
def exact_match(references: list[str], predictions: list[str]) -> float:
    """Share of answers that are the reference, blanks at the ends aside."""
    pairs = zip(references, predictions, strict=True)
    return _mean([r.strip() == p.strip() for r, p in pairs])


@register_metric
@described("Word F1")
def word_f1(references: list[str], predictions: list[str]) -> float:
    """Overlap of the words of answer and reference in any order, averaged.

    F1 = 2 * shared / (words of the answer + words of the reference), where a word
    that is said twice is shared twice at most. Where neither has a word (as for "!"),
    1 if the texts are equal and 0 if not.
    """
    return _mean([_word_f1(r, p) for r, p in zip(references, predictions, strict=True)])


def _word_f1(reference: str, prediction: str) -> float:
    expected, predicted = Counter(words_of(reference)), Counter(words_of(prediction))
    total = expected.total() + predicted.total()
    if not total:
        return float(reference.strip() == prediction.strip())
    return 2 * (expected & predicted).total() / total


@register_metric
@described("ROUGE-L")
def rouge_l(references: list[str], predictions: list[str]) -> float:
    """F1 of the longest common subsequence of words, averaged over examples.

    Source: Lin 2004, aclanthology.org/W04-1013, by the package rouge-score. We differ
    from its default: words may have letters beyond a to z.
    """
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
    return _mean(
        [
            scorer.score(r, p)["rougeL"].fmeasure
            for r, p in zip(references, predictions, strict=True)
        ]
    )


class _Words:
    """What rouge-score asks for its words."""

    def tokenize(self, text: str) -> list[str]:
        return words_of(text)


# Speech


@register_metric
@described("WER", higher_is_better=False)
def wer(references: list[str], predictions: list[str]) -> float:
    """Word errors: changed, left out and added, per word of the references.

    Over the corpus, by jiwer; can be above 1. References without any word give 0 if
    the answers have none either, and 1 if they have.
    """
    import jiwer

    if not any(reference.split() for reference in references):
        return float(any(prediction.split() for prediction in predictions))
    return jiwer.wer(references, predictions)


@register_metric
@described("CER", higher_is_better=False)
def cer(references: list[str], predictions: list[str]) -> float:
    """Character errors: changed, left out and added, per character of the references.

    Otherwise as `wer`.
    """
    import jiwer

    if not any(reference.strip() for reference in references):
        return float(any(prediction.strip() for prediction in predictions))
    return jiwer.cer(references, predictions)


# Trees


@register_metric
@described("Bracket F1")
def bracket_f1(references: list[str], predictions: list[str]) -> float:
    """Labelled brackets found, over the corpus as evalb counts; see `trees.spans`."""
    return trees.bracket_score(references, predictions).f1


@register_metric
@described("Exact tree")
def exact_tree(references: list[str], predictions: list[str]) -> float:
    """Share of trees with every bracket and every leaf right."""
    pairs = zip(references, predictions, strict=True)
    return _mean([r.split() == p.split() for r, p in pairs])


@register_metric
@described("Well-formed")
def well_formed(references: list[str], predictions: list[str]) -> float:
    """Share of answers that are one whole tree, right or wrong."""
    return _mean([trees.is_well_formed(prediction) for prediction in predictions])


# Classes


@register_metric
@described("Top-1")
def top1(references: list[str], predictions: list[Sequence[str]]) -> float:
    """Share of examples whose likeliest label is right."""
    return _in_first(1, references, predictions)


@register_metric
@described("Top-5")
def top5(references: list[str], predictions: list[Sequence[str]]) -> float:
    """Share of examples with the right label among the five likeliest."""
    return _in_first(5, references, predictions)


def _in_first(
    count: int, references: list[str], predictions: list[Sequence[str]]
) -> float:
    if any(isinstance(prediction, str) for prediction in predictions):
        raise TypeError(
            f"top{count} got a str as a prediction; expected a list of labels, the "
            "likeliest first. Use exact_match for plain text."
        )
    pairs = zip(references, predictions, strict=True)
    return _mean([r in p[:count] for r, p in pairs])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
