"""What data is: `Feature` describes a column, `Problem` yields raw examples.

Read by datagen (writes examples), by the input pipeline (parses them) and by the
models (pick a modality per feature). Imports no TensorFlow.
"""

import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from t2t_mm import registry

TEXT, IMAGE, AUDIO, CLASS_LABEL = "text", "image", "audio", "class_label"
# Ids of spelled text are below this, in every vocabulary: 3 special ones, 256 bytes.
NUM_SPELLED = 3 + 256


@dataclass(frozen=True)
class Feature:
    """One column of a problem: its modality and what the modality must know.

    What `Problem.generate` yields for it, and what a batch holds of it:

    | modality      | generate yields              | batch holds                  |
    |---------------|------------------------------|------------------------------|
    | "text"        | str                          | int32 [B, L], ends in EOS    |
    | "image"       | bytes of a PNG or JPEG file  | float32 [B, H, W, C] in 0..1 |
    | "audio"       | bytes of a mono 16-bit PCM   | float32 [B, T] in -1..1      |
    |               | WAV file                     |                              |
    | "class_label" | str, one of `labels`         | int32 [B, 1]                 |

    Args:
      modality: registered modality that turns the column into [B, S, D] and back.
      vocabulary: for text, the name of its vocabulary; for labels, the name of the
        label set. Two features share weights when, and only when, the names are equal.
      labels: for labels, every label, in the order of their ids.
      spelled: for text, cut it into bytes, the first ids of every vocabulary, as speech
        recognisers do: a network that hears letters writes words that it never read.
      height, width, channels: for images, the size that decoding resizes to.
      sample_rate: for audio, samples per second (Hz) that the files must have.

    Raises:
      ValueError: if an argument that the modality needs is missing.
    """

    modality: str
    vocabulary: str | None = None
    labels: tuple[str, ...] = ()
    spelled: bool = False
    height: int = 0
    width: int = 0
    channels: int = 3
    sample_rate: int = 16000

    def __post_init__(self):
        if self.modality == TEXT and not self.vocabulary:
            raise ValueError(
                "Feature('text') came without a vocabulary; a vocabulary name was "
                "expected. Write Feature('text', vocabulary='my_words')."
            )
        if self.spelled and self.modality != TEXT:
            raise ValueError(
                f"Feature('{self.modality}') came with spelled=True; only text can be "
                "spelled. Leave it out."
            )
        if self.modality == CLASS_LABEL and not (self.vocabulary and self.labels):
            raise ValueError(
                "Feature('class_label') came without a label set; vocabulary and "
                "labels were expected. Write Feature('class_label', "
                "vocabulary='my_classes', labels=('cat', 'dog'))."
            )
        if self.modality == IMAGE and not (self.height and self.width):
            raise ValueError(
                "Feature('image') came without a size; height and width in pixels "
                "were expected. Write Feature('image', height=32, width=32)."
            )
        if not isinstance(self.labels, tuple) or len(set(self.labels)) < len(
            self.labels
        ):
            raise ValueError(
                f"labels came as {str(self.labels)[:80]!r}; expected a tuple of "
                "different names. Write labels=('cat', 'dog')."
            )
        if self.channels not in (1, 3, 4) or self.sample_rate < 1:
            raise ValueError(
                f"Feature('{self.modality}') came with channels={self.channels}, "
                f"sample_rate={self.sample_rate}; expected 1, 3 or 4 channels and a "
                "positive number of samples per second. Correct it."
            )

    def __str__(self) -> str:
        """Gives what the column is, in words."""
        if self.modality == TEXT:
            spelled = ", spelled in bytes" if self.spelled else ""
            return f"text in vocabulary '{self.vocabulary}'{spelled}"
        if self.modality == CLASS_LABEL:
            return f"one of {len(self.labels)} labels, set '{self.vocabulary}'"
        if self.modality == IMAGE:
            size = f"{self.width} x {self.height}"
            return f"pictures, made {size} pixels of {self.channels} channels"
        return f"sound, {self.sample_rate} Hz"


@dataclass(frozen=True)
class Download:
    """A file that a problem needs, pinned by version and content.

    Args:
      channel: "pip" for the Python package index, "apt" for Debian packages.
      package: package name.
      version: exact version.
      filename: name of the file that the index serves.
      sha256: hex digest of that file.
      options: further words for the download command, such as a Python version.
      max_bytes: the most that the file may hold; fetching stops beyond it.
      max_unpacked_bytes: the most that an archive may hold when unpacked.
    """

    channel: str
    package: str
    version: str
    filename: str
    sha256: str
    options: tuple[str, ...] = ()
    max_bytes: int = 1 << 30
    max_unpacked_bytes: int = 4 << 30


class Problem:
    """What one task's data is and how to get it; subclasses fill the blanks.

    Class attributes:
      inputs, targets: a `Feature` each.
      command: what the network is asked to produce, "To-German"; problems with equal
        commands share one learned command token.
      metrics: names of registered metrics of decoded output, the headline first;
        left empty, they follow from the modality of the targets.
      test_splits: the splits that mm-eval reports, the headline first.
      downloads: files to fetch before `generate` runs.
      licence: of the data, one line.
      version: raised whenever `generate` would yield something else.
      baseline: how mm-eval makes the score of a trivial answer: "copy" answers with
        the input, "frequent" with the commonest training target, None with nothing.
      on_bad_example: what mm-datagen does with an example that is ragged, empty, too
        large, not Unicode, of an unknown label, or no picture or sound: "refuse"
        stops with a message that names it, "drop" leaves it out. What is dropped is
        counted by reason, shown, and kept in the manifest.
      max_example_bytes: an example that takes more is too large.

    Example:
      >>> class Shout(Problem):
      ...     "Text to upper case."
      ...     inputs = Feature("text", vocabulary="bytes")
      ...     targets = Feature("text", vocabulary="bytes")
      ...     command = "To-Shouted"
      ...     def generate(self, split, tmp_dir):
      ...         yield {"inputs": "hello", "targets": "HELLO"}
      >>> next(Shout().generate("train", "/tmp"))["targets"]
      'HELLO'
    """

    inputs: ClassVar[Feature]
    targets: ClassVar[Feature]
    command: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = ()
    test_splits: ClassVar[tuple[str, ...]] = ("test",)
    downloads: ClassVar[tuple[Download, ...]] = ()
    licence: ClassVar[str] = "not stated"
    version: ClassVar[int] = 1
    baseline: ClassVar[str | None] = "frequent"
    on_bad_example: ClassVar[str] = "refuse"
    max_example_bytes: ClassVar[int] = 64 << 20
    registered_name: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The registry name, or the snake_case of the class's name."""
        own = vars(type(self)).get("registered_name")  # not that of a parent
        return own or registry.snake_case(type(self).__name__)

    def __repr__(self) -> str:
        """Shows a problem by its name: `<problem translate_ende_home>`."""
        return f"<problem {self.name}>"

    @property
    def origin(self) -> str:
        """What `registry.load` needs in another process to register this problem."""
        return type(self).__module__

    @property
    def reference(self) -> str:
        """What `--problem` takes to name this problem."""
        return self.name

    def changed_version(self, before: int) -> str:
        """Says, for messages, what another `version` means."""
        return f"version was {before} and is {self.version} now"

    @property
    def splits(self) -> tuple[str, ...]:
        """Every split: train, dev, then the test splits."""
        return ("train", "dev", *self.test_splits)

    @property
    def features(self) -> Mapping[str, Feature]:
        """The columns by name."""
        return {"inputs": self.inputs, "targets": self.targets}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the decoded metrics, the headline first."""
        if self.metrics:
            return self.metrics
        if self.targets.modality == CLASS_LABEL:
            return ("top1", "top5") if len(self.targets.labels) > 5 else ("top1",)
        return ("exact_match", "word_f1")

    def seed(self, split: str) -> int:
        """Gives a number that is the same for this problem and split everywhere."""
        return zlib.crc32(f"{self.name}/{split}/{self.version}".encode())

    def changed_since(self, time: float) -> str:
        """Gives a file that the data is made of and that changed since, or nothing.

        Asked by mm-datagen alone, which then makes the data again.

        Args:
          time: seconds since 1970, as `os.path.getmtime` gives them.
        """
        return ""

    def shards(self, split: str, tmp_dir: str) -> Sequence[str]:
        """Gives names of the parts that the source of a split can be read in.

        A problem whose source is large and in parts (files, ranges of lines) names them
        here and writes `generate_shard` instead of `generate`; then the parts are read
        by several processes, machines or Beam workers at once. The examples, and
        their order, are those of the parts one after the other, however many read.

        Args:
          split: one of `splits`.
          tmp_dir: where `downloads` were put.

        Returns:
          Names that `generate_shard` understands, the same ones everywhere; none if
          the source is read as a whole.
        """
        return ()

    def generate_shard(
        self, split: str, tmp_dir: str, shard: str
    ) -> Iterator[dict[str, Any]]:
        """Yields the raw examples of one of `shards`, as `generate` does."""
        raise TypeError(
            f"Problem '{self.name}' names shards and has no `generate_shard`. Expected "
            "a method generate_shard(self, split, tmp_dir, shard) that yields the "
            "examples of one; write it."
        )

    def generate(self, split: str, tmp_dir: str) -> Iterator[dict[str, Any]]:
        """Yields raw examples of a split, a dict with a value per feature.

        Written by each problem, unless it writes `shards` and `generate_shard`: of such
        a problem this gives the examples of all shards, one after the other.

        Args:
          split: one of `splits`.
          tmp_dir: where `downloads` were put, and where more may be cached.

        Yields:
          {"inputs": value, "targets": value}; see `Feature` for the values.
        """
        shards = self.shards(split, tmp_dir)
        if not shards:
            raise TypeError(
                f"Problem '{self.name}' has no `generate`. Expected a method "
                "generate(self, split, tmp_dir) that yields examples; write one."
            )
        return itertools.chain.from_iterable(
            self.generate_shard(split, tmp_dir, shard) for shard in shards
        )


def get_problem(name: str) -> Problem:
    """Makes the registered problem of a name.

    Raises:
      UnknownNameError: if there is none.
      TypeError: if it lacks a feature or a command.
      ValueError: if `on_bad_example` is none that there is.
    """
    problem = registry.problems.get(name)()
    for attribute, kind in (
        ("inputs", Feature),
        ("targets", Feature),
        ("command", str),
    ):
        value = getattr(problem, attribute, None)
        if not value or not isinstance(value, kind):
            raise TypeError(
                f"Problem '{name}' has {attribute} = {value!r}; expected a "
                f"{kind.__name__}. Write it as a class attribute, as in Problem."
            )
    if problem.on_bad_example not in ("refuse", "drop"):
        raise ValueError(
            f"Problem '{name}' has on_bad_example = {problem.on_bad_example!r}; "
            "expected 'refuse' or 'drop'. Choose one of them."
        )
    return problem
