"""`cloud_hf.screen` and `cloud-hf screen`: from prototypes to kept candidates with structures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cloud_hf
from cloud_hf.cli.main import main
from cloud_hf.errors import CheckpointError, CloudError
from cloud_hf.inference.prediction import load_predictors, units_of
from cloud_hf.scope import ScopeEncoder
from cloud_hf.screening.api import prepare, run_screening
from cloud_hf.screening.candidates import Product
from cloud_hf.screening.evaluation import Evaluator
from cloud_hf.screening.hull import KnownPhases
from cloud_hf.screening.known import KnownStrings, string_hashes
from cloud_hf.screening.pareto import front_of, pareto_front
from cloud_hf.screening.plan import load_plan
from cloud_hf.screening.prototypes import bundled_prototypes, read_prototypes
from cloud_hf.screening.run import best_rows, gather, run_piece
from cloud_hf.screening.structures import candidate_structure, write_structure
from cloud_hf.screening.wants import Want

EXAMPLES = Path(__file__).parents[2] / "examples"
ELEMENTS = ["A=Na,Mg,Ca,Fe", "X=O,Cl,S"]
WANT = ["band_gap=1:2.2", "bulk_modulus>=20"]

pytestmark = pytest.mark.usefixtures("tiny_weights")


def test_screen_returns_the_best_first(tmp_path: Path) -> None:
    found = cloud_hf.screen(
        ["rock-salt", "fluorite"], ELEMENTS, WANT, top=5, structures=tmp_path / "cif", progress=False
    )
    assert len(found) == 5
    chances = found["probability"].to_numpy()
    assert (np.diff(chances) <= 0).all()
    assert found["probability"].to_numpy() == pytest.approx(found["P(band_gap=1:2.2)"] * found["P(bulk_modulus>=20)"])
    predicted = cloud_hf.predict(found["scope"].tolist(), progress=False)
    assert found["band_gap (eV)"].to_numpy() == pytest.approx(predicted["band_gap (eV)"].to_numpy(), rel=1e-4)
    assert found["band_gap_low (eV)"].to_numpy() == pytest.approx(predicted["band_gap_low (eV)"].to_numpy(), rel=1e-4)
    assert found["formula"].tolist() == predicted["formula"].tolist()
    for row in found.to_dict("records"):
        assert ScopeEncoder().encode(str(tmp_path / "cif" / row["structure"])) == row["scope"]
        assert "starting point for relaxation" in (tmp_path / "cif" / row["structure"]).read_text()


def test_a_gap_is_never_negative() -> None:
    prototypes = read_prototypes(["rock-salt"])
    evaluator = Evaluator(load_predictors(likelihood=None), [Want("band_gap", high=1.0)], prototypes, None)
    forward = evaluator.predictors.forward

    def lowered(features: Any, temperature: float) -> list[dict[str, Any]]:
        return [tensors | {"logits": tensors["logits"] - 10.0} for tensors in forward(features, temperature)]

    evaluator.predictors.forward = lowered
    for pipeline, shown in evaluator.predictors.parts:
        if "band_gap" in shown:
            targets = pipeline.calibration.targets
            targets["band_gap"] = replace(targets["band_gap"], nonnegative=True)
    rows = evaluator.rows(list(Product.of(prototypes, {"A": ["Mg"], "X": ["O", "S"]}).candidates()))
    assert rows["band_gap (eV)"].tolist() == rows["band_gap_low (eV)"].tolist() == [0.0, 0.0]


def test_thermal_quantities_can_be_wanted() -> None:
    want = ["heat_capacity_per_atom>=20", "debye_temperature<=500"]
    found = cloud_hf.screen(["rock-salt"], ELEMENTS, want, temperature=500.0, progress=False)
    predicted = cloud_hf.predict(found["scope"].tolist(), 500.0, progress=False)
    name = "heat_capacity_per_atom (J/(mol atom K))"
    assert found[name].to_numpy() == pytest.approx(predicted[name].to_numpy(), rel=1e-4)
    assert found["probability"].between(0, 1).all()


def test_a_screening_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = (["rock-salt"], ELEMENTS, WANT)
    plan, evaluator = prepare(tmp_path / "one", *arguments, rows=5)
    assert plan.pieces == 3
    run_piece(load_plan(plan.folder), 1, evaluator)
    before = plan.piece_path(1).stat().st_mtime_ns
    assert plan.missing == [0, 2]
    with pytest.raises(CloudError, match="2 of 3 pieces are missing"):
        gather(plan)
    again, evaluator = prepare(tmp_path / "one", *arguments, rows=5)
    found = run_screening(again, evaluator, progress=False)
    assert plan.piece_path(1).stat().st_mtime_ns == before
    whole, evaluator = prepare(tmp_path / "two", *arguments)
    pd.testing.assert_frame_equal(found.top, run_screening(whole, evaluator, progress=False).top, rtol=1e-5)
    assert found.totals.counts == gather(whole).counts
    with pytest.raises(CloudError, match="other settings"):
        prepare(tmp_path / "one", ["rock-salt"], ELEMENTS, ["band_gap>=1"], rows=5)


@pytest.mark.slow
def test_processes_change_nothing(several_heads: Path, tmp_path: Path) -> None:
    arguments = (["rock-salt", "fluorite"], ELEMENTS, WANT)
    found = []
    for number in (1, 2):
        plan, evaluator = prepare(
            tmp_path / str(number), *arguments, model=str(several_heads / "crystal_properties"), rows=7
        )
        found.append(run_screening(plan, evaluator, processes=number, progress=False))
    assert found[0].totals.counts == found[1].totals.counts
    pd.testing.assert_frame_equal(found[0].top, found[1].top)
    pieces = [sorted((tmp_path / number / "all").iterdir()) for number in ("1", "2")]
    for one, two in zip(*pieces, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(two))


def test_nothing_is_loaded_for_what_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("cloud_hf.screening.run.load_predictors", nothing)
    monkeypatch.setattr("cloud_hf.screening.api.StringLikelihood.load", nothing)
    phases = tmp_path / "phases.csv"
    phases.write_text("formula\nNaCl\n", encoding="utf-8")
    for elements in (ELEMENTS, [*ELEMENTS, "auto"]):
        with pytest.raises(CloudError, match="no head gives 'colour'"):
            cloud_hf.screen(["rock-salt"], elements, ["colour>=1"])
        with pytest.raises(CheckpointError, match="needs the head"):
            cloud_hf.screen(["rock-salt"], elements, ["energy_above_hull<=0.1"], phases=str(phases))
    with pytest.raises(CloudError, match="temperature"):
        cloud_hf.screen(["rock-salt"], ELEMENTS, WANT, temperature=-1.0)
    with pytest.raises(CloudError, match=r"missing\.csv"):
        cloud_hf.screen(["rock-salt"], ELEMENTS, WANT, known=[str(tmp_path / "missing.csv")])


def test_units_are_those_of_the_loaded_models() -> None:
    loaded = load_predictors(likelihood=None)
    assert units_of() == loaded.units
    every = units_of(auxiliary=True)
    assert every.items() >= {(name, unit) for one in loaded.pipelines for name, unit in one.units.items()}


def test_unusual_strings_are_flagged() -> None:
    found = cloud_hf.screen(["rock-salt", "fluorite"], ELEMENTS, WANT, progress=False)
    predicted = cloud_hf.predict(found["scope"].tolist(), progress=False)
    assert found["log_likelihood"].to_numpy() == pytest.approx(predicted["log_likelihood"].to_numpy(), rel=1e-3)
    assert found["out_of_distribution"].tolist() == predicted["out_of_distribution"].tolist()


def test_known_crystals_are_read_once_and_one_that_hangs_is_left_out(hanging_table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    plan, _ = prepare(folder, ["rock-salt"], ELEMENTS, WANT, known=[str(hanging_table)], rows=10, timeout=600.0)
    copper = ScopeEncoder().encode(str(EXAMPLES / "Cu.cif"))
    own = KnownStrings(string_hashes([])).and_of([str(hanging_table)], timeout=600.0)
    assert (len(own), own.holds([copper]).all()) == (1, True)
    assert len(plan.known_strings()) == len(KnownStrings.bundled().and_strings([copper]))
    hanging_table.unlink()  # no worker needs it again
    assert load_plan(folder).known_strings().holds([copper]).all()


def test_known_crystals_are_marked(tmp_path: Path) -> None:
    salt, oxide = (bundled_prototypes()["rock-salt"].string(one) for one in (("Na", "Cl"), ("Fe", "S")))
    table = tmp_path / "mine.csv"
    pd.DataFrame({"scope": [oxide]}).to_csv(table, index=False)
    found = cloud_hf.screen(["rock-salt"], ELEMENTS, WANT, known=[str(table)], progress=False).set_index("scope")
    assert bool(found.loc[salt, "known"])
    assert bool(found.loc[oxide, "known"])
    new = cloud_hf.screen(["rock-salt"], ELEMENTS, WANT, known=[str(table)], new=True, progress=False)
    assert {salt, oxide}.isdisjoint(new["scope"])


def test_the_distance_to_the_hull() -> None:
    prototypes = read_prototypes(["rock-salt"])
    phases = KnownPhases(["MgO", "MgS"], [-3.0, -1.5], "made up", "zero_point")
    evaluator = Evaluator(load_predictors(), [Want("energy_above_hull", high=0.1)], prototypes, phases)
    rows = evaluator.rows(list(Product.of(prototypes, {"A": ["Mg"], "X": ["O", "S"]}).candidates()))
    distance = rows["energy_above_hull (eV/atom)"].to_numpy()
    assert distance == pytest.approx(rows["zero_point (eV)"].to_numpy() + np.array([3.0, 1.5]))
    assert rows["decomposition"].tolist() == ["MgO", "MgS"]
    assert rows["probability"].tolist() == (distance <= 0.1).astype(float).tolist()  # this head has no intervals


def test_a_gap_in_the_hull_is_marked_and_gives_no_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    prototypes = read_prototypes(["rock-salt"])
    phases = KnownPhases(["MgO"], [-3.0], "made up", "zero_point")
    wanted = [Want("energy_above_hull", low=-1.0, high=10.0)]
    candidates = list(Product.of(prototypes, {"A": ["Mg"], "X": ["O", "S"]}).candidates())
    evaluator = Evaluator(load_predictors(likelihood=None), wanted, prototypes, phases)
    whole = evaluator.rows(candidates)
    distances = whole["energy_above_hull (eV/atom)"]
    assert whole["hull_incomplete"].sum() == (distances < -0.25).sum()
    assert (whole["probability"] == 1).all()
    monkeypatch.setattr("cloud_hf.screening.evaluation.LARGEST_DROP", -20.0)
    rows = evaluator.rows(candidates)
    assert rows["hull_incomplete"].all()
    assert (rows["energy_above_hull (eV/atom)"] == distances).all()
    assert (rows["probability"] == 0).all()  # they count as lying 20 eV/atom above


def test_energies_of_another_vintage_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"needs the head 'megnet2018_e_form'.*Materials Project 2018"):
        cloud_hf.screen(["rock-salt"], ELEMENTS, ["energy_above_hull<=0.1"], progress=False)


def test_what_is_not_ranked_is_on_no_front(tmp_path: Path) -> None:
    plan, evaluator = prepare(tmp_path / "all", ["rock-salt"], ELEMENTS, WANT, rows=100)
    run_piece(plan, 0, evaluator)
    columns = ["band_gap (eV)", "bulk_modulus (GPa)"]
    front, sample = pareto_front(plan, evaluator.wants, columns)
    table = pd.read_parquet(plan.piece_path(0))
    left_out = table["scope"].isin(front["scope"].iloc[:1])
    table.loc[left_out, "probability"] = np.nan
    table.loc[table["scope"] == sample["scope"].iloc[-1], "known"] = True
    schema = pq.read_schema(plan.piece_path(0))
    pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), plan.piece_path(0))
    front, fewer = pareto_front(plan, evaluator.wants, columns)
    assert not set(table["scope"][left_out]) & {*front["scope"], *fewer["scope"]}
    assert len(fewer) == len(sample) - 1
    assert len(pareto_front(plan, evaluator.wants, columns, new=True)[1]) < len(fewer)
    table["hull_incomplete"] = table["scope"].isin(front["scope"].iloc[:1])
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), plan.piece_path(0))
    near = [Want("energy_above_hull", high=0.1), evaluator.wants[1]]
    assert len(pareto_front(plan, evaluator.wants, columns)[1]) == len(fewer)
    assert set(table["scope"][table["hull_incomplete"]]).isdisjoint(pareto_front(plan, near, columns)[0]["scope"])
    assert len(pareto_front(plan, near, columns)[1]) == len(fewer) - 1
    gaps = set(table["scope"][table["hull_incomplete"]])
    assert gaps <= set(best_rows(plan, 1000, evaluator.columns)["scope"])
    assert gaps.isdisjoint(best_rows(plan, 1000, evaluator.columns, whole_hull=True)["scope"])


def test_front() -> None:
    points = np.array([[1, 1], [2, 0], [0, 2], [1, 0], [2, 0], [0.5, 2]])
    assert front_of(points).tolist() == [True, True, False, False, True, True]


@pytest.mark.parametrize("name", ["spinel", "perovskite", "half-heusler", "garnet"])
def test_structures_have_the_string_of_the_candidate(name: str, tmp_path: Path) -> None:
    prototype = bundled_prototypes()[name]
    elements = ["Ca", "Zr", "Sn", "S"][: len(prototype)]
    structure = write_structure(prototype, elements, prototype.string(elements), tmp_path / "one.cif")
    assert ScopeEncoder().encode(str(tmp_path / "one.cif")) == prototype.string(elements)
    assert structure.volume > candidate_structure(prototype, prototype.elements).volume


def test_a_structure_with_another_string_is_not_written(tmp_path: Path) -> None:
    prototype = bundled_prototypes()["rock-salt"]
    with pytest.raises(CloudError, match="has the string"):
        write_structure(prototype, ["K", "Br"], prototype.scope, tmp_path / "one.cif")
    assert not (tmp_path / "one.cif").exists()


def test_a_string_has_no_structure(tmp_path: Path) -> None:
    scope = bundled_prototypes()["rock-salt"].scope
    with pytest.raises(CloudError, match="has no structure"):
        cloud_hf.screen([scope], ELEMENTS, WANT, structures=tmp_path / "cif")


def test_nothing_to_screen() -> None:
    with pytest.raises(CloudError, match=r"nothing is left.*1 with an element in two slots"):
        cloud_hf.screen(["rock-salt"], ["A=O", "X=O"], WANT)


class TestCluster:
    def test_tasks_do_what_the_command_does(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("datatrove", reason="the extra 'corpus' is not installed")
        from cloud_hf.screening.cluster import ScreenStep

        argv = [
            "screen",
            "rock-salt",
            "--elements",
            *ELEMENTS,
            "--want",
            *WANT,
            "--rows",
            "5",
            "-o",
            str(tmp_path / "all"),
        ]
        assert main([*argv, "--executor", "slurm", "--processes", "2", "--partition", "big"]) == 0
        assert "12 products in 3 pieces" in capsys.readouterr().out
        job = (tmp_path / "all" / "slurm_job.py").read_text()
        compile(job, "slurm_job.py", "exec")
        assert "tasks=2" in job
        assert "partition='big'" in job
        for rank in range(2):
            ScreenStep(str(tmp_path / "all")).run(rank=rank, world_size=2)
        pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "all" / "all").iterdir()}
        assert len(pieces) == 3
        assert main(argv) == 0
        assert pieces == {path: path.stat().st_mtime_ns for path in (tmp_path / "all" / "all").iterdir()}

    def test_a_cluster_needs_a_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["screen", "rock-salt", "--want", "band_gap>=1", "--executor", "ray"]) == 2
        assert "-o" in capsys.readouterr().err


class TestCommand:
    def test_it_says_what_it_did(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["screen", "rock-salt", "--elements", *ELEMENTS, "--want", *WANT, "--top", "3"]
        argv += ["--table", tmp_path / "top.parquet", "--plot", tmp_path / "front.png", "-o", tmp_path / "all"]
        assert main([*map(str, argv), "--write-structures", str(tmp_path / "cif")]) == 0
        said = capsys.readouterr().out
        assert "12 products" in said
        assert "3 structures to be relaxed" in said
        assert len(pd.read_parquet(tmp_path / "top.parquet")) == 3
        assert (tmp_path / "front.png").stat().st_size > 1000
        assert len(list((tmp_path / "cif").glob("*.cif"))) == 3
        assert (tmp_path / "all" / "top.csv").is_file()

    def test_the_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["screen", "--list"]) == 0
        said = capsys.readouterr().out
        assert all(name in said for name in (*bundled_prototypes(), "lanthanides"))

    @pytest.mark.parametrize(
        ("argv", "reason"),
        [
            (["rock-salt", "--want", "colour>=1"], "no head gives 'colour'"),
            (["rock-salt", "--elements", "A=metal", "--want", "band_gap>=1"], "group of elements"),
            (["perovskite", "--limit", "10", "--want", "band_gap>=1"], "limit of 10"),
            (["rock-salt", "--want", "band_gap>=1", "--plot", "front.png"], "two wants"),
            (["rock-salt"], "say what is wanted"),
        ],
    )
    def test_what_cannot_work(self, argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["screen", *argv]) == 2
        assert reason in capsys.readouterr().err
