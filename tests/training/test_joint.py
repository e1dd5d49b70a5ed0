"""Joint training: recipes, the table of all labels, and a model that goes on exactly where it stopped."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cloud_hf import CloudForCrystalProperties, CloudForPropertyRegression, ScopeTokenizer
from cloud_hf.cli.recipes import parse_recipe
from cloud_hf.errors import CloudError, PhononDOSError, TableError
from cloud_hf.models.phonon_dos import DOS_EDGES
from cloud_hf.scope import parse
from cloud_hf.scope.generators import generator_words
from cloud_hf.training.joint import build_model, joint_config, predict_joint, train_joint
from cloud_hf.training.joint_arguments import JointArguments
from cloud_hf.training.joint_recipe import read_joint_recipe
from cloud_hf.training.joint_rows import JointCollator, JointRows
from cloud_hf.training.joint_table import build_joint_table

ELEMENTS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba", "Ti", "Zr", "Al", "Ga")
STRINGS = [
    f"{' '.join(generator_words(number))} | {element} {word} O {other}"
    for number, word, other in ((225, "4a", "4b"), (221, "1a", "3c"))
    for element in ELEMENTS
]
ELEMENT = f"{' '.join(generator_words(225))} | Cu 4a"

RECIPE: dict[str, Any] = {
    "exclude": ["benchmark"],
    "targets": {
        "band_gap": {"unit": "eV", "vintage": "A", "weight": 0.5},
        "other_gap": {"unit": "eV", "vintage": "B"},
        "bulk_modulus": {"unit": "GPa", "vintage": "A", "transform": "log"},
    },
    "vibrations": {"vintages": ["PBEsol", "measured"], "scales": {"dos": 40}},
    "sources": [
        {
            "table": "gaps", "vintage": "A", "where": {"kind": "old"}, "without": {"id": ["a-9"]},
            "targets": {"gap": ["band_gap", "eV"], "K": ["bulk_modulus", "GPa"]}, "label_within": {"K": [0.5, None]},
        },
        {"table": "by_id", "strings_of": "gaps", "vintage": "B", "targets": {"gap": ["other_gap", "eV"]}},
        {
            "table": "phonons", "vintage": "PBEsol", "within": {"imaginary": [0, 0.005]},
            "dos": {"column": "dos", "edges": [[0, 1000, 100]]}, "heat_capacity": {"cv": 300, "cell_cv": 100},
            "per_cell": ["cell_cv"],
        },
        {"table": "elements", "vintage": "measured", "debye_temperature": "theta"},
        {"table": "elements", "vintage": "A", "values": {"band_gap": 0}},
    ],
}  # fmt: skip


def write_recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes), encoding="utf-8")
    return path


def write_data(folder: Path) -> tuple[Path, Path]:
    """A folder of tables and one of their split: every sixth string is for validation."""
    data, split = folder / "data", folder / "split"
    data.mkdir()
    split.mkdir()
    chance = np.random.default_rng(0)
    dos = chance.uniform(0, 1, (len(STRINGS), 10))
    tables = {
        "gaps": (STRINGS, {
            "id": [f"a-{n}" for n in range(len(STRINGS))], "kind": "old", "gap": np.arange(float(len(STRINGS))),
            "K": 50.0 + np.arange(len(STRINGS)),
        }),
        "phonons": (STRINGS, {
            "dos": list(dos), "imaginary": 0.0, "cv": 20.0, "cell_cv": 30.0,
            "nsites": [parse(scope).n_atoms_primitive for scope in STRINGS],
        }),
        "elements": ([ELEMENT], {"theta": [343.0]}),
        "benchmark": (STRINGS[:1], {"gap": [1.0]}),
    }  # fmt: skip
    for name, (scopes, columns) in tables.items():
        pd.DataFrame({"scope": scopes} | columns).to_parquet(data / f"{name}.parquet")
        groups = [f"g{STRINGS.index(scope) if scope in STRINGS else 99}" for scope in scopes]
        numbers = [int(group[1:]) for group in groups]
        pd.DataFrame(
            {
                "row": range(len(scopes)),
                "id": columns.get("id", [str(row) for row in range(len(scopes))]),
                "scope": scopes,
                "group": groups,
                "fold": [number % 3 for number in numbers],
                "part": ["validation" if number % 6 == 1 else "train" for number in numbers],
                "error": None,
            }
        ).to_parquet(split / f"{name}.split.parquet")
    pd.DataFrame({"id": ["a-3", "a-4", "unknown"], "gap": [7.0, 8.0, 9.0]}).to_parquet(data / "by_id.parquet")
    return data, split


def change(path: Path, **columns: Any) -> None:
    pd.read_parquet(path).assign(**columns).to_parquet(path)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    return write_data(tmp_path)


# --- recipes


def test_the_recipe_of_the_bundled_model_can_be_read(root: Path) -> None:
    recipe = read_joint_recipe(root / "scripts" / "recipes" / "joint_table.yaml")
    assert all(target.unit for target in recipe.targets.values())
    assert recipe.vibrations.edges == DOS_EDGES
    assert recipe.temperatures == (50, 100, 200, 298.15, 300, 500, 1000)
    phonons = next(source for source in recipe.sources if source.table == "phonons")
    assert phonons.dos is not None
    assert phonons.dos.edges is not None
    assert len(phonons.dos.edges) == 201
    given = {target for source in recipe.sources for target, _ in source.targets.values()}
    assert given == set(recipe.targets)


def with_source(place: int, **entries: Any) -> dict[str, Any]:
    sources = [dict(source) for source in RECIPE["sources"]]
    sources[place] |= entries
    return {"sources": sources}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"targets": RECIPE["targets"] | {"band_gap": {"vintage": "A"}}}, "targets.band_gap lacks unit"),
        (with_source(0, targets={"gap": ["band_gap"]}), r"needs \[target, unit\]"),
        (with_source(0, targets={"gap": ["band_gap", "meV"]}), "in meV here and in eV"),
        (with_source(1, targets={"gap": ["band_gap", "eV"]}), "vintage 'B' is not that of band_gap"),
        (with_source(0, vintage="B"), "vintage 'B' is not that of"),
        (with_source(2, vintage="PBE"), "not among vibrations.vintages"),
        (with_source(0, targets={"gap": ["gap", "eV"]}), "no target 'gap'"),
        (with_source(2, dos={"column": "dos"}), "either edges or"),
        (with_source(2, dos={"column": "dos", "edges": [[0, 100, -10]]}), "ascend"),
        (with_source(2, per_cell=["cw"]), "per_cell names cw"),
        (with_source(0, colour="red"), "does not know colour"),
        ({"targets": {}}, "needs targets and sources|no target"),
        ({"extra": 1}, "unknown entries: extra"),
    ],
)
def test_recipes_that_mix_units_or_vintages_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write_recipe(tmp_path, **changes)
    with pytest.raises(CloudError, match=reason) as refused:
        read_joint_recipe(path)
    assert refused.value.source == str(path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", None])
def test_a_recipe_that_is_none_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CloudError, match="recipe"):
        read_joint_recipe(path)


JUNK = [3, -1.5, True, "text", [], [1, 2, 3], ["a", None], {"a": 1}, {"a": "b"}, {3: [[]]}, [{}], [[0, 1, 0]]]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all entries of a recipe."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, entry in entries for place in places(entry, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], junk)
    return copy


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_stands_in_a_recipe_it_is_read_or_refused(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("SafeLoader", "SafeDumper"):  # those in C, where there are, do the same ten times faster
        monkeypatch.setattr(yaml, kind, getattr(yaml, f"C{kind}", getattr(yaml, kind)))
    path, refused = tmp_path / "recipe.yaml", 0
    for number, place in enumerate(places(RECIPE)):
        for junk in JUNK[number % every :: every]:  # every kind somewhere in every mapping
            path.write_text(yaml.dump(replaced(RECIPE, place, junk), Dumper=yaml.SafeDumper), encoding="utf-8")
            try:
                read_joint_recipe(path)
            except CloudError as error:
                refused += error.source == str(path)
    assert refused > 12 // every * len(JUNK)
    path.write_bytes(b"targets: \xff\xfe")
    with pytest.raises(CloudError, match="cannot be read"):
        read_joint_recipe(path)


# --- the table


def test_labels_of_all_tables_meet_by_string(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    data, split = tables
    kinds = ["old"] * len(STRINGS)
    kinds[2] = "new"
    moduli = 50.0 + np.arange(len(STRINGS))
    moduli[5] = 0.0
    change(data / "gaps.parquet", kind=kinds, K=moduli)
    imaginary = np.zeros(len(STRINGS))
    imaginary[7] = 0.1
    change(data / "phonons.parquet", imaginary=imaginary)
    table, counts = build_joint_table(read_joint_recipe(write_recipe(tmp_path)), data, split)
    table = table.set_index("scope")
    assert len(table) == len(STRINGS)  # without the benchmark's, with the element
    assert STRINGS[0] not in table.index
    assert table.loc[STRINGS[1], "band_gap"] == 1
    assert math.isnan(table.loc[STRINGS[2], "band_gap"])
    assert math.isnan(table.loc[STRINGS[9], "band_gap"])
    assert table.loc[STRINGS[3], "other_gap"] == 7
    assert math.isnan(table.loc[STRINGS[5], "bulk_modulus"])
    assert table.loc[STRINGS[7], "dos"] is None or math.isnan(np.sum(table.loc[STRINGS[7], "dos"]))
    assert table.loc[ELEMENT, "band_gap"] == 0
    assert table.loc[ELEMENT, "debye_temperature"] == 343
    one = table.loc[STRINGS[4]]
    assert one.heat_capacity_300K == 20
    assert one.heat_capacity_100K == pytest.approx(30 / parse(STRINGS[4]).n_atoms_primitive)
    assert one.n_atoms == parse(STRINGS[4]).n_atoms_primitive
    given = pd.read_parquet(data / "phonons.parquet").dos[4]
    assert np.sum(one.dos) == pytest.approx(1)
    assert one.dos[:5].sum() == pytest.approx(given[0] / given.sum())  # 0 to 100 1/cm in five bins of 20
    assert counts["2: phonons"] == {"rows": len(STRINGS) - 1, "excluded crystals": 1, "too long": 0}
    assert counts["label: other_gap"] == {"train": 2, "validation": 0}


def test_rows_of_one_string_become_one(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    data, split = tables
    for name in ("gaps", "phonons"):  # a polymorph: the first two rows have the string of the third
        scopes = [STRINGS[2]] * 2 + STRINGS[2:]
        for path in (data / f"{name}.parquet", split / f"{name}.split.parquet"):
            change(path, scope=scopes)
        change(
            split / f"{name}.split.parquet",
            group=[f"g{STRINGS.index(scope)}" for scope in scopes],
            fold=[STRINGS.index(scope) % 3 for scope in scopes],
            part="train",
        )
    change(data / "gaps.parquet", gap=[5.0, 1.0, 3.0, *range(3, len(STRINGS))])
    change(split / "benchmark.split.parquet", group="elsewhere")
    table, _ = build_joint_table(read_joint_recipe(write_recipe(tmp_path)), data, split)
    one = table.set_index("scope").loc[STRINGS[2]]
    assert one.band_gap == 3  # the median
    dos = np.stack(pd.read_parquet(data / "phonons.parquet").dos[:3])
    mean = (dos / dos.sum(1, keepdims=True)).mean(0)
    assert one.dos[:5].sum() == pytest.approx(mean[0])


def test_the_first_source_that_knows_a_crystal_counts(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    data, split = tables
    by_id = {"table": "by_id", "strings_of": "gaps", "vintage": "A", "targets": {"gap": ["band_gap", "eV"]}}
    known = pd.read_parquet(data / "gaps.parquet").gap
    change(data / "gaps.parquet", gap=known.where(known != 4))  # of the two in `by_id` it knows one
    for sources, gaps in (([*RECIPE["sources"], by_id], (3, 8)), ([by_id, *RECIPE["sources"]], (7, 8))):
        table, _ = build_joint_table(read_joint_recipe(write_recipe(tmp_path, sources=sources)), data, split)
        assert (*table.set_index("scope").band_gap.loc[STRINGS[3:5]],) == gaps


def test_folds_that_split_a_crystal_are_refused(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    data, split = tables
    path = split / "phonons.split.parquet"
    change(path, part="train")
    recipe = read_joint_recipe(write_recipe(tmp_path))
    with pytest.raises(TableError, match="more than one part, first the scope"):
        build_joint_table(recipe, data, split)
    change(path, part=pd.read_parquet(split / "gaps.split.parquet").part, group="one")
    with pytest.raises(TableError, match="more than one fold, first the group 'one'"):
        build_joint_table(recipe, data, split)


@pytest.mark.parametrize(
    ("bad", "reason"), [(-1.0, "negative"), (math.nan, "not finite"), (0.0, "cannot be normalised")]
)
def test_densities_of_states_that_are_none_are_refused(
    tmp_path: Path, tables: tuple[Path, Path], bad: float, reason: str
) -> None:
    data, split = tables
    dos = [np.ones(10) for _ in STRINGS]
    dos[3] = np.full(10, bad)
    change(data / "phonons.parquet", dos=dos)
    with pytest.raises(PhononDOSError, match=reason) as refused:
        build_joint_table(read_joint_recipe(write_recipe(tmp_path)), data, split)
    assert refused.value.row == 3
    assert refused.value.source == str(data / "phonons.parquet")


def test_missing_columns_are_named(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    data, split = tables
    pd.read_parquet(data / "gaps.parquet").drop(columns="gap").to_parquet(data / "gaps.parquet")
    with pytest.raises(TableError, match="gap"):
        build_joint_table(read_joint_recipe(write_recipe(tmp_path)), data, split)


# --- training


@pytest.fixture(scope="module")
def encoder(make_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a head of `band_gap`, and of another target."""
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    torch.manual_seed(0)
    config = make_config(
        grammar="sites", canonical=True, element_descriptors=True, site_multiplicity=True, pooling="cls_multiplicity",
        target_names=["hardness", "band_gap"], target_units=["GPa", "eV"], target_mean=[1.0, 2.0],
        target_scale=[1.0, 3.0], head_dropout=0.0, hidden_dropout_prob=0.1, initializer_range=0.2,
    )  # fmt: skip
    CloudForPropertyRegression(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return folder


def test_heads_of_the_same_name_go_on_and_spectra_begin_at_their_mean(
    tmp_path: Path, tables: tuple[Path, Path], encoder: Path
) -> None:
    recipe = read_joint_recipe(write_recipe(tmp_path))
    table, _ = build_joint_table(recipe, *tables)
    tokenizer = ScopeTokenizer()
    rows = JointRows(table, recipe, tokenizer)
    own = JointArguments(recipe="", data="", split="", model=str(encoder))
    model = build_model(str(encoder), joint_config(own, recipe, table), rows)
    found = predict_joint(model, rows, 8, tokenizer.pad_token_id)
    before = CloudForPropertyRegression.from_pretrained(encoder).eval()
    tokens = tokenizer(rows.scopes, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = before(tokens["input_ids"], tokens["attention_mask"]).logits[:, 1]
    np.testing.assert_allclose(found["predicted_band_gap"], wanted.numpy(), rtol=1e-4, atol=1e-4)
    assert np.ptp(found["predicted_band_gap"]) > 0.01
    flat = np.abs(np.diff(DOS_EDGES) @ np.ones(85))
    assert found["dos_area"].mean() < 0.1 * flat


def test_a_model_of_all_heads_goes_on_with_every_output(
    tmp_path: Path, tables: tuple[Path, Path], encoder: Path
) -> None:
    recipe = read_joint_recipe(write_recipe(tmp_path))
    table, _ = build_joint_table(recipe, *tables)
    tokenizer = ScopeTokenizer()
    rows = JointRows(table, recipe, tokenizer)
    some = table[table.part == "train"]  # with another mean and deviation of each target
    own = JointArguments(recipe="", data="", split="", model=str(encoder))
    first = build_model(str(encoder), joint_config(own, recipe, some), JointRows(some, recipe, tokenizer))
    first.save_pretrained(tmp_path / "first")
    tokenizer.save_pretrained(tmp_path / "first")
    config = joint_config(own, recipe, table)
    assert config.target_mean != first.config.target_mean
    second = build_model(str(tmp_path / "first"), config, rows)
    wanted, found = (predict_joint(model, rows, 8, tokenizer.pad_token_id) for model in (first, second))
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-4, atol=1e-4)


def test_rows_hold_every_label_and_repeat_the_vibrational_ones(tmp_path: Path, tables: tuple[Path, Path]) -> None:
    data, split = tables
    change(data / "phonons.parquet", imaginary=[0.0] * 12 + [1.0] * 12)
    recipe = read_joint_recipe(write_recipe(tmp_path))
    table, _ = build_joint_table(recipe, data, split)
    rows = JointRows(table, recipe, ScopeTokenizer(), repeat_vibrations=3)
    vibrational = 11 + 1  # the first twelve but the benchmark's, and the element
    assert len(rows) == len(table) + 2 * vibrational
    assert len(rows.lengths) == len(rows)
    place = int(np.flatnonzero(np.array(rows.scopes) == ELEMENT)[0])
    often = JointRows(table, recipe, ScopeTokenizer(), repeat_vibrations=3, repeat_elements=5)
    assert (often.order == place).sum() == 5
    assert len(often) == len(rows) + 2
    batch = JointCollator(ScopeTokenizer().pad_token_id)([rows[place], rows[0]])
    assert batch["debye_temperature_labels"][0] == 343
    assert batch["dos_labels"].shape == (2, 85)
    assert torch.isnan(batch["dos_labels"][0]).all()
    assert batch["attention_mask"].sum(1).tolist() == [len(rows.input_ids[place]), len(rows.input_ids[0])]
    assert JointRows(table, recipe, ScopeTokenizer()).digest != rows.digest
    with pytest.raises(TableError, match="lacks the columns band_gap"):
        JointRows(table.drop(columns="band_gap"), recipe, ScopeTokenizer())


def flags(tmp_path: Path, tables: tuple[Path, Path], encoder: Path, *more: str) -> list[str]:
    data, split = tables
    return [
        "--recipe", str(write_recipe(tmp_path)), "--data", str(data), "--split", str(split), "--model", str(encoder),
        "--per-device-train-batch-size", "8", "--max-steps", "6", "--save-strategy", "steps", "--save-steps", "2",
        "--use-cpu", "true", "--matmul-precision", "medium", "--disable-tqdm", "true",
        "--learning-rate", "3e-3", "--seed", "1", *more,
    ]  # fmt: skip


def test_stopped_and_resumed_is_as_if_uninterrupted(tmp_path: Path, tables: tuple[Path, Path], encoder: Path) -> None:
    argv = flags(tmp_path, tables, encoder)
    told = train_joint(
        *parse_recipe("joint", JointArguments, [*argv, "--output-dir", str(tmp_path / "runs" / "whole")])
    )
    whole, resumed = tmp_path / "runs" / "whole", tmp_path / "runs" / "resumed"
    shutil.copytree(whole / "checkpoint-4", resumed / "checkpoint-4")
    argv += ["--output-dir", str(resumed), "--resume-from-checkpoint", "true"]
    again = train_joint(*parse_recipe("joint", JointArguments, argv))
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert told == again
    assert torch.get_float32_matmul_precision() == "highest"
    assert "band_gap: " in told
    metrics = json.loads((whole / "metrics.json").read_text())["validation"]
    assert metrics["band_gap"]["unit"] == "eV"
    assert metrics["band_gap"]["n"] == metrics["dos"]["n"] == 4
    assert metrics["heat_capacity_300K"]["unit"] == "J/(mol atom K)"
    predictions = pd.read_parquet(whole / "predictions.parquet")
    assert (predictions.part == "validation").all()
    assert len(predictions) == 4
    model = CloudForCrystalProperties.from_pretrained(whole)
    assert model.config.vibration_scales == {"dos": 40}
    assert model.config.target_weights == [0.5, 1.0, 1.0]
    assert "CloudForCrystalProperties" in (whole / "README.md").read_text()


def test_folds_and_all_rows(tmp_path: Path, tables: tuple[Path, Path], encoder: Path) -> None:
    argv = flags(tmp_path, tables, encoder, "--max-steps", "1")
    out = tmp_path / "runs"
    train_joint(*parse_recipe("joint", JointArguments, [*argv, "--output-dir", str(out / "fold_1"), "--fold", "1"]))
    assert set(pd.read_parquet(out / "fold_1" / "predictions.parquet").fold) == {1}
    everything = [*argv, "--output-dir", str(out / "all"), "--all-rows", "true"]
    assert train_joint(*parse_recipe("joint", JointArguments, everything)) == ""
    assert not (out / "all" / "metrics.json").exists()
    with pytest.raises(CloudError, match="either --fold or --all-rows"):
        parse_recipe("joint", JointArguments, [*everything, "--fold", "0"])
    with pytest.raises(TableError, match="--fold leaves no row on one side"):
        train_joint(*parse_recipe("joint", JointArguments, [*argv, "--output-dir", str(out / "x"), "--fold", "9"]))


def test_weights_of_a_run_change_its_loss_and_not_the_table(
    tmp_path: Path, tables: tuple[Path, Path], encoder: Path
) -> None:
    argv = flags(tmp_path, tables, encoder, "--max-steps", "2")
    out = tmp_path / "runs"
    train_joint(*parse_recipe("joint", JointArguments, [*argv, "--output-dir", str(out / "recipe")]))
    kept = (out / "joint.json").stat().st_mtime_ns
    argv += ["--output-dir", str(out / "other"), "--target-weights", "bulk_modulus=4", "band_gap=0"]
    train_joint(*parse_recipe("joint", JointArguments, argv))
    assert (out / "joint.json").stat().st_mtime_ns == kept
    weights = [
        CloudForCrystalProperties.from_pretrained(out / run).config.target_weights for run in ("recipe", "other")
    ]
    assert weights == [[0.5, 1.0, 1.0], [0.0, 4.0, 1.0]]
    assert (out / "recipe" / "model.safetensors").read_bytes() != (out / "other" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("given", ["band_gap", "=2", "band_gap=", "band_gap=-1", "band_gap=nan", "band_gap=inf"])
def test_weights_that_are_none_are_refused(given: str) -> None:
    with pytest.raises(CloudError, match="NAME=WEIGHT"):
        JointArguments("recipe", "data", "split", "model", target_weights=[given])


def test_a_weight_of_an_unknown_target_or_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"no target gap; it has band_gap, bulk_modulus, other_gap\."):
        read_joint_recipe(write_recipe(tmp_path)).weighted({"gap": 2.0})
    with pytest.raises(CloudError, match="each name once"):
        JointArguments("recipe", "data", "split", "model", target_weights=["band_gap=1", "band_gap=2"])
