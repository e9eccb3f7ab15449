import pytest

from t2t_mm.bin import mm_average


def test_the_newest_become_a_run_beside_them(small_run, tmp_path, capsys):
    path = tmp_path / "mean"
    arguments = [small_run, "--num_last_checkpoints=2", f"--output_path={path}"]
    assert mm_average.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "ckpt-3\n" in printed and "ckpt-5\n" in printed
    assert f"Use it with --output_dir={path}." in printed
    assert (path / "checkpoints" / "ckpt-5.index").exists()


def test_checkpoints_may_be_listed(small_run, tmp_path):
    path = tmp_path / "mean"
    names = "--checkpoints=checkpoints/ckpt-5,best/ckpt-3"
    prefix = f"--prefix={small_run}/"
    assert mm_average.main([names, prefix, f"--output_path={path}"]) == 0
    assert (path / "checkpoints" / "ckpt-3.index").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--num_last_checkpoints and --checkpoints: neither came; expected one"),
        (["--num_last_checkpoints=2", "--checkpoints=a"], "both came; expected one"),
        (["--num_last_checkpoints=2"], "came without --output_dir; expected the run"),
        (["--checkpoints=a"], "came without --output_path; expected the folder"),
        (["--checkpoints=/no/ckpt-1", "--output_path=/no"], "neither a folder nor a"),
        (
            ["--output_dir=/no", "--num_last_checkpoints=2"],
            "/no is no folder; expec",
        ),
        (["--output_dir=/", "--num_last_checkpoints=2"], "/ has 0 checkpoints; expec"),
        (
            ["--output_dir=/no", "--num_last_checkpoints=2", "--prefix=a/"],
            "--prefix=a/ came without --checkpoints; expected names",
        ),
        (["--n=8"], "a flag of Tensor2Tensor that is gone. Use --num_last_checkp"),
        (["--num_last_checkpoints=0"], "num_last_checkpoints"),
    ],
)
def test_a_users_mistake_is_explained(arguments, message, capsys):
    assert mm_average.main(arguments) == 2
    assert message in capsys.readouterr().err
