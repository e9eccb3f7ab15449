import json
import shlex

import pytest

from t2t_mm.bin import mm_make_tf_configs

TWO = "--workers=10.0.0.1:2222,node-2:2223"


def test_each_worker_gets_its_own_configuration(capsys):
    assert mm_make_tf_configs.main([TWO]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for index, line in enumerate(lines):
        setting, flag = shlex.split(line)
        assert flag == "--strategy=multi_worker"
        name, _, text = setting.partition("=")
        assert name == "TF_CONFIG"
        assert json.loads(text) == {
            "cluster": {"worker": ["10.0.0.1:2222", "node-2:2223"]},
            "task": {"type": "worker", "index": index},
        }


def test_a_worker_may_have_an_ipv6_address(capsys):
    assert mm_make_tf_configs.main(["--workers=[::1]:2222", "--index=0"]) == 0
    assert json.loads(capsys.readouterr().out)["cluster"] == {"worker": ["[::1]:2222"]}


def test_one_worker_may_ask_for_its_own(capsys):
    assert mm_make_tf_configs.main([TWO, "--index=1"]) == 0
    assert json.loads(capsys.readouterr().out)["task"]["index"] == 1


def test_the_first_of_what_tensor2tensor_called_masters_still_saves(capsys):
    assert mm_make_tf_configs.main(["--masters=a:1,b:2", "--index=0"]) == 0
    assert json.loads(capsys.readouterr().out)["cluster"] == {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No value came for --workers"),
        (["--workers=node1"], "has 'node1'; expected host:port"),
        (["--workers=node1:99999"], "a port of 1 to 65535"),
        (["--workers=node 1:2222"], "has 'node 1:2222'; expected host:port"),
        (["--workers=http://node1:2222"], "has 'http://node1:2222'; expected host"),
        (["--workers=a:1,a:1"], "has a:1 more than once"),
        ([TWO, "--index=2"], "--index=2 came for 2 of --workers; expected less than 2"),
        ([TWO, "--masters=c:1"], "--workers or --masters came 2 times; expected all"),
        (["--workers=-:1"], "has '-:1'; expected host:port"),
        ([TWO, "--gin_file=a"], "--gin_file came, which is no flag of mm-make-tf-con"),
        ([TWO, "--ps=c:1"], "Keras 3 has no parameter servers"),
    ],
)
def test_a_mistake_gets_a_message_that_helps(arguments, message, capsys):
    assert mm_make_tf_configs.main(arguments) == 2
    assert message in capsys.readouterr().err
