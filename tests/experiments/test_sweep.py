"""Grids: what they resolve to, what is refused before anything runs, and how a grid goes on."""

from __future__ import annotations

import pytest

from rein_jax.cli import sweep as command
from rein_jax.errors import UserError
from rein_jax.experiments import sweep
from tests.experiments.made import make_run

QUICK = "configs/quickstart.py"


def grid(*texts, config=QUICK):
    return sweep.axes(texts, config)


def test_arguments_and_overrides(tmp_path):
    found = sweep.members(f"{QUICK}:head=linear", grid("method=rein,lora", "seed=0,1"), ["train.steps=5"], tmp_path)
    assert [member.name for member in found] == ["method=rein_seed=0", "method=rein_seed=1", "method=lora_seed=0", "method=lora_seed=1"]
    assert found[2].command() == ["train", "--config", f"{QUICK}:head=linear,method=lora", "--config.train.steps=5", "--config.seed=0",
                                  "--workdir", str(tmp_path / "method=lora_seed=0")]  # fmt: skip
    config = found[3].load()
    assert (config.adapter.name, config.head.name, config.seed, config.train.steps) == ("lora", "linear", 1, 5)


def test_commas_in_brackets_belong_to_a_value():
    assert grid("data.crop=(256,256),(512,512)") == {"data.crop": ["(256,256)", "(512,512)"]}


@pytest.mark.parametrize(
    "texts, words",
    [
        (["methd=rein"], "Did you mean 'method'"),
        (["method"], "needs the form"),
        (["method=rein,rein"], "names a value twice"),
        (["method=rein", "method=lora"], "given twice"),
        (["method=rein,lorra"], "method=lorra: Unknown method 'lorra'"),
        (["train.step=1"], "Did you mean 'train.steps'"),
        (["seed=x"], "seed"),
        (["head.name=mask2former,fpnn"], "Unknown head 'fpnn'"),
        (["method=lora", "adapter.targets=qvk"], "Did you mean 'qkv'"),
        (["adapter.rnk=4"], "Did you mean 'config.adapter.rank'"),
        (["trainable=(foo/"], "not a valid regular expression"),
        (["trainable=foo/"], "matches no parameter"),
        (["optim.groups=rein_51"], "optim.groups"),
        (["augment=psta"], "pasta"),
        (["augment.gamma=1"], "augment.name is none"),
        (["backbone.name=sam_b", "method=rein,vpt"], "vpt"),
        (["backbone.name=resnet_50", "method=lora"], "linear maps"),
    ],
)
def test_typos_are_refused_before_anything_runs(texts, words, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "run_one", lambda *a: pytest.fail("something ran"))
    argv = [QUICK, "--workdir", str(tmp_path), *(part for text in texts for part in ("--grid", text))]
    with pytest.raises(UserError, match=words):
        command.main(argv)
    assert not list(tmp_path.iterdir())


def test_commands_leave_out_what_is_finished(tmp_path, capsys):
    make_run(tmp_path / "seed=0", QUICK, {"clear": 1.0})
    assert command.main([QUICK, "--grid", "seed=0,1", "--workdir", str(tmp_path), "--commands"]) == 0
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert lines == [f"rein train --config {QUICK} --config.seed=1 --workdir {tmp_path}/seed=1"]


def test_a_folder_of_another_config_is_refused(tmp_path):
    make_run(tmp_path / "seed=0", QUICK, {"clear": 1.0}, "train.steps=7")
    with pytest.raises(UserError, match="train.steps: 7 -> "):
        command.main([QUICK, "--grid", "seed=0,1", "--workdir", str(tmp_path), "--commands"])


def test_goes_on_after_a_failure_and_ends_with_the_table(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "method=rein", QUICK, {"clear": 9.0, "night": 5.0})
    ran = []

    def run_one(member, log):
        ran.append(member.name)
        log.write_text("rein train: no space left\n")
        if "freeze" in member.name:
            return 2
        make_run(member.folder, member.config, {"clear": 8.0, "night": 4.0}, *member.overrides)
        return 0

    monkeypatch.setattr(sweep, "run_one", run_one)
    argv = [QUICK, "--grid", "method=rein,freeze,lora", "--workdir", str(tmp_path)]
    assert command.main(argv) == 1
    said = capsys.readouterr()
    assert ran == ["method=freeze", "method=lora"]
    assert "already finished" in said.err and "failed: method=freeze (exit code 2: rein train: no space left)" in said.err
    assert "quickstart-rein" in said.out and "quickstart-lora" in said.out and "quickstart-freeze" not in said.out
    ran.clear()
    command.main(argv)
    assert ran == ["method=freeze"]


def test_a_stop_signal_ends_the_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "run_one", lambda member, log: sweep.PREEMPTED)
    assert command.main([QUICK, "--grid", "seed=0,1", "--workdir", str(tmp_path)]) == sweep.PREEMPTED


def test_a_real_process_that_fails_is_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REIN_DATA", str(tmp_path / "nothing"))
    assert command.main(["configs/camvid_dinov2s.py", "--grid", "seed=0", "--workdir", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    assert "failed: seed=0 (exit code 2" in said.err and "camvid" in said.err and "no run has numbers yet" in said.out
    assert (tmp_path / "runs" / "seed=0.log").exists()
