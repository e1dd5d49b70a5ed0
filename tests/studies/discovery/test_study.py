"""The study of stable crystals as a command: energies without a hull, classes with one, files and refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from cloud_hf.cli.main import main
from cloud_hf.errors import CloudError
from cloud_hf.studies.discovery.files import DISTANCE, ENERGY, UNIQUE, checksum, read_hull
from cloud_hf.studies.discovery.study import NOMAD_TARGETS, Arguments

N_TRAIN, N_SEEN = 60, 5


@pytest.fixture(scope="module")
def tables(crystals: Callable[[int], pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with 60 crystals to learn from, 60 as WBM, of which 5 are known and one is none, a hull and NOMAD."""
    folder = tmp_path_factory.mktemp("discovery")
    table = crystals(120).rename(columns={"energy": "formation_energy_per_atom"})
    train = table.iloc[:N_TRAIN].copy()
    train.loc[train.index[:2], "formation_energy_per_atom"] = np.nan
    train.to_parquet(folder / "mp.parquet")
    wbm = table.iloc[N_TRAIN - N_SEEN : 120 - N_SEEN].reset_index(drop=True)
    wbm["id"] = [f"wbm-1-{row + 1}" for row in range(len(wbm))]
    wbm["formation_energy_per_atom"] += 0.4  # other settings
    wbm.at[9, "numbers"] = [3, 300]
    wbm.to_parquet(folder / "wbm.parquet")
    distance = np.linspace(-0.3, 0.5, len(wbm)).round(3)
    hull = pd.DataFrame(
        {
            "material_id": wbm["id"],
            ENERGY: wbm["formation_energy_per_atom"],
            DISTANCE: distance,
            UNIQUE: distance != 0.5,
        }
    )
    extra = hull.iloc[:1].assign(material_id="wbm-5-1")
    pd.concat([hull, extra]).to_csv(folder / "summary.csv.gz", index=False)
    nomad = table.iloc[:40].rename(columns={"formation_energy_per_atom": "formation_energy_ev_natom", "theta": "x"})
    nomad.assign(bandgap_energy_ev=nomad["x"] / 100).to_parquet(folder / "nomad.parquet")
    return folder


@pytest.fixture
def command(tables: Path, encoder: Path, tmp_path: Path) -> list[str]:
    data = [str(tables / "mp.parquet"), str(tables / "wbm.parquet")]
    flags = ["--model", str(encoder), "--max-steps", "8", "--no-baselines", "--out", str(tmp_path / "out")]
    return ["study", "discovery", "--data", *data, *flags]


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], Any]:
    return lambda: json.loads((tmp_path / "out/results.json").read_text())["results"]


class TestEnergies:
    def test_without_a_hull(self, command: list[str], results: Callable[[], Any], tmp_path: Path) -> None:
        pytest.importorskip("sklearn")
        command.remove("--no-baselines")
        assert main(command) == 0
        found = results()
        assert found["rows"]["train"]["labelled"] == N_TRAIN - 2
        test = found["rows"]["test"]
        assert (test["rows"], test["encoded"], test["failed"], test["labelled_and_seen"]) == (60, 59, 1, N_SEEN)
        assert {source for sources in test["failures"].values() for source in sources} == {"wbm-1-10"}
        energies = found["energies"]
        assert energies["unseen, as predicted"]["n"] == 59 - N_SEEN
        assert energies["all, as predicted"]["n"] == 59
        for arm in ("model", "trees", "mean"):
            raw, corrected = (energies[f"unseen, {kind}"]["arms"][arm] for kind in ("as predicted", "offset removed"))
            assert corrected["mae"] < raw["mae"]
        offsets = energies["unseen, offset removed"]["offsets"]["trees"]
        assert offsets == pytest.approx([-0.4, -0.4], abs=0.15)
        assert "difference" in energies["unseen, as predicted"]["arms"]["model"]
        report = (tmp_path / "out/report.md").read_text()
        assert "2023-12-13-wbm-summary.csv.gz" in report  # what to download
        assert "Wrenformer (published)" in report
        assert "stability" not in found
        for name in ("parity.png", "errors.png"):
            assert (tmp_path / "out" / name).stat().st_size > 5000
        predictions = pd.read_csv(tmp_path / "out/predictions_model.csv")
        assert [*predictions.columns] == ["material_id", "prediction"]
        assert predictions["material_id"].tolist() == [f"wbm-1-{row}" for row in range(1, 61)]
        assert predictions["prediction"].isna().tolist() == [row == 9 for row in range(60)]

    def test_a_second_run_computes_nothing_and_other_tables_are_refused(
        self, command: list[str], results: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        command = [*command, "--max-steps", "1"]
        assert main(command) == 0
        before = results()

        def nothing(*_: object) -> None:
            raise AssertionError("a cell that is done is computed again")

        monkeypatch.setattr("cloud_hf.studies.discovery.study.fit_and_predict", nothing)
        assert main(command) == 0
        assert results() == before
        place = command.index("--data") + 1
        command[place], command[place + 1] = command[place + 1], command[place]
        assert main(command) == 2
        assert "test_table was" in capsys.readouterr().err


class TestHull:
    def test_classes(self, command: list[str], tables: Path, results: Callable[[], Any], tmp_path: Path) -> None:
        assert main([*command, "--hull", str(tables / "summary.csv.gz")]) == 0
        found = results()
        stability = found["stability"]
        assert (stability["rows"], stability["without_string"], stability["not_in_test_table"]) == (60, 1, 1)
        full, unique, best = stability["arms"]["model"].values()
        assert (full["n"], full["missing"]) == (60, 1)
        assert (unique["n"], best["n"]) == (59, 58)  # the crystal without a string is among the unique ones
        # by hand: predicted distance = true distance + predicted - true energy
        hull = pd.read_csv(tables / "summary.csv.gz").set_index("material_id")
        energy = pd.read_csv(tmp_path / "out/predictions_model.csv").set_index("material_id")["prediction"]
        rows = hull.loc[energy.index]
        called = (rows[DISTANCE] + energy - rows[ENERGY]) <= 0
        assert full["TP"] == int((called & (rows[DISTANCE] <= 0)).sum())
        assert full["FP"] == int((called & (rows[DISTANCE] > 0)).sum())
        # the offset of +0.4 eV/atom makes all look too stable
        removed = stability["arms"]["model, offset removed"]["full"]
        assert removed["FP"] < full["FP"]
        assert found["hull_file"]["known_as"] is None
        for name in ("hull.png", "cumulative.png"):
            assert (tmp_path / "out" / name).stat().st_size > 5000

    @pytest.mark.train
    def test_structures_of_the_benchmark(
        self, command: list[str], tables: Path, results: Callable[[], Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "init-structs.jsonl.gz"
        with gzip.open(path, "wt") as stream:
            for row in pd.read_parquet(tables / "wbm.parquet").drop(index=9).to_dict("records"):
                sites = np.reshape(row["frac_coords"], (-1, 3))
                structure = Structure(np.reshape(row["lattice"], (3, 3)), row["numbers"], sites)
                line = {"material_id": row["id"], "formula_from_cse": "x", "initial_structure": structure.as_dict()}
                stream.write(json.dumps(line) + "\n")
        command[command.index("--data") + 2] = str(path)
        command = [*command, "--max-steps", "1"]
        assert main(command) == 2  # no labels without the summary
        assert main([*command, "--hull", str(tables / "summary.csv.gz")]) == 0
        assert results()["stability"]["rows"] == 59

    def test_what_is_no_summary(self, tables: Path, tmp_path: Path) -> None:
        hull = pd.read_csv(tables / "summary.csv.gz")
        for change, words in (
            (hull.drop(columns=UNIQUE), "no column unique_prototype"),
            (hull.assign(**{DISTANCE: "far"}), DISTANCE),
            (hull.assign(**{UNIQUE: "perhaps"}), "must say True or False"),
            (pd.concat([hull, hull.iloc[:1]]), "stands in several rows"),
            (hull.iloc[:0], "no row has both"),
        ):
            change.to_csv(tmp_path / "summary.csv", index=False)
            with pytest.raises(CloudError, match=words):
                read_hull(tmp_path / "summary.csv")
        whole = (tables / "summary.csv.gz").read_bytes()
        (tmp_path / "half.csv.gz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CloudError, match="cannot be read"):
            read_hull(tmp_path / "half.csv.gz")
        with pytest.raises(CloudError, match=r"figshare\.com"):
            read_hull(tmp_path / "nowhere.csv.gz")
        assert checksum(tables / "summary.csv.gz")["bytes"] == len(whole)


class TestOthers:
    def test_a_checkpoint_without_training_and_nomad(
        self, command: list[str], tables: Path, results: Callable[[], Any]
    ) -> None:
        nomad = ["--nomad", str(tables / "nomad.parquet"), "--nomad-epochs", "1"]
        assert main([*command, "--max-steps", "1", "--checkpoint", "bundled", "--no-train", *nomad]) == 0
        found = results()
        assert {*found["energies"]["all, as predicted"]["arms"]} == {"checkpoint", "mean"}
        assert {name: score["unit"] for name, score in found["nomad"]["scores"].items()} == NOMAD_TARGETS
        assert all(score["n"] == 8 for score in found["nomad"]["scores"].values())
        assert found["nomad"]["table"]["failed"] == 0


class TestRefusals:
    def test_one_table(self) -> None:
        with pytest.raises(CloudError, match="needs two"):
            Arguments(["mp.parquet"], "out")

    def test_nothing_to_score(self) -> None:
        with pytest.raises(CloudError, match="name a --checkpoint"):
            Arguments(["mp.parquet", "wbm.parquet"], "out", train=False)

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--target", "e_form"], "e_form"),
            (["--test-target", "prototype"], "prototype"),
            (["--checkpoint", "nowhere"], "nowhere"),
            (["--nomad", "WBM"], "not the table of NOMAD-2018"),
            (["--hull", "WBM"], "has no column material_id"),
            (["--hull", "OTHER"], "none of the 59 crystals"),
        ],
    )
    def test_bad_input(
        self, command: list[str], flags: list[str], words: str, tables: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        other = tmp_path / "other.csv"
        hull = pd.read_csv(tables / "summary.csv.gz")
        hull.assign(material_id=[f"other-{row}" for row in range(len(hull))]).to_csv(other, index=False)
        named = {"WBM": str(tables / "wbm.parquet"), "OTHER": str(other)}
        assert main([*command, "--max-steps", "1", *(named.get(flag, flag) for flag in flags)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error

    def test_a_damaged_line(self, command: list[str], tables: Path, tmp_path: Path, capsys: Any) -> None:
        path = tmp_path / "init-structs.jsonl.gz"
        with gzip.open(path, "wt") as stream:
            stream.write('{"material_id": "wbm-1-1"}\n')
        command[command.index("--data") + 2] = str(path)
        assert main([*command, "--hull", str(tables / "summary.csv.gz")]) == 2
        assert "has no 'initial_structure'" in capsys.readouterr().err
