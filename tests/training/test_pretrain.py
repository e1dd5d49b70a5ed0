"""Pre-training through the command: what it writes, that it repeats and resumes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

from cloud_hf import CloudForMaskedLM
from cloud_hf.data.token_classes import TOKEN_CLASSES
from cloud_hf.errors import CloudError, TableError
from cloud_hf.training.pretrain import read_strings, tokenize_strings

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_the_result_is_a_checkpoint_without_pickles(pretrained: Path) -> None:
    names = {path.name for path in pretrained.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer_config.json", "vocab.txt"} <= names
    assert not [name for name in names if Path(name).suffix in PICKLES]


def test_it_loads_through_the_auto_classes(pretrained: Path, strings: list[str]) -> None:
    model, loaded = AutoModelForMaskedLM.from_pretrained(pretrained, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    assert isinstance(model, CloudForMaskedLM)
    assert not loaded["missing_keys"]
    assert not loaded["unexpected_keys"]
    batch = tokenizer(strings[:3], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**batch).logits
        hidden = AutoModel.from_pretrained(pretrained).eval()(**batch).last_hidden_state
    assert logits.shape == (*batch["input_ids"].shape, model.config.vocab_size)
    assert hidden.shape[-1] == 32
    assert logits.isfinite().all()
    assert model.config.grammar == "composition"
    assert tokenizer.model_max_length == model.config.max_position_embeddings


def test_whoever_trains_on_gets_all_logits(pretrained: Path) -> None:
    """Training computes those of masked words alone; the saved model is for other loops too."""
    assert CloudForMaskedLM.from_pretrained(pretrained).config.sparse_prediction is False


def test_metrics_count_the_strings(pretrained: Path, strings: list[str]) -> None:
    (path,) = pretrained.glob("validation_results.json")
    metrics = json.loads(path.read_text())
    assert metrics["train_strings"] + metrics["validation_strings"] == len(strings)
    assert metrics["validation_strings"] == round(0.1 * len(strings))
    assert metrics["validation_perplexity"] > 1
    assert metrics["validation_masked_words"] >= metrics["validation_strings"]


def test_the_same_seed_gives_the_same_weights(
    pretrained: Path, strings_table: Path, tiny_flags, cloud, tmp_path
) -> None:
    flags = ["--data", strings_table, "--validation-fraction", "0.1", *tiny_flags]
    assert cloud("pretrain", *flags, "--output-dir", tmp_path / "again").status == 0
    assert_same_weights(pretrained, tmp_path / "again")
    assert cloud("pretrain", *flags, "--output-dir", tmp_path / "other", "--seed", 4).status == 0
    key = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(weights(pretrained)[key], weights(tmp_path / "other")[key])


def test_licences_are_recorded(strings_table: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    licences = ["--data-license", "CC-BY-4.0", "--license", "mit"]
    found = cloud("pretrain", "--data", strings_table, *tiny_flags, "--output-dir", tmp_path / "out", *licences)
    assert found.status == 0, found.err
    recorded = json.loads((tmp_path / "out" / "training_data.json").read_text())
    assert recorded["license"] == "mit"
    assert recorded["steps"][0]["license"] == "CC-BY-4.0"
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("sampling", ["random", pytest.param("group_by_length", marks=pytest.mark.train)])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    strings_table, tiny_flags, cloud, tmp_path, sampling: str
) -> None:
    """Interrupted in the middle of the second epoch: same masks, same order of the batches, same dropout."""
    flags = ["--data", strings_table, "--validation-fraction", "0", *tiny_flags, "--max-steps", 12]
    flags += ["--save-strategy", "steps", "--save-steps", 8, "--warmup-steps", 0, "--train-sampling-strategy", sampling]
    assert cloud("pretrain", *flags, "--output-dir", tmp_path / "whole").status == 0
    shutil.copytree(tmp_path / "whole" / "checkpoint-8", tmp_path / "resumed" / "checkpoint-8")
    resume = ["--resume-from-checkpoint", tmp_path / "resumed" / "checkpoint-8"]
    assert cloud("pretrain", *flags, "--output-dir", tmp_path / "resumed", *resume).status == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_a_checkpoint_is_continued(pretrained: Path, strings_table: Path, tiny_flags, cloud, tmp_path) -> None:
    flags = ["--data", strings_table, *tiny_flags, "--model", pretrained, "--output-dir", tmp_path]
    assert cloud("pretrain", *flags, "--max-steps", 1, "--learning-rate", 0).status == 0
    assert_same_weights(pretrained, tmp_path)
    assert cloud("pretrain", *flags, "--max-steps", 1, "--warmup-steps", 0).status == 0
    key = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(weights(pretrained)[key], weights(tmp_path)[key])


def test_training_lowers_the_perplexity(strings_table: Path, tiny_flags, cloud, tmp_path) -> None:
    def perplexity(rate: float) -> float:
        folder = tmp_path / str(rate)
        flags = ["--data", strings_table, *tiny_flags, "--max-steps", 40 if rate else 1, "--learning-rate", rate]
        flags += ["--validation-fraction", "0.2", "--output-dir", folder]
        assert cloud("pretrain", *flags).status == 0
        return json.loads((folder / "validation_results.json").read_text())["validation_perplexity"]

    assert perplexity(5e-3) < 0.5 * perplexity(0.0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--seed", "-1"], "seed"),
            (["--learning-rate", "-1"], "--learning-rate must be from 0 to inf, not -1"),
            (["--per-device-train-batch-size", "0"], "--per-device-train-batch-size must be from 1"),
            (["--per-device-eval-batch-size", "0"], "--per-device-eval-batch-size must be from 1"),
            (["--gradient-accumulation-steps", "0"], "--gradient-accumulation-steps must be from 1"),
            (["--report-to", "nowhere"], "nowhere"),
            (["--eval-strategy", "steps"], "eval"),
        ],
    )
    def test_training_arguments_that_cannot_work_end_in_one_line(
        self, flags: list[str], words: str, strings_table, tiny_flags, cloud, tmp_path: Path
    ) -> None:
        out = ["--validation-fraction", 0, "--output-dir", tmp_path / "out"]
        found = cloud("pretrain", "--data", strings_table, *tiny_flags, *out, *flags)
        assert found.status == 2
        assert words in found.err

    def test_a_fault_of_our_own_is_no_mistake_of_the_user(
        self, strings_table, tiny_flags, cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cloud_hf.training.pretrain.grammar_of", lambda text: int("a fault"))
        with pytest.raises(ValueError, match="a fault") as caught:
            cloud("pretrain", "--data", strings_table, *tiny_flags, "--output-dir", tmp_path / "out")
        assert not isinstance(caught.value, CloudError)

    def test_a_table_without_strings(self, tiny_flags, cloud, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("formula\nCu\n")
        found = cloud("pretrain", "--data", tmp_path / "t.csv", *tiny_flags, "--output-dir", tmp_path / "out")
        assert found.status == 2
        assert "no column 'scope'" in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()

    def test_a_table_with_empty_strings_only(self, tiny_flags, cloud, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("scope,y\n,1\n")
        found = cloud("pretrain", "--data", tmp_path / "t.csv", *tiny_flags, "--output-dir", tmp_path / "out")
        assert found.status == 2
        assert "no SCOPE strings" in found.err

    def test_a_table_that_is_not_there(self, tiny_flags, cloud, tmp_path: Path) -> None:
        found = cloud("pretrain", "--data", tmp_path / "absent.csv", *tiny_flags, "--output-dir", tmp_path / "out")
        assert found.status == 2
        assert "absent.csv" in found.err

    @pytest.mark.parametrize(
        ("text", "message"),
        [("1 0 0 | 2i | Xx 1.0", "Xx"), ("1 0 0 | 99z | Cu 1.0", "99z"), ("hello", "hello")],
    )
    def test_an_unknown_word_is_named(
        self, strings, tiny_flags, cloud, tmp_path: Path, text: str, message: str
    ) -> None:
        pd.DataFrame({"scope": [*strings[:5], text]}).to_csv(tmp_path / "t.csv", index=False)
        found = cloud("pretrain", "--data", tmp_path / "t.csv", *tiny_flags, "--output-dir", tmp_path / "out")
        assert found.status == 2
        assert message in found.err

    def test_a_string_longer_than_the_model(self, strings, tiny_flags, cloud, tmp_path: Path) -> None:
        text = "1 0 0 | " + " ".join(["2i"] * 300) + " | Cu 1.0"
        pd.DataFrame({"scope": [*strings[:5], text]}).to_csv(tmp_path / "t.csv", index=False)
        found = cloud("pretrain", "--data", tmp_path / "t.csv", *tiny_flags, "--output-dir", tmp_path / "out")
        assert found.status == 2
        assert "longer than" in found.err

    def test_a_checkpoint_of_another_type(self, bert_folder, strings_table, tiny_flags, cloud, tmp_path: Path) -> None:
        flags = ["--data", strings_table, *tiny_flags, "--model", bert_folder, "--output-dir", tmp_path / "out"]
        found = cloud("pretrain", *flags)
        assert found.status == 2
        assert "bert" in found.err
        assert not (tmp_path / "out" / "model.safetensors").exists()

    def test_a_checkpoint_that_is_not_there(self, strings_table, tiny_flags, cloud, tmp_path: Path) -> None:
        flags = ["--data", strings_table, *tiny_flags, "--model", tmp_path / "absent", "--output-dir", tmp_path / "out"]
        found = cloud("pretrain", *flags)
        assert found.status == 2
        assert "absent" in found.err

    def test_strings_of_two_grammars(self, strings, tiny_flags, cloud, tmp_path: Path) -> None:
        pd.DataFrame({"scope": [*strings[:5], "1 0 0 | 2i 2i | Cu Cu"]}).to_csv(tmp_path / "t.csv", index=False)
        found = cloud("pretrain", "--data", tmp_path / "t.csv", *tiny_flags, "--output-dir", tmp_path / "out")
        assert found.status == 2
        assert "grammar" in found.err


def test_strings_are_read_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("scope\nb\na\nb\n\n")
    (tmp_path / "b.jsonl").write_text('{"scope": "c"}\n{"scope": null}\n{"scope": "a"}\n')
    assert read_strings([str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")]) == (["b", "a", "c"], None)
    (tmp_path / "c.csv").write_text("x\n1\n")
    with pytest.raises(TableError, match="scope"):
        read_strings([str(tmp_path / "a.csv"), str(tmp_path / "c.csv")])


def test_tokenized_strings_keep_order_and_length(pretrained: Path, strings: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    dataset = tokenize_strings(strings, tokenizer)
    assert dataset.num_rows == len(strings)
    assert [len(ids) for ids in dataset["input_ids"]] == [len(text.split()) + 2 for text in strings]
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in dataset["input_ids"][:]] == strings


def test_the_settings_of_the_strings_reach_the_checkpoint(cloud, tiny_flags, tmp_path: Path, caplog) -> None:
    from cloud_hf import ScopeEncoder

    examples = Path(__file__).parents[2] / "examples"
    assert cloud("encode", examples, "-o", tmp_path / "t.csv").status == 0
    flags = ["--data", tmp_path / "t.csv", "--output-dir", tmp_path / "out", *tiny_flags]
    assert cloud("pretrain", *flags).status == 0
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.encoder_settings == ScopeEncoder().settings
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encoder_settings == ScopeEncoder().settings
    assert config.grammar == "sites"
    assert ScopeEncoder.from_config(config).settings == ScopeEncoder().settings
    assert ScopeEncoder.from_settings(config.encoder_settings).settings == config.encoder_settings


def test_metrics_by_class_of_token_add_up(strings_table: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    flags = ["--data", strings_table, *tiny_flags, "--validation-fraction", "0.3", "--output-dir", tmp_path]
    assert cloud("pretrain", *flags, "--masking", "segment", "--segment-probability", "0.5").status == 0
    metrics = json.loads((tmp_path / "validation_results.json").read_text())
    names = [name for name in TOKEN_CLASSES if f"validation_masked_words_{name}" in metrics]
    assert set(names) >= {"generators", "wyckoff", "elements"}
    words = {name: metrics[f"validation_masked_words_{name}"] for name in names}
    assert 0 <= metrics["validation_masked_words"] - sum(words.values()) <= words["generators"]  # the rest is "|"
    for name in names:
        assert metrics[f"validation_perplexity_{name}"] > 1
        assert 0 <= metrics[f"validation_masked_accuracy_{name}"] <= 1


@pytest.mark.parametrize(
    "extra",
    [
        ["--packing", "true", "--packing-length", "64"],
        pytest.param(["--masking", "segment"], marks=pytest.mark.train),
    ],
)
def test_other_recipes_learn_too(extra: list[str], strings_table: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    flags = ["--data", strings_table, *tiny_flags, "--max-steps", 30, "--learning-rate", 5e-3, *extra]
    assert cloud("pretrain", *flags, "--validation-fraction", "0.2", "--output-dir", tmp_path).status == 0
    metrics = json.loads((tmp_path / "validation_results.json").read_text())
    assert metrics["validation_perplexity"] < 100  # 585 words; without training about 600


def test_a_new_model_can_have_the_chemistry_inputs(strings_table: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    chemistry = ["--element-descriptors", "true", "--site-multiplicity", "true", "--pooling", "cls_multiplicity"]
    assert cloud("pretrain", "--data", strings_table, *tiny_flags, *chemistry, "--output-dir", tmp_path).status == 0
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.element_descriptors, config.site_multiplicity, config.pooling) == (True, True, "cls_multiplicity")


def test_a_string_longer_than_a_packed_row_is_refused(strings_table: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    packing = ["--packing", "true", "--packing-length", 10, "--output-dir", tmp_path]
    found = cloud("pretrain", "--data", strings_table, *tiny_flags, *packing)
    assert found.status == 2
    assert "--packing-length" in found.err


def test_the_help_names_what_pretraining_can_do(cloud) -> None:
    shown = cloud("pretrain", "--help")
    assert shown.status == 0
    for flag in (
        "--masking",
        "--packing",
        "--segment-probability",
        "--resume-from-checkpoint",
        "--element-descriptors",
    ):
        assert flag in shown.out


@pytest.mark.slow
def test_compiled_training_learns_the_same(strings_table: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    flags = ["--data", strings_table, *tiny_flags, "--dropout", 0, "--validation-fraction", "0.2"]
    found = {}
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        folder = tmp_path / name
        assert cloud("pretrain", *flags, "--torch-compile", compiled, "--output-dir", folder).status == 0
        found[name] = json.loads((folder / "validation_results.json").read_text())["validation_loss"]
    assert found["compiled"] == pytest.approx(found["plain"], abs=1e-4)


def test_flags_of_a_new_model_do_not_reshape_a_checkpoint(cloud, pretrained: Path, strings_table: Path, tmp_path: Path):
    run = ["pretrain", "--data", strings_table, "--model", pretrained, "--output-dir", tmp_path / "out"]
    found = cloud(*run, "--site-multiplicity", "true", "--hidden-size", "32", "--max-steps", "1")
    assert found.status == 2
    assert "site_multiplicity is False, not True" in found.err
    assert "hidden_size is" not in found.err  # the checkpoint has it


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_an_output_folder_that_cannot_be_written(
    command: str, cloud, pretrained: Path, strings_table: Path, tmp_path: Path
):
    (tmp_path / "file").write_text("kept")
    flags = ["--model", pretrained, "--target", "gap:eV"] if command == "finetune" else []
    for folder, reason in ((tmp_path / "file", "it is a file"), (tmp_path / "file" / "below", "Not a directory")):
        found = cloud(command, "--data", strings_table, *flags, "--output-dir", folder)
        assert found.status == 2
        assert f"--output-dir {folder}: cannot be written ({reason}); give another folder." in found.err
    assert (tmp_path / "file").read_text() == "kept"


def test_the_refused_string_is_named(cloud, strings: list[str], tiny_flags: list[str], tmp_path: Path):
    pd.DataFrame({"scope": [*strings[:5], "0 0 0 | 1a | Xx 1.0"]}).to_csv(tmp_path / "t.csv", index=False)
    found = cloud("pretrain", "--data", tmp_path / "t.csv", *tiny_flags, "--output-dir", tmp_path / "out")
    assert found.status == 2
    assert "cloud-hf: error: '0 0 0 | 1a | Xx 1.0': " in found.err
    assert not (tmp_path / "out").exists()
