"""Learns sub-word vocabularies from training text, the same bytes each time.

Called by datagen. Beside each `<name>.subwords.model` stands a JSON file that says what
it was learned from, so that a change of that is noticed. Imports no TensorFlow.
"""

import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from t2t_mm import registry
from t2t_mm.files import sha256_of, write_atomically
from t2t_mm.manifests import GENERATOR_VERSION, seeded_generator
from t2t_mm.problem import TEXT, Problem, get_problem
from t2t_mm.raw_splits import RawReader, RawSplit
from t2t_mm.record_bytes import RawFormat
from t2t_mm.vocabulary import (
    EOS_ID,
    PAD_ID,
    UNKNOWN_ID,
    SubwordVocabulary,
    VocabularySpec,
    escape,
    text_vocabulary_names,
    vocabulary_path,
    vocabulary_spec,
)

# Examples whose text a vocabulary is learned from; more changes it little.
MAX_EXAMPLES = 400_000
_CHUNK = 512
# The longest text that sentencepiece learns from; far above a long paragraph.
_MAX_SENTENCE_BYTES = 1 << 16
# Sub-words do not cross these places: after a word, before punctuation, and after one
# mark that follows a word. So "Lord," is a word and a comma, while "(NP" between
# blanks may become one sub-word, which nearly halves the length of a bracketed tree.
# A control character stands for the place while sentencepiece learns.
_CUT = "\x1f"
_CUTS = re.compile(r"[^\w\s](?<=\w[^\w\s])(\b)?")


def vocabulary_sources(name: str, spec: VocabularySpec) -> list[Problem]:
    """Gives the problems whose training text a vocabulary is learned from."""
    names = sorted(spec.problems) or registry.problems.names()
    problems = [get_problem(one) for one in names]
    return [one for one in problems if name in text_vocabulary_names([one])]


def stale_vocabularies(
    problems: Sequence[Problem], data_dir: str, seed: int
) -> dict[str, VocabularySpec]:
    """Gives the vocabularies of problems that must be learned, with their specs.

    Those that are not there or damaged, and those learned from something else: another
    spec, seed or version of a source. A source registered since does not count.
    """
    stale = {}
    for name in text_vocabulary_names(problems):
        spec = vocabulary_spec(name)
        if spec.kind == "byte":
            continue
        now = _origin(name, spec, seed)
        stored = _read_origin(name, data_dir)
        if stored is not None:
            versions = stored.pop("versions")
            sources = now.pop("versions")
            changed = any(
                sources.get(one, version) != version
                for one, version in versions.items()
            )
            if stored == now and not changed:
                continue
        stale[name] = spec
    return stale


def learn_vocabulary(
    name: str,
    spec: VocabularySpec,
    texts: Iterable[str],
    data_dir: str,
    *,
    seed: int,
) -> SubwordVocabulary:
    """Learns a subword vocabulary and writes its files; equal text, equal bytes.

    Args:
      name: the vocabulary's name.
      spec: how to make it.
      texts: training text, any number of strings; equal ones count once.
      data_dir: where the files go.
      seed: that the texts were chosen with.

    Raises:
      ValueError: if there is no text.
    """
    unique = dict.fromkeys(escape(text) for text in texts)
    # Blanks and tabs end a word; sentencepiece would count the same words, slower.
    words = Counter(
        itertools.chain.from_iterable(
            text.replace("\t", " ").split(" ") for text in unique
        )
    )
    words.pop("", None)
    if not words:
        raise ValueError(
            f"Vocabulary '{name}' came without training text; expected text features "
            f"of {', '.join(spec.problems) or 'its problems'}. Check their `generate`."
        )
    model = _train_subwords(words, spec.size)
    path = vocabulary_path(data_dir, name)
    write_atomically(path, model)
    description = {
        "sha256": hashlib.sha256(model).hexdigest(),
        "origin": _origin(name, spec, seed),
    }
    write_atomically(path + ".json", json.dumps(description, indent=1).encode())
    return SubwordVocabulary(name, model)


def _train_subwords(words: Mapping[str, int], size: int) -> bytes:
    """Runs sentencepiece on words and how often each comes.

    Byte-pair encoding learns 10 times faster than unigram.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(
            f"{_with_cuts(word)}\t{number}" for word, number in words.items()
        ),
        input_format="tsv",
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,
        pad_id=PAD_ID,
        eos_id=EOS_ID,
        unk_id=UNKNOWN_ID,
        bos_id=-1,
        byte_fallback=True,
        character_coverage=0.9999,
        normalization_rule_name="identity",
        # The first word of a text has the ids that it has elsewhere.
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        split_by_unicode_script=False,
        pretokenization_delimiter=_CUT,
        max_sentence_length=_MAX_SENTENCE_BYTES,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _with_cuts(text: str) -> str:
    """Marks where sub-words may not go on.

    Example:
      >>> _with_cuts("Lord, don't (NP").replace(_CUT, "|")
      "Lord|, don|'|t (NP"
    """
    return _CUTS.sub(_cut, text)


def _cut(mark: re.Match) -> str:
    """Cuts before a mark that follows a word, and after it if a word goes on."""
    return _CUT + mark[0] + (_CUT if mark[1] is not None else "")


def training_texts(
    name: str, sources: Mapping[str, RawSplit], seed: int
) -> Iterator[str]:
    """Yields the text of a bounded, seeded choice of raw training examples.

    Args:
      name: of the vocabulary; only features that use it count.
      sources: by problem's name, its raw training examples.
      seed: of the choice.
    """
    for problem_name, split in sources.items():
        with RawReader(split.paths) as raw:
            chosen = chosen_numbers(
                name, problem_name, split.examples, len(sources), seed
            )
            problem = get_problem(problem_name)
            for begin in range(0, len(chosen), _CHUNK):
                part = raw.read(chosen[begin : begin + _CHUNK])
                yield from texts_of(name, problem, part)


def chosen_numbers(
    name: str, problem_name: str, num_examples: int, num_sources: int, seed: int
) -> np.ndarray:
    """Gives which of a problem's examples a vocabulary is learned from, in order."""
    most = MAX_EXAMPLES // num_sources
    if num_examples <= most:
        return np.arange(num_examples)
    generator = seeded_generator(seed, name, problem_name)
    return np.sort(generator.choice(num_examples, most, replace=False))


def texts_of(name: str, problem: Problem, part: Iterable[bytes]) -> Iterator[str]:
    """Yields the text in raw examples that uses a vocabulary."""
    form = RawFormat(problem)
    columns = [
        column
        for column, feature in problem.features.items()
        if feature.modality == TEXT and feature.vocabulary == name
    ]
    for record in part:
        values = form.unpack(record)
        for column in columns:
            yield values[column].decode("utf-8")


def _origin(name: str, spec: VocabularySpec, seed: int) -> dict:
    sources = vocabulary_sources(name, spec)
    origin = {
        "generator_version": GENERATOR_VERSION,
        "spec": asdict(spec),
        "seed": seed,
        "versions": {one.name: one.version for one in sources},
    }
    return json.loads(json.dumps(origin))


def _read_origin(name: str, data_dir: str) -> dict | None:
    """Gives what a stored vocabulary was learned from, or None if it is not whole."""
    path = vocabulary_path(data_dir, name)
    try:
        with open(path + ".json", encoding="utf-8") as file:
            description = json.load(file)
        if sha256_of(path) != description["sha256"]:
            return None
        return {"versions": {}, **description["origin"]}
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None
