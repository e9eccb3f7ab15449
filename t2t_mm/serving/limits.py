"""How much may come, and how a request for more is refused."""

from dataclasses import dataclass, fields

# Answers of the server, by what they mean; docs/serving.md lists them.
MALFORMED, UNKNOWN, TOO_SLOW, TOO_LARGE = 400, 404, 408, 413
NOT_READABLE, FULL, LATE = 422, 503, 504


class Refused(ValueError):
    """A request that is not served; its text is for the one who sent it.

    Args:
      status: the HTTP status.
      message: what came, what was expected, what to do.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Bounds on what a stranger may make the server hold and do.

    Args:
      max_upload_megabytes: of one picture or sound, in files or base64.
      max_text_characters: of one text.
      max_picture_megapixels: of one picture, counted before it is unpacked.
      max_sound_seconds: of one sound.
      max_inputs: inputs of one request.
      max_answers: most alternatives asked for, and the widest beam.
      max_queue: requests that wait; the next one is turned away with 503.
      deadline_seconds: from arrival to answer; later, 504.

    Raises:
      ValueError: if one of them is not positive.
    """

    max_upload_megabytes: float = 8.0
    max_text_characters: int = 2_000
    max_picture_megapixels: float = 24.0
    max_sound_seconds: float = 30.0
    max_inputs: int = 16
    max_answers: int = 8
    max_queue: int = 16
    deadline_seconds: float = 30.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(
                    f"--{field.name}={value} came; expected more than 0. Give a "
                    "positive number or leave it out."
                )

    @property
    def max_upload_bytes(self) -> int:
        """Bytes of one file."""
        return int(self.max_upload_megabytes * 2**20)

    @property
    def max_request_bytes(self) -> int:
        """Bytes of one request: a file in base64, and some text around it."""
        return self.max_upload_bytes * 4 // 3 + 2**18

    @property
    def max_kept_bytes(self) -> int:
        """Bytes of all files that visitors uploaded to the page."""
        return self.max_upload_bytes * 64

    @property
    def max_held_bytes(self) -> int:
        """Bytes of all requests that are being read or worked on."""
        return self.max_request_bytes * (self.max_queue + 1)
