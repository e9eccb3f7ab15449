"""Text <-> ids: learned sub-words or plain bytes, every string round-trips exactly.

A text feature names its vocabulary; equal names share ids and weights. mm-datagen
learns each once (`vocabulary_learning`) and stores it beside the shards as
`<name>.subwords.model`, a sentencepiece file that tensorflow-text can run too.
Imports no TensorFlow.
"""

import functools
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2t_mm import registry
from t2t_mm.problem import CLASS_LABEL, TEXT, Problem
from t2t_mm.record_bytes import packed_ids, varint

PAD_ID, EOS_ID, UNKNOWN_ID = 0, 1, 2
NUM_SPECIAL = 3
_NUM_BYTES = 256
# sentencepiece writes a blank as BLOCK and so cannot tell the two apart. We rewrite
# BLOCK before it sees the text: ESCAPE is always followed by a digit, which makes
# the way back unambiguous.
BLOCK, ESCAPE = "\u2581", "\u241b"
# Letters of the words that a vocabulary remembers; they take some tens of megabytes.
_MAX_REMEMBERED = 1 << 20


@dataclass(frozen=True)
class VocabularySpec:
    """How a vocabulary is made.

    Args:
      kind: "subword" is learned from text; "byte" is one id per byte of UTF-8.
      size: most ids that a subword vocabulary may have; little text gives fewer.
      problems: whose training text it is learned from; empty means every registered
        problem with a text feature of this vocabulary.

    Raises:
      ValueError: if the kind is another, or the size leaves no room for words.
    """

    kind: str = "subword"
    size: int = 8192
    problems: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in ("subword", "byte"):
            raise ValueError(
                f"VocabularySpec came with kind={self.kind!r}; expected 'subword' or "
                "'byte'. Choose one of them."
            )
        if self.kind == "subword" and self.size < NUM_SPECIAL + _NUM_BYTES + 1:
            raise ValueError(
                f"VocabularySpec came with size={self.size}; expected at least "
                f"{NUM_SPECIAL + _NUM_BYTES + 1}, which holds 3 special ids and the "
                "256 bytes. Choose a larger size, or kind='byte'."
            )


@registry.register_vocabulary(name="bytes")
def byte_vocabulary() -> VocabularySpec:
    """One id per byte of UTF-8: learns nothing, has no unknown word."""
    return VocabularySpec(kind="byte")


def vocabulary_spec(name: str) -> VocabularySpec:
    """Gives how the vocabulary of a name is made: as registered, or the defaults."""
    if name in registry.vocabularies:
        return registry.vocabularies.get(name)()
    return VocabularySpec()


class Vocabulary(ABC):
    """Maps text to ids and back; id 0 is padding, 1 ends a text, 2 is unknown.

    Attributes:
      name: the vocabulary's name.
      size: number of ids (V).
      fingerprint: hex sha256 of all that decides the ids.
    """

    name: str
    size: int
    fingerprint: str

    def encode(self, text: str) -> list[int]:
        """Gives the ids of a text, without the final EOS.

        Raises:
          ValueError: if the text is not Unicode (holds half a surrogate pair).
        """
        return self.encode_batch([text])[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Gives the ids of each text; much faster than one by one."""

    def packed_batch(self, texts: Sequence[str]) -> list[bytes]:
        """Gives the ids of each text as records hold them, with the final EOS."""
        return packed_ids([[*row, EOS_ID] for row in self.encode_batch(texts)])

    def spell_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Gives the ids of each text's bytes, for features that are `spelled`.

        Every id is below `NUM_SPELLED`; `decode` gives the text again.
        """
        self._check_unicode(texts)
        return [[byte + NUM_SPECIAL for byte in text.encode()] for text in texts]

    @abstractmethod
    def pieces(self, text: str) -> list[str]:
        """Gives the parts that a text is cut into, for people to look at."""

    @abstractmethod
    def token(self, one: int) -> str:
        """Gives the part of a text that an id stands for, for people to look at."""

    def decode(self, ids: Iterable[int]) -> str:
        """Gives the text of ids: stops at the first EOS, skips padding.

        `decode(encode(text)) == text` for every text. Bytes that are no UTF-8, which
        an untrained network writes, become U+FFFD.

        Raises:
          ValueError: if an id is not below `size`.
        """
        kept = []
        for one in ids:
            if one == EOS_ID:
                break
            if not 0 <= one < self.size:
                raise ValueError(
                    f"Id {one} came to vocabulary '{self.name}'; expected 0 to "
                    f"{self.size - 1}. Was the model trained with another vocabulary?"
                )
            if one != PAD_ID:
                kept.append(int(one))
        return self._decode(kept)

    @abstractmethod
    def _decode(self, ids: list[int]) -> str:
        """Gives the text of ids that hold neither padding nor EOS."""

    def _check_unicode(self, texts: Sequence[str]) -> None:
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"Text {text!r} has at position {error.start} half of a surrogate "
                    "pair, which no UTF-8 can hold; Unicode text was expected. Decode "
                    "its source as UTF-8."
                ) from error


class ByteVocabulary(Vocabulary):
    """One id per byte of UTF-8: id = byte + 3.

    Args:
      name: the vocabulary's name.

    Example:
      >>> words = ByteVocabulary("bytes")
      >>> words.encode("Hi"), words.decode([75, 108, 1, 0, 0])
      ([75, 108], 'Hi')
    """

    def __init__(self, name: str):
        self.name = name
        self.size = NUM_SPECIAL + _NUM_BYTES
        self.fingerprint = hashlib.sha256(b"byte + 3").hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Gives the ids of each text."""
        return self.spell_batch(texts)

    def pieces(self, text: str) -> list[str]:
        """Gives the characters."""
        return list(text)

    def token(self, one: int) -> str:
        """Gives the character, or the byte as <0xC3> where it is none by itself."""
        byte = one - NUM_SPECIAL
        return chr(byte) if 32 <= byte < 127 else f"<0x{byte:02X}>"

    def _decode(self, ids: list[int]) -> str:
        content = bytes(one - NUM_SPECIAL for one in ids if one != UNKNOWN_ID)
        return content.decode("utf-8", errors="replace")


class SubwordVocabulary(Vocabulary):
    """Learned sub-words (byte-pair encoding), with bytes for what was never seen.

    Args:
      name: the vocabulary's name.
      model: content of a sentencepiece model file, as `learn_vocabulary` writes; an
        attribute, too.

    Source: Sennrich et al. 2016, arxiv.org/abs/1508.07909; Kudo and Richardson 2018,
    arxiv.org/abs/1808.06226.
    """

    def __init__(self, name: str, model: bytes):
        import sentencepiece

        self.name = name
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._processor.vocab_size()
        self.fingerprint = hashlib.sha256(model).hexdigest()
        self._packed_words = _PackedWords(self._processor)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Gives the ids of each text."""
        self._check_unicode(texts)
        return self._processor.encode([escape(text) for text in texts], num_threads=1)

    def packed_batch(self, texts: Sequence[str]) -> list[bytes]:
        """Gives the ids of each text as records hold them, with the final EOS.

        No sub-word goes on behind a blank, so a text's ids are those of its words, one
        after the other, and each word is looked up if it came before: several times
        faster than to let sentencepiece merge the letters of every word again.
        """
        if not self._is_split_at_blanks:
            return super().packed_batch(texts)
        self._check_unicode(texts)
        if self._packed_words.num_letters > _MAX_REMEMBERED:
            self._packed_words = _PackedWords(self._processor)
        find = self._packed_words.__getitem__
        [end] = packed_ids([[EOS_ID]])
        rows = (escape(text).split(" ") if text else [] for text in texts)
        return [b"".join(map(find, row)) + end for row in rows]

    @functools.cached_property
    def _is_split_at_blanks(self) -> bool:
        """Whether no sub-word has a blank but at its beginning, as we learn them."""
        pieces = self._processor.id_to_piece(list(range(self.size)))
        return BLOCK in pieces and not any(BLOCK in piece[1:] for piece in pieces)

    def spell_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Gives the ids of each text's bytes, escaped, since `decode` unescapes."""
        return super().spell_batch([escape(text) for text in texts])

    def pieces(self, text: str) -> list[str]:
        """Gives the sub-words of a text; a blank shows as U+2581."""
        return self._processor.encode(escape(text), out_type=str)

    def token(self, one: int) -> str:
        """Gives the sub-word; a blank shows as U+2581, a byte as <0xC3>."""
        piece = self._processor.id_to_piece(int(one))
        if self._processor.is_byte(int(one)) and 32 <= int(piece[3:5], 16) < 127:
            return chr(int(piece[3:5], 16))
        return unescape(piece)

    def piece(self, one: int) -> str:
        """Gives the sub-word of an id as sentencepiece writes it; a byte as <0x0A>."""
        return self._processor.id_to_piece(one)

    def _decode(self, ids: list[int]) -> str:
        return unescape(self._processor.decode(ids))


class _PackedWords(dict[str, bytes]):
    """Packed ids of words, each found when it is first asked for.

    Attributes:
      num_letters: of all words that it holds.
    """

    def __init__(self, processor: Any):
        super().__init__()
        self._processor = processor
        self.num_letters = 0
        # Between two blanks there is a word without letters.
        [self[""]] = packed_ids([[processor.piece_to_id(BLOCK)]])

    def __missing__(self, word: str) -> bytes:
        self.num_letters += len(word)
        packed = b"".join(map(varint, self._processor.encode(word)))
        self[word] = packed
        return packed


def escape(text: str) -> str:
    """Gives a text without U+2581, from which `unescape` makes the text again."""
    return text.replace(ESCAPE, ESCAPE + "0").replace(BLOCK, ESCAPE + "1")


def unescape(text: str) -> str:
    """Gives the text that `escape` was given."""
    return text.replace(ESCAPE + "1", BLOCK).replace(ESCAPE + "0", ESCAPE)


def vocabulary_path(data_dir: str, name: str) -> str:
    """Gives the path of a subword vocabulary's file."""
    return os.path.join(data_dir, f"{name}.subwords.model")


def load_vocabulary(name: str, data_dir: str) -> Vocabulary:
    """Gives the vocabulary that text features of a name use.

    Raises:
      FileNotFoundError: if it must be learned and was not.
      ValueError: if its file is no vocabulary.
    """
    if vocabulary_spec(name).kind == "byte":
        return ByteVocabulary(name)
    path = vocabulary_path(data_dir, name)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{path} is not there; the vocabulary '{name}' was expected in it. "
            "Run mm-datagen with this --data_dir and a problem that uses it."
        )
    with open(path, "rb") as file:
        model = file.read()
    try:
        return SubwordVocabulary(name, model)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds no sentencepiece model ({error}); the vocabulary '{name}' "
            "was expected. Delete it and run mm-datagen again."
        ) from error


def load_vocabularies(
    problems: Sequence[Problem], data_dir: str
) -> dict[str, Vocabulary]:
    """Gives the vocabulary of every text feature of the problems, by name."""
    return {
        name: load_vocabulary(name, data_dir)
        for name in text_vocabulary_names(problems)
    }


def text_vocabulary_names(problems: Sequence[Problem]) -> list[str]:
    """Gives the names of the vocabularies of all text features, sorted."""
    return sorted(
        {
            str(feature.vocabulary)
            for problem in problems
            for feature in problem.features.values()
            if feature.modality == TEXT
        }
    )


def vocabulary_sizes(
    problems: Sequence[Problem], vocabularies: Mapping[str, Vocabulary]
) -> dict[str, int]:
    """Gives the number of ids of every vocabulary and label set of the problems.

    Raises:
      ValueError: if two label sets share a name and differ, or a label set has the
        name of a vocabulary.
    """
    sizes = {name: vocabularies[name].size for name in text_vocabulary_names(problems)}
    labels: dict[str, tuple[tuple[str, ...], str]] = {}
    for problem in problems:
        for feature in problem.features.values():
            if feature.modality != CLASS_LABEL:
                continue
            name = str(feature.vocabulary)
            known, owner = labels.setdefault(name, (feature.labels, problem.name))
            if name in vocabularies or known != feature.labels:
                other = f"problem '{owner}'" if known != feature.labels else "a text"
                raise ValueError(
                    f"Label set '{name}' of problem '{problem.name}' has a name that "
                    f"{other} uses for other words; one name means one set. Rename "
                    "one of them."
                )
            sizes[name] = len(feature.labels)
    return sizes
