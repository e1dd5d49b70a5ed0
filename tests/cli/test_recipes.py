"""Recipes and flags: the same names, flags win, mistakes are named."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cloud_hf.cli.main import main
from cloud_hf.cli.recipes import (
    FINETUNE_GROUPS,
    JOINT_GROUPS,
    PRETRAIN_GROUPS,
    TRAINING_FLAGS,
    parse_flags,
    parse_recipe,
)
from cloud_hf.errors import CloudError
from cloud_hf.training.arguments import CloudTrainingArguments, PretrainArguments
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.joint_arguments import JointArguments

ROOT = Path(__file__).parents[2]


def recipe(tmp_path: Path, text: str, name: str = "recipe.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_recipe_says_the_same_as_flags(tmp_path: Path) -> None:
    text = "data: [a.csv, b.csv]\nhidden-size: 64\nlearning-rate: 5.0e-4\nuse-cpu: true\nseed: 7\nmodel: null\n"
    flags = ["--data", "a.csv", "b.csv", "--hidden-size", "64", "--learning-rate", "5.0e-4", "--use-cpu", "true"]
    flags += ["--seed", "7", "--output-dir", str(tmp_path)]
    own, training = parse_recipe(
        "pretrain", PretrainArguments, ["--config", recipe(tmp_path, text), "--output-dir", str(tmp_path)]
    )
    other, other_training = parse_recipe("pretrain", PretrainArguments, flags)
    assert own == other
    assert own.data == ["a.csv", "b.csv"]
    assert own.model is None
    assert (training.learning_rate, training.seed, training.use_cpu) == (5e-4, 7, True)
    assert other_training.learning_rate == training.learning_rate


@pytest.mark.parametrize("before", [True, False])
def test_flags_win_wherever_they_stand(tmp_path: Path, before: bool) -> None:
    config = ["--config", recipe(tmp_path, "data: [a.csv]\nseed: 7\nhidden-size: 64\nuse-cpu: true\n")]
    flags = ["--seed", "8", "--data", "c.csv", "d.csv", "--output-dir", str(tmp_path)]
    own, training = parse_recipe("pretrain", PretrainArguments, flags + config if before else config + flags)
    assert training.seed == 8
    assert own.data == ["c.csv", "d.csv"]
    assert own.hidden_size == 64


def test_a_later_recipe_wins(tmp_path: Path) -> None:
    first = recipe(tmp_path, "data: [a.csv]\nseed: 1\nhidden-size: 64\nuse-cpu: true\n", "1.yaml")
    second = recipe(tmp_path, "seed: 2\n", "2.yaml")
    own, training = parse_recipe("pretrain", PretrainArguments, ["--config", first, "--config", second])
    assert (training.seed, own.hidden_size) == (2, 64)


def test_a_target_with_its_unit_survives_yaml(tmp_path: Path) -> None:
    text = "model: m\ndata: d.csv\ntarget: ['band_gap:eV', 'heat_capacity:J/(mol cell K)']\nuse-cpu: true\n"
    own, _ = parse_recipe("finetune", FinetuneArguments, ["--config", recipe(tmp_path, text)])
    assert own.target == ["band_gap:eV", "heat_capacity:J/(mol cell K)"]


def test_false_is_false(tmp_path: Path) -> None:
    text = "data: [a.csv]\nuse-cpu: true\nbf16: false\nremove-unused-columns: false\n"
    _, training = parse_recipe("pretrain", PretrainArguments, ["--config", recipe(tmp_path, text)])
    assert training.bf16 is False
    assert training.remove_unused_columns is False


def test_nothing_reports_to_a_tracker_by_default(tmp_path: Path) -> None:
    _, training = parse_recipe("pretrain", PretrainArguments, ["--data", "a.csv", "--use-cpu", "true"])
    assert training.report_to in ([], ["none"])
    assert str(training.save_strategy.value) == "no"


@pytest.mark.parametrize("text", ["- data\n- seed\n", "just words\n", "42\n", ""])
def test_a_recipe_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(CloudError, match=r"recipe\.yaml.*mapping"):
        parse_recipe("pretrain", PretrainArguments, ["--config", recipe(tmp_path, text)])


def test_a_recipe_that_is_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"recipe\.yaml.*not YAML"):
        parse_recipe("pretrain", PretrainArguments, ["--config", recipe(tmp_path, "data: [a.csv\nseed: }")])


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"absent\.yaml"):
        parse_recipe("pretrain", PretrainArguments, ["--config", str(tmp_path / "absent.yaml")])


def test_config_without_a_path() -> None:
    with pytest.raises(CloudError, match="--config"):
        parse_recipe("pretrain", PretrainArguments, ["--data", "a.csv", "--config"])


def stopped(kind: type, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said about a mistake, by an error of the package or by the parser (exit status 2)."""
    with pytest.raises((CloudError, SystemExit)) as stop:
        parse_recipe("train", kind, argv)
    if isinstance(stop.value, CloudError):
        return str(stop.value)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("where", ["flag", "recipe"])
@pytest.mark.parametrize(
    ("name", "meant"), [("hiden-size", "hidden-size"), ("hidden_size", "hidden-size"), ("no_baselines", None)]
)
def test_an_unknown_argument_is_named_with_the_one_it_is_like(
    tmp_path: Path, where: str, name: str, meant: str | None
) -> None:
    argv = ["--data", "a.csv", "--use-cpu", "true"]
    argv += [f"--{name}", "3"] if where == "flag" else ["--config", recipe(tmp_path, f"{name}: 3\n")]
    with pytest.raises(CloudError, match=f"unknown flag --{name}") as found:
        parse_recipe("pretrain", PretrainArguments, argv)
    assert meant is None or f"did you mean --{meant}?" in str(found.value)
    assert ("recipe.yaml" in str(found.value)) == (where == "recipe")


def test_no_flag_has_a_spelling_with_underscores_and_none_is_abbreviated() -> None:
    for flag in ("--learning_rate", "--output_dir", "--learning-rat", "--no_baselines", "--hub_model_id=x"):
        with pytest.raises(CloudError, match=f"unknown flag {flag.partition('=')[0]}; did you mean --"):
            parse_recipe("finetune", FinetuneArguments, ["--model", "m", "--data", "d", "--target", "t:1", flag, "1"])


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data" in stopped(PretrainArguments, ["--seed", "1"], capsys)


def test_a_value_of_the_wrong_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--data", "a.csv", "--config", recipe(tmp_path, "hidden-size: wide\n")]
    assert "hidden-size" in stopped(PretrainArguments, argv, capsys)


def test_an_unknown_debye_label_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", "m", "--data", "d.csv", "--target", "s:J", "--debye", "entropy"]
    assert "debye" in stopped(FinetuneArguments, argv, capsys)


KINDS: dict[str, type] = {"pretrain": PretrainArguments, "finetune": FinetuneArguments, "joint": JointArguments}
RECIPES = [path for path in sorted((ROOT / "scripts" / "recipes").glob("*.yaml")) if path.stem != "joint_table"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_of_the_project_are_understood(path: Path) -> None:
    kind = KINDS[path.stem.partition("_")[0]]
    flags = ["--config", str(path), "--data", "a.csv", "--model", "m"]
    flags += ["--split", "s"] if kind is JointArguments else []
    own, training = parse_recipe("train", kind, [*flags, "--bf16", "false", "--use-cpu", "true"])
    assert isinstance(own, kind)
    assert training.seed is not None


def test_usage_names_what_is_required_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_recipe("finetune", FinetuneArguments, ["--data", "a.csv"])
    message = capsys.readouterr().err
    assert "--model MODEL --data DATA --target TARGET" in message
    assert len(message.splitlines()) < 8


def shown(command: str, flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit) as stop:
        main([command, flag])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "kind", "groups"),
    [
        ("pretrain", PretrainArguments, PRETRAIN_GROUPS),
        ("finetune", FinetuneArguments, FINETUNE_GROUPS),
        ("joint", JointArguments, JOINT_GROUPS),
    ],
)
class TestHelp:
    def test_two_screens_show_every_flag_of_the_command(
        self, command: str, kind: Any, groups: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = shown(command, "--help", capsys, monkeypatch)
        assert len(text.splitlines()) <= 110
        assert not re.findall(r"--[a-z]+_", text)
        flags = set(re.findall(r"^  (?:-h, )?--([a-z0-9-]+)", text, flags=re.M))
        expected = {entry.name for entry in fields(kind)} | set(TRAINING_FLAGS) | {"help", "help_all"}
        assert flags == {name.replace("_", "-") for name in expected}

    def test_all_of_them_on_demand(
        self, command: str, kind: Any, groups: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = shown(command, "--help-all", capsys, monkeypatch)
        flags = set(re.findall(r"^  (?:-h, )?--([a-z0-9-]+)", text, flags=re.M))
        every = {entry.name for each in (kind, CloudTrainingArguments) for entry in fields(each) if entry.init}
        assert flags == {name.replace("_", "-") for name in every | {"help", "help_all"}}
        assert not re.findall(r"^  --[a-z]+_", text, flags=re.M)

    def test_defaults_are_shown_as_they_would_be_given(
        self, command: str, kind: Any, groups: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = " ".join(shown(command, "--help", capsys, monkeypatch).split())
        shown_defaults = re.findall(r"\(default: (.*?)\)", text)
        assert {"3", "-1", "0.05", "42"} <= set(shown_defaults)
        assert not [default for default in shown_defaults if not default or re.search(r"True|False|None|\[", default)]
        assert ("0" in shown_defaults) == (command != "pretrain")  # --head-dropout

    def test_a_field_is_in_one_section(
        self, command: str, kind: Any, groups: Any, capsys: Any, monkeypatch: Any
    ) -> None:
        names = [name for section in groups.values() for name in section]
        assert len(names) == len(set(names))
        assert set(names) <= {entry.name for entry in fields(kind)}


def test_what_is_on_is_switched_off_in_two_ways() -> None:
    needed = ["--model", "m", "--data", "d", "--target", "t:1"]
    for flags in (["--no-baselines"], ["--baselines", "false"]):
        (arguments,) = parse_flags("finetune", (FinetuneArguments,), [*needed, *flags])
        assert arguments.baselines is False
    assert parse_flags("finetune", (FinetuneArguments,), needed)[0].baselines is True


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    flags = ["--data", "a.csv", "--hidden-size", "33", "--num-attention-heads", "2", "--output-dir", str(tmp_path)]
    with pytest.raises(CloudError, match="--hidden-size 33 must be a multiple of --num-attention-heads 2"):
        parse_recipe("pretrain", PretrainArguments, flags)
