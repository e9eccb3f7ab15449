"""Dependency parse -> bracketed tree: every head projects its phrase.

Works on plain rows (head, relation, tag), so that it needs no parser to be tested.
The tree has no words, only tags, as in Vinyals et al. 2015 (arxiv.org/abs/1412.7449):

    The dog barked .   ->   (S (NP DT NN )NP (VP VBD )VP . )S

Tokens are joined by one blank: "(NP" opens, ")NP" closes, all else is a leaf.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

_SUBJECTS = {"nsubj", "nsubjpass", "csubj", "csubjpass", "expl"}
# Relations whose verb makes a sentence (S) even where it has no subject.
_SENTENCES = {"ROOT", "ccomp", "parataxis"}
# Words that stay bare in a verb phrase or before a clause, with no phrase of their own.
_BARE_IN_CLAUSE = {"aux", "auxpass", "neg", "mark", "cc", "prt", "punct"}
_BARE_IN_NOUN_PHRASE = {"amod", "compound", "nummod", "det", "predet", "poss", "case"}


@dataclass(frozen=True)
class Token:
    """A word's place in a dependency parse.

    Args:
      head: index of the word it hangs on; its own index for the root.
      relation: name of that arc, as in spaCy's English models: "nsubj".
      tag: Penn Treebank part of speech: "NN".
    """

    head: int
    relation: str
    tag: str


def linearised_tree(tokens: Sequence[Token]) -> str | None:
    """Gives the bracketed tree of a sentence.

    Args:
      tokens: the sentence's words in order.

    Returns:
      The tree as text, or None where the parse has not exactly one root or a phrase
      of it is not contiguous.
    """
    roots = [i for i, token in enumerate(tokens) if token.head == i]
    if len(roots) != 1:
        return None
    tree = _Projection(tokens).phrase(roots[0])
    if isinstance(tree, int) or tree[0] not in ("S", "SBAR"):
        tree = _sentence(tree, tokens)
    if list(_leaves(tree)) != list(range(len(tokens))):
        return None
    return " ".join(_written(tree, tokens))


class _Projection:
    """Builds trees; a tree is the index of a word or a pair (label, parts)."""

    def __init__(self, tokens: Sequence[Token]):
        self.tokens = tokens
        self.dependents: list[list[int]] = [[] for _ in tokens]
        for i, token in enumerate(tokens):
            if token.head != i:
                self.dependents[token.head].append(i)

    def phrase(self, head: int):
        """Gives the tree of a word and of all that hangs on it."""
        token = self.tokens[head]
        left = [i for i in self.dependents[head] if i < head]
        right = [i for i in self.dependents[head] if i > head]
        if token.relation == "prep":
            return ("PP", [*self._all(left), head, *self._all(right)])
        if token.tag.startswith(("VB", "MD")) or self._subjects(left):
            return self._clause(head, left, right)
        label = _label(token.tag)
        if label == "NP":
            return self._noun_phrase(head, left, right)
        if label is None and not self.dependents[head]:
            return head
        return (label or "X", [*self._all(left), head, *self._all(right)])

    def _noun_phrase(self, head: int, left: list[int], right: list[int]):
        case = [i for i in right if self.tokens[i].relation == "case"]
        core = ("NP", [*self._all(left, _BARE_IN_NOUN_PHRASE), head, *case])
        rest = [i for i in right if i not in case]
        return ("NP", [core, *self._all(rest)]) if rest else core

    def _clause(self, head: int, left: list[int], right: list[int]):
        """Gives (SBAR opening (S before (VP inside head right )VP end )S )SBAR."""
        relation = self.tokens[head].relation
        subjects = self._subjects(left)
        openers = [i for i in left if self.tokens[i].relation == "mark"]
        border = max(subjects + openers, default=-1)
        opening = [i for i in left if openers and i <= openers[-1]]
        before = [i for i in left if i <= border and i not in opening]
        inside = [i for i in left if i > border]
        if not subjects and relation not in _SENTENCES:
            verb = ("VP", [*self._bare(inside), head, *self._bare(right)])
            return ("SBAR", [*self._bare(opening), verb]) if opening else verb
        end: list[int] = []
        while right and self.tokens[right[-1]].relation == "punct":
            end.insert(0, right[-1])
            right = right[:-1]
        verb = ("VP", [*self._bare(inside), head, *self._bare(right)])
        sentence = ("S", [*self._bare(before), verb, *end])
        if opening or relation == "relcl":
            return ("SBAR", [*self._bare(opening), sentence])
        return sentence

    def _subjects(self, left: list[int]) -> list[int]:
        return [i for i in left if self.tokens[i].relation in _SUBJECTS]

    def _bare(self, indices: list[int]) -> list:
        return self._all(indices, _BARE_IN_CLAUSE)

    def _all(self, indices: list[int], bare: Set[str] = _BARE_IN_CLAUSE) -> list:
        """Gives the trees of words; a lone word of a relation in `bare` has none."""
        return [
            i
            if self.tokens[i].relation in bare and not self.dependents[i]
            else self.phrase(i)
            for i in indices
        ]


def _label(tag: str) -> str | None:
    if tag.startswith(("NN", "PRP", "WP")) or tag in ("EX", "CD", "DT", "PDT", "WDT"):
        return "NP"
    if tag.startswith("JJ"):
        return "ADJP"
    if tag.startswith(("RB", "WRB")):
        return "ADVP"
    return "PP" if tag in ("IN", "TO", "RP") else None


def _sentence(tree, tokens: Sequence[Token]):
    """Wraps a phrase in S, the marks at its end beside it instead of inside."""
    if isinstance(tree, int):
        return ("S", [tree])
    label, parts = tree
    end: list[int] = []
    while len(parts) > 1 and isinstance(parts[-1], int):
        if tokens[parts[-1]].relation != "punct":
            break
        end.insert(0, parts[-1])
        parts = parts[:-1]
    # With its marks gone, a phrase may hold nothing but the phrase around its head.
    inner = parts[0] if end and len(parts) == 1 else None
    return ("S", [inner if isinstance(inner, tuple) else (label, parts), *end])


def _leaves(tree) -> Iterator[int]:
    if isinstance(tree, int):
        yield tree
        return
    for part in tree[1]:
        yield from _leaves(part)


def _written(tree, tokens: Sequence[Token]) -> Iterator[str]:
    if isinstance(tree, int):
        yield tokens[tree].tag
        return
    yield "(" + tree[0]
    for part in tree[1]:
        yield from _written(part, tokens)
    yield ")" + tree[0]
