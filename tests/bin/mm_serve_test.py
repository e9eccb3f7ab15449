import importlib.util
import socket
import subprocess
import sys

import pytest

from t2t_mm.bin import mm_serve


def serve(*flags, capsys):
    code = mm_serve.main(["--output_dir=run", *flags])
    return code, capsys.readouterr().err


def test_help_needs_neither_tensorflow_nor_gradio():
    code = (
        "import sys\n"
        "from t2t_mm.bin import mm_serve\n"
        "mm_serve.main(['--help'])\n"
        "sys.exit(bool({'tensorflow', 'gradio', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--deadline_seconds=" in done.stdout


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "gradio" else find(name, package),
    )
    code, text = serve(capsys=capsys)
    assert code == 2
    assert "gradio cannot be imported" in text
    assert "pip install 't2t_mm[serve]'" in text


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--max_queue=0", "--max_queue=0 came; expected more than 0"),
        ("--deadline_seconds=-1", "--deadline_seconds=-1.0 came; expected more than"),
        ("--port=70000", "port"),
        ("--max_inputs=many", "max_inputs"),
    ],
)
def test_wrong_flags_are_told_at_once(flag, text, capsys):
    code, found = serve(flag, capsys=capsys)
    assert code == 2 and text in found


def test_a_folder_without_a_run_is_refused(tmp_path, capsys, monkeypatch):
    pytest.importorskip("gradio", reason="the extra t2t_mm[serve] is not installed")
    # Set by the command; back as it was for the tests that follow.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    code = mm_serve.main([f"--output_dir={tmp_path}"])
    assert code == 2 and "holds no run" in capsys.readouterr().err


def test_a_taken_port_and_a_foreign_address_are_told_before_the_work_begins():
    pytest.importorskip("gradio", reason="the extra t2t_mm[serve] is not installed")
    from t2t_mm.serving import server

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1:{port}"):
            server.serve(None, None, host="127.0.0.1", port=port)
    with pytest.raises(OSError, match="--host=no.such.host.invalid came"):
        server.serve(None, None, host="no.such.host.invalid", port=0)


@pytest.mark.parametrize(
    ("host", "is_warned"), [("127.0.0.1", False), ("0.0.0.0", True), ("::", True)]
)
def test_an_open_address_is_warned_of(host, is_warned, capsys):
    pytest.importorskip("gradio", reason="the extra t2t_mm[serve] is not installed")
    from t2t_mm.serving import server

    server._announce(host, 7)
    found = capsys.readouterr()
    assert ("Warning: everybody" in found.err) == is_warned
    assert "http://127.0.0.1:7/" in found.out
