"""A speech synthesizer, espeak-ng, driven through ctypes from its wheel, not installed.

The library keeps its state, down to the phase of a wave, from one utterance to the
next. So each `start` loads a copy of its own: the same utterances in the same order
give the same samples.
"""

import ctypes
import os
import platform
import shutil
import tempfile
from collections.abc import Callable

import numpy as np

from t2t_mm.problem import Download
from t2t_mm.problems import archives

# The wheel holds compiled code: this one is for Linux on x86-64.
ESPEAK = Download(
    channel="pip",
    package="espeakng-loader",
    version="0.2.4",
    filename=(
        "espeakng_loader-0.2.4-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    ),
    sha256="08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",
    options=("--platform", "manylinux2014_x86_64"),
)

# From the library's speak_lib.h.
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: to the callback, without threads
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_UTF8 = 1  # espeakCHARS_UTF8
_SEED = 1  # of the noise in some voices; any will do
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def start(tmp_dir: str) -> tuple[Callable[[str, str], np.ndarray], int]:
    """Starts a synthesizer of its own state.

    Args:
      tmp_dir: where ESPEAK was put; the library is unpacked beside it.

    Returns:
      A function of (text, voice) that gives float32 [T], and the sample rate in Hz. A
      voice is a language and a variant, "en-us+f2".

    Raises:
      OSError: on another system than Linux on x86-64, or if the library fails.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise OSError(
            f"This machine is {platform.system()} {platform.machine()}; the pinned "
            "synthesizer is for Linux x86_64. Leave speech_emoji out, or generate its "
            "data on such a machine and copy it."
        )
    folder = archives.extracted_folder(ESPEAK, "espeakng_loader", tmp_dir)
    library = _own_copy(os.path.join(folder, "libespeak-ng.so"))
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, folder.encode(), _DONT_EXIT)
    if rate <= 0:
        raise OSError(
            f"espeak-ng did not start (answer {rate}) with the data in {folder}; a "
            "sample rate was expected. Delete that folder and run mm-datagen again."
        )
    library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    return _speaker(library), rate


def _own_copy(path: str) -> ctypes.CDLL:
    """Loads a library apart from any copy of it that is loaded already."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        shutil.copyfile(path, file.name)
        return ctypes.CDLL(file.name)


def _speaker(library: ctypes.CDLL) -> Callable[[str, str], np.ndarray]:
    blocks: list[np.ndarray] = []

    @_CALLBACK
    def receive(samples, number, _events):
        if samples and number > 0:
            blocks.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    library.espeak_SetSynthCallback(receive)

    def speak(text: str, voice: str) -> np.ndarray:
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise OSError(
                f"espeak-ng has no voice '{voice}'; a language and a variant such as "
                "'en-us+f2' were expected. Correct the problem's voices."
            )
        blocks.clear()
        words = text.encode() + b"\0"
        answer = library.espeak_Synth(words, len(words), 0, 0, 0, _UTF8, None, None)
        if answer != 0 or not blocks:
            raise OSError(
                f"espeak-ng gave no sound for {text!r} (answer {answer}); text with "
                "letters was expected. Leave it out."
            )
        return np.concatenate(blocks).astype(np.float32) / 32768.0

    # The library calls it as long as it lives.
    speak.receive = receive  # type: ignore[attr-defined]
    return speak
