"""Recipes and flags: the same names, flags win, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_hf.errors import CloudError
from cloud_hf.training.arguments import PretrainArguments, parse_recipe
from cloud_hf.training.finetune_arguments import FinetuneArguments

ROOT = Path(__file__).parents[2]


def recipe(tmp_path: Path, text: str, name: str = "recipe.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_recipe_says_the_same_as_flags(tmp_path: Path) -> None:
    text = "data: [a.csv, b.csv]\nhidden_size: 64\nlearning_rate: 5.0e-4\nuse_cpu: true\nseed: 7\nmodel: null\n"
    flags = ["--data", "a.csv", "b.csv", "--hidden_size", "64", "--learning_rate", "5.0e-4", "--use_cpu", "true"]
    flags += ["--seed", "7", "--output_dir", str(tmp_path)]
    own, training = parse_recipe(
        "pretrain", PretrainArguments, ["--config", recipe(tmp_path, text), "--output_dir", str(tmp_path)]
    )
    other, other_training = parse_recipe("pretrain", PretrainArguments, flags)
    assert own == other
    assert own.data == ["a.csv", "b.csv"]
    assert own.model is None
    assert (training.learning_rate, training.seed, training.use_cpu) == (5e-4, 7, True)
    assert other_training.learning_rate == training.learning_rate


@pytest.mark.parametrize("before", [True, False])
def test_flags_win_wherever_they_stand(tmp_path: Path, before: bool) -> None:
    config = ["--config", recipe(tmp_path, "data: [a.csv]\nseed: 7\nhidden_size: 64\nuse_cpu: true\n")]
    flags = ["--seed", "8", "--data", "c.csv", "d.csv", "--output_dir", str(tmp_path)]
    own, training = parse_recipe("pretrain", PretrainArguments, flags + config if before else config + flags)
    assert training.seed == 8
    assert own.data == ["c.csv", "d.csv"]
    assert own.hidden_size == 64


def test_a_later_recipe_wins(tmp_path: Path) -> None:
    first = recipe(tmp_path, "data: [a.csv]\nseed: 1\nhidden_size: 64\nuse_cpu: true\n", "1.yaml")
    second = recipe(tmp_path, "seed: 2\n", "2.yaml")
    own, training = parse_recipe("pretrain", PretrainArguments, ["--config", first, "--config", second])
    assert (training.seed, own.hidden_size) == (2, 64)


def test_a_target_with_its_unit_survives_yaml(tmp_path: Path) -> None:
    text = "model: m\ndata: d.csv\ntarget: ['band_gap:eV', 'heat_capacity:J/(mol cell K)']\nuse_cpu: true\n"
    own, _ = parse_recipe("finetune", FinetuneArguments, ["--config", recipe(tmp_path, text)])
    assert own.target == ["band_gap:eV", "heat_capacity:J/(mol cell K)"]


def test_false_is_false(tmp_path: Path) -> None:
    text = "data: [a.csv]\nuse_cpu: true\nbf16: false\nremove_unused_columns: false\n"
    _, training = parse_recipe("pretrain", PretrainArguments, ["--config", recipe(tmp_path, text)])
    assert training.bf16 is False
    assert training.remove_unused_columns is False


def test_nothing_reports_to_a_tracker_by_default(tmp_path: Path) -> None:
    _, training = parse_recipe("pretrain", PretrainArguments, ["--data", "a.csv", "--use_cpu", "true"])
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
def test_an_unknown_argument_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    argv = ["--data", "a.csv", "--use_cpu", "true"]
    argv += ["--hiden_size", "3"] if where == "flag" else ["--config", recipe(tmp_path, "hiden_size: 3\n")]
    assert "hiden_size" in stopped(PretrainArguments, argv, capsys)


def test_a_missing_argument_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data" in stopped(PretrainArguments, ["--seed", "1"], capsys)


def test_a_value_of_the_wrong_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--data", "a.csv", "--config", recipe(tmp_path, "hidden_size: wide\n")]
    assert "hidden_size" in stopped(PretrainArguments, argv, capsys)


def test_an_unknown_debye_label_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model", "m", "--data", "d.csv", "--target", "s:J", "--debye", "entropy"]
    assert "debye" in stopped(FinetuneArguments, argv, capsys)


@pytest.mark.parametrize("path", sorted((ROOT / "scripts" / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_the_recipes_of_the_project_are_understood(path: Path) -> None:
    kind: type = PretrainArguments if path.name.startswith("pretrain") else FinetuneArguments
    flags = ["--config", str(path), "--data", "a.csv"]
    if kind is FinetuneArguments:
        flags += ["--model", "m"]
    own, training = parse_recipe("train", kind, [*flags, "--bf16", "false", "--use_cpu", "true"])
    assert isinstance(own, kind)
    assert training.seed is not None


def test_usage_names_what_is_required_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_recipe("finetune", FinetuneArguments, ["--data", "a.csv"])
    message = capsys.readouterr().err
    assert "--model MODEL --data DATA --target TARGET" in message
    assert len(message.splitlines()) < 8


def test_help_of_a_negated_flag_is_not_that_of_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_recipe("finetune", FinetuneArguments, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("Score trees on composition and symmetry too") == 1
    assert "--baselines false." in text


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    flags = ["--data", "a.csv", "--hidden_size", "33", "--num_attention_heads", "2", "--output_dir", str(tmp_path)]
    with pytest.raises(CloudError, match="--hidden_size 33 must be a multiple of --num_attention_heads 2"):
        parse_recipe("pretrain", PretrainArguments, flags)
