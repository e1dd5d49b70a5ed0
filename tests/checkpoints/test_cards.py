"""Model cards: what they must tell, numbers from result files only, and whose card it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, pipeline

from cloud_hf import (
    CloudConfig,
    CloudForDebye,
    CloudForMaskedLM,
    CloudForPropertyRegression,
    CloudModel,
    ScopeTokenizer,
    bundled_heads,
    bundled_model,
)
from cloud_hf.checkpoints.cards import CARD_FILE, is_generated, model_card, write_card
from cloud_hf.checkpoints.records import checksum_of_weights, read_records, record_training_data
from cloud_hf.models.configuration_cloud import CUSTOM_PIPELINES

TWO = {"target_names": ["band_gap", "bulk_modulus"], "target_units": ["eV", "GPa"]}
ROW = {"mae": 0.25, "mae_mad": 0.5, "rmse": 0.3, "r2": 0.7, "median_absolute_error": 0.2, "mad": 0.5, "n": 40}
METRICS = {
    part: {name: {"unit": unit, **ROW, "n": n} for name, unit in zip(*TWO.values(), strict=True)}
    for part, n in (("train", 160), ("validation", 40))
}


@pytest.fixture
def trained(make_config: Callable[..., CloudConfig], tmp_path: Path) -> Path:
    """A folder as fine-tuning leaves it."""
    folder = tmp_path / "trained"
    CloudForPropertyRegression(make_config(**TWO, encoder_settings="spglib 2.7; grammar=sites")).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    record_training_data(folder, "fine-tuning", ["data/labels.csv"], 200, data_license="CC-BY-4.0", license="mit")
    return folder


def section(card: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)
    assert found, title
    return found.group(1)


def cells(card: str, *first: str) -> list[str]:
    """Cells of the table row that begins with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    return next(row for row in rows if row[: len(first)] == list(first))


class TestWhatItTells:
    def test_task_and_units(self, trained: Path) -> None:
        task = section(model_card(trained), "Task")
        assert "crystal-property" in task
        assert cells(task, "band_gap") == ["band_gap", "eV"]
        assert cells(task, "bulk_modulus") == ["bulk_modulus", "GPa"]

    def test_training_data_and_licences(self, trained: Path) -> None:
        data = section(model_card(trained), "Training data and licences")
        assert cells(data, "fine-tuning") == ["fine-tuning", "labels.csv", "200", "CC-BY-4.0"]
        assert "Licence of the weights: mit." in data

    def test_a_debye_model_names_all_that_it_learned(
        self, make_config: Callable[..., CloudConfig], tmp_path: Path
    ) -> None:
        CloudForDebye(make_config(debye_targets=["internal_energy", "heat_capacity"])).save_pretrained(tmp_path)
        task = section(model_card(tmp_path), "Task")
        assert "internal_energy_per_atom" in task
        assert "J/(mol atom)" in task
        assert "heat_capacity_per_atom" in task

    def test_errors_with_unit_and_rows_beside_the_mean_predictor(self, trained: Path) -> None:
        row = cells(section(model_card(trained), "Errors"), "validation", "bulk_modulus")
        assert row[2:4] == ["40", "GPa"]
        assert [float(cell) for cell in row[4:]] == [0.25, 0.5, 0.5, 0.2, 0.3, 0.7]

    def test_what_fine_tuning_records_stands_beside_in_its_words(self, trained: Path) -> None:
        own = {"mean": {"mae": 0.61}, "trees": {"mae": 0.33}}
        rows = {"gap": {"unit": "eV", **ROW, "baselines": own, "seeds": {"mae": [0.2, 0.3]}}}
        (trained / "metrics.json").write_text(json.dumps({"validation": rows}))
        errors = section(model_card(trained), "Errors")
        row = dict(zip(cells(errors, "rows"), cells(errors, "validation"), strict=True))
        assert (row["MAE of the mean"], row["MAE of trees"], row["MAE:MAD"]) == ("0.61", "0.33", "0.5")
        assert "mean of the training rows" in errors
        assert "means over 2 seeds" in errors

    @pytest.mark.parametrize("nested", [True, False])
    def test_recorded_baselines_stand_beside(self, trained: Path, nested: bool) -> None:
        errors = {"band_gap": {"mae": 0.4}}
        baselines = {"extra trees": {"validation": errors} if nested else errors}
        (trained / "metrics.json").write_text(json.dumps(METRICS | {"baselines": baselines}))
        card = model_card(trained)
        header = cells(card, "rows", "target")
        column = header.index("MAE of extra trees")
        assert cells(card, "validation", "band_gap")[column] == "0.4"
        assert cells(card, "validation", "bulk_modulus")[column] == "-"
        assert cells(card, "train", "band_gap")[column] == "-"

    def test_baselines_of_a_fine_tuning_stand_beside(self, trained: Path) -> None:
        """In the row of their target, as `cloud-hf finetune` writes them; the mean has its column already."""
        metrics = json.loads(json.dumps(METRICS))
        metrics["validation"]["band_gap"]["baselines"] = {"mean": {"mae": 0.9}, "trees": {"mae": 0.4}}
        (trained / "metrics.json").write_text(json.dumps(metrics))
        card = model_card(trained)
        header = cells(card, "rows", "target")
        assert [name for name in header if name.startswith("MAE of ")] == ["MAE of the mean", "MAE of trees"]
        assert cells(card, "validation", "band_gap")[header.index("MAE of trees")] == "0.4"

    def test_limits_settings_and_citation(self, trained: Path) -> None:
        card = model_card(trained)
        assert "40 rows or more" in section(card, "Limits")
        assert cells(card, "strings made with")[1] == "spglib 2.7; grammar=sites"
        assert "2506.17345" in section(card, "Citation")

    def test_metadata(self, trained: Path) -> None:
        data = ModelCard(model_card(trained, repo_id="owner/gap", datasets=["owner/gaps"])).data
        assert (data.license, data.library_name, data.model_name) == ("mit", "transformers", "gap")
        assert data.datasets == ["owner/gaps"]
        assert {"crystal-property", "band_gap", "bulk_modulus"} <= set(data.tags)
        found = {(result.task_name, result.metric_type): result for result in data.eval_results}
        assert found["band_gap", "mae"].metric_name == "MAE (eV), N = 40"
        assert found["bulk_modulus", "mad"].metric_value == 0.5
        assert found["band_gap", "mae"].dataset_name == "labels.csv, validation rows", "no training error among them"

    def test_nothing_recorded_is_said(self, make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
        CloudForDebye(make_config()).save_pretrained(tmp_path)
        card = model_card(tmp_path)
        assert "Training data: not recorded." in card
        assert "Licence of the weights: not recorded." in card
        assert "Errors of these weights: not recorded." in card
        assert "nothing tells how well" in section(card, "Limits")
        assert ModelCard(card).data.license is None

    @pytest.mark.parametrize(
        ("kind", "tag", "loads"),
        [
            (CloudModel, "feature-extraction", "AutoModel.from_pretrained"),
            (CloudForMaskedLM, "fill-mask", "AutoModelForMaskedLM.from_pretrained"),
            (CloudForDebye, "other", "pipeline(model="),
            (CloudConfig, "other", "AutoConfig.from_pretrained"),
            (ScopeTokenizer, "other", "AutoTokenizer.from_pretrained"),
        ],
    )
    def test_of_each_kind(
        self, make_config: Callable[..., CloudConfig], tmp_path: Path, kind: Any, tag: str, loads: str
    ) -> None:
        config = make_config()
        made = config if kind is CloudConfig else ScopeTokenizer() if kind is ScopeTokenizer else kind(config)
        made.save_pretrained(tmp_path)
        card = model_card(tmp_path, repo_id="owner/name")
        assert ModelCard(card).data.pipeline_tag == tag
        code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
        assert code
        assert loads in code.group(1)
        compile(code.group(1), "card", "exec")
        assert len(code.group(1).splitlines()) <= 6


class TestWhoseErrors:
    def test_errors_of_other_weights_are_not_told(self, trained: Path, make_config: Callable[..., CloudConfig]) -> None:
        assert read_records(trained).metrics == METRICS
        CloudForPropertyRegression(make_config(**TWO)).save_pretrained(trained)
        assert read_records(trained).metrics == {}
        assert "Errors of these weights: not recorded." in model_card(trained)

    def test_the_checksum_is_that_of_the_values(self, trained: Path, tmp_path: Path) -> None:
        model = CloudForPropertyRegression.from_pretrained(trained)
        model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
        assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
        assert checksum_of_weights(tmp_path / "shards") == checksum_of_weights(trained)
        model.to(dtype=__import__("torch").bfloat16).save_pretrained(tmp_path / "other")
        assert checksum_of_weights(tmp_path / "other") != checksum_of_weights(trained)
        assert checksum_of_weights(tmp_path) is None

    @pytest.mark.parametrize("head", bundled_heads())
    def test_bundled_checkpoints_have_theirs(self, head: str) -> None:
        records = read_records(Path(bundled_model(head)))
        assert records.metrics
        assert records.license
        assert all(step["rows"] > 0 and step["license"] for step in records.steps)

    def test_steps_are_taken_over(self, trained: Path, make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
        CloudForPropertyRegression(make_config(**TWO)).save_pretrained(tmp_path / "next")
        record_training_data(tmp_path / "next", "fine-tuning", ["more.csv"], 7, model=str(trained))
        steps = read_records(tmp_path / "next").steps
        assert [(step["data"], step["rows"], step["license"]) for step in steps] == [
            (["labels.csv"], 200, "CC-BY-4.0"),
            (["more.csv"], 7, None),
        ]
        assert steps[-1]["model"] == "trained"


class TestWhoseCard:
    def test_a_generated_card_is_renewed(self, trained: Path) -> None:
        assert write_card(trained)
        first = (trained / CARD_FILE).read_text()
        assert is_generated(first)
        assert write_card(trained)
        assert (trained / CARD_FILE).read_text() == first

    @pytest.mark.parametrize(
        "edit",
        [
            lambda text: text.replace("## Limits\n", "## Limits\n\n- Not for metals.\n"),
            lambda text: text.replace("license: mit", "license: cc-by-4.0"),
            lambda text: re.sub(r"<!--.*?-->", "", text),
            lambda text: "# Mine\n",
            lambda text: "",
        ],
        ids=["text", "metadata", "mark", "other", "empty"],
    )
    def test_an_edited_card_stays(self, trained: Path, edit: Callable[[str], str]) -> None:
        write_card(trained)
        edited = edit((trained / CARD_FILE).read_text())
        (trained / CARD_FILE).write_text(edited)
        assert not is_generated(edited)
        assert not write_card(trained)
        assert (trained / CARD_FILE).read_text() == edited

    def test_added_tags_are_no_edit_and_stay(self, trained: Path) -> None:
        write_card(trained)
        card = ModelCard.load(trained / CARD_FILE)
        card.data.tags.append("mine")
        card.save(trained / CARD_FILE)
        assert write_card(trained)
        assert "mine" in ModelCard.load(trained / CARD_FILE).data.tags

    def test_what_the_user_gave_once_stays(self, make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
        CloudForDebye(make_config()).save_pretrained(tmp_path)
        write_card(tmp_path, license="cc-by-4.0", datasets=["owner/phonons"])
        write_card(tmp_path)
        data = ModelCard.load(tmp_path / CARD_FILE).data
        assert (data.license, data.datasets) == ("cc-by-4.0", ["owner/phonons"])


class TestTheFolder:
    """What saving leaves beside the weights, without a word from the user."""

    def test_a_saved_head_opens_as_a_pipeline(
        self, make_config: Callable[..., CloudConfig], tmp_path: Path, scopes: list[str]
    ) -> None:
        CloudForDebye(make_config()).save_pretrained(tmp_path)
        ScopeTokenizer().save_pretrained(tmp_path)
        predict = pipeline("crystal-property", model=str(tmp_path))
        assert type(predict).__module__ == "cloud_hf.models.pipeline_cloud"
        remote = pipeline(model=str(tmp_path), trust_remote_code=True)
        assert type(remote).__module__.startswith("transformers_modules.")
        assert predict(scopes[0]) == remote(scopes[0])
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            pipeline(model=str(tmp_path))

    @pytest.mark.parametrize("trust", [False, True])
    def test_saved_again_it_holds_the_same_files(
        self, make_config: Callable[..., CloudConfig], tmp_path: Path, trust: bool
    ) -> None:
        CloudForDebye(make_config()).save_pretrained(tmp_path / "first")
        ScopeTokenizer().save_pretrained(tmp_path / "first")
        task, flag = (None, True) if trust else ("crystal-property", None)
        predict = pipeline(task, model=str(tmp_path / "first"), trust_remote_code=flag)
        predict.model.save_pretrained(tmp_path / "model")
        predict.save_pretrained(tmp_path / "pipeline")
        names, config = (
            {folder: read(tmp_path / folder) for folder in ("first", "model", "pipeline")}
            for read in (
                lambda folder: {path.name for path in folder.iterdir()},
                lambda folder: json.loads((folder / "config.json").read_text()),
            )
        )
        assert names["pipeline"] == names["first"] == names["model"] | {"tokenizer_config.json", "vocab.txt"}
        assert all(found["custom_pipelines"] == CUSTOM_PIPELINES for found in config.values())

    def test_an_encoder_has_no_pipeline(self, make_config: Callable[..., CloudConfig], tmp_path: Path) -> None:
        CloudForDebye(make_config()).save_pretrained(tmp_path / "debye")
        CloudModel.from_pretrained(tmp_path / "debye").save_pretrained(tmp_path / "encoder")
        config = json.loads((tmp_path / "encoder" / "config.json").read_text())
        assert "custom_pipelines" not in config
        assert config["auto_map"]["AutoModelForSequenceClassification"].endswith(".CloudForPropertyRegression")

    def test_a_card_is_written_and_one_by_hand_stays(
        self, make_config: Callable[..., CloudConfig], tmp_path: Path
    ) -> None:
        model = CloudForDebye(make_config())
        model.save_pretrained(tmp_path)
        assert is_generated((tmp_path / CARD_FILE).read_text())
        (tmp_path / CARD_FILE).write_text("# Mine\n")
        model.save_pretrained(tmp_path)
        assert (tmp_path / CARD_FILE).read_text() == "# Mine\n"

    def test_records_go_with_the_same_weights_only(self, trained: Path, tmp_path: Path) -> None:
        model = CloudForPropertyRegression.from_pretrained(trained)
        model.save_pretrained(tmp_path / "same")
        assert read_records(tmp_path / "same") == read_records(trained)
        model.classifier.layers[-1].bias.data += 1
        model.save_pretrained(tmp_path / "changed")
        assert not (tmp_path / "changed" / "metrics.json").exists()
        assert "Errors of these weights: not recorded." in (tmp_path / "changed" / CARD_FILE).read_text()

    @pytest.mark.parametrize("head", ["heat_capacity", "band_gap"])
    def test_a_bundled_checkpoint_saved_again_keeps_its_records(self, head: str, tmp_path: Path) -> None:
        AutoModelForSequenceClassification.from_pretrained(bundled_model(head)).save_pretrained(tmp_path)
        assert read_records(tmp_path) == read_records(Path(bundled_model(head)))

    def test_a_user_s_subclass_loads_as_the_class_it_derives_from(
        self, make_config: Callable[..., CloudConfig], tmp_path: Path, scopes: list[str]
    ) -> None:
        class MyDebye(CloudForDebye):
            pass

        model = MyDebye(make_config()).eval()
        model.save_pretrained(tmp_path)
        ScopeTokenizer().save_pretrained(tmp_path)
        assert type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is CloudForDebye
        assert "(`CloudForDebye`)" in (tmp_path / CARD_FILE).read_text()
        found = pipeline("crystal-property", model=model, tokenizer=ScopeTokenizer())(scopes[0])
        assert found == pipeline("crystal-property", model=str(tmp_path))(scopes[0])
        assert {quantity["name"] for quantity in found} == {"debye_temperature", "heat_capacity_per_atom"}
