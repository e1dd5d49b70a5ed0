"""The scaling study: nested corpora, cells that are kept, what it writes and what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf import ScopeTokenizer
from cloud_hf.cli.study import study as command
from cloud_hf.errors import CloudError
from cloud_hf.studies.scaling import study as scaling
from cloud_hf.studies.scaling.cells import Recipe, Size, frequency_loss, nested_corpora, train_cell

TINY = ["--hidden-sizes", "8", "16", "24", "--layers", "1", "--corpus-sizes", "24", "48", "96", "--held-out", "24",
        "--num-train-epochs", "2", "--resamples", "20"]  # fmt: skip
RECIPE = Recipe(
    epochs=2, strings_per_step=16, learning_rate=1e-3, weight_decay=0.0, dropout=0.0, head_width=8, max_tokens=64,
    chemistry=False, bf16=False, held_out_seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, crystals: Callable[[int], pd.DataFrame]) -> Any:
    """A table of structures and the folder of a finished study."""
    folder = tmp_path_factory.mktemp("scaling")
    table = crystals(180)
    table.to_parquet(folder / "crystals.parquet")
    study(folder, *TINY)
    return folder


def study(folder: Path, *flags: str) -> None:
    command(["scaling", "--data", str(folder / "crystals.parquet"), "--out", str(folder / "out"), *flags])


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out/results.json").read_text())["results"]


@pytest.mark.train
def test_every_cell_says_what_it_is(done: Path) -> None:
    found = results(done)
    assert len(found["cells"]) == 9
    for cell in found["cells"]:
        assert math.isfinite(cell["loss"])
        assert cell["flops"] == pytest.approx(6 * cell["parameters"] * cell["tokens_seen"])
        assert cell["tokens_seen"] == 2 * cell["unique_tokens"]
        assert cell["all_parameters"] > cell["parameters"]
        assert cell["masked_words"] == found["word_frequencies"]["masked_words"]
    by_width = {cell["width"]: cell["parameters"] for cell in found["cells"]}
    assert by_width[8] < by_width[16] < by_width[24]
    assert found["law"]["parameter_exponent"] > 0
    assert set(found["intervals"]) >= {"parameter_exponent", "data_exponent", "floor"}
    assert "nats" in found["unit"]


@pytest.mark.train
def test_the_report_shows_the_pictures_and_the_published_exponents(done: Path) -> None:
    report = (done / "out/report.md").read_text()
    for name in ("loss_parameters.png", "loss_data.png", "loss_compute.png"):
        assert f"({name})" in report
        assert (done / "out" / name).stat().st_size > 5000
    assert "0.45" in report
    assert "0.55" in report
    assert str(done) not in report + (done / "out/results.json").read_text()


@pytest.mark.train
def test_a_second_run_trains_nothing_and_a_larger_grid_only_what_is_new(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(done, tmp_path / "copy")  # other tests read the study as it is
    trained: list[tuple[str, int]] = []

    def counted(size: Size, corpus: list[str], *rest: Any) -> dict[str, Any]:
        trained.append((str(size), len(corpus)))
        return train_cell(size, corpus, *rest)

    monkeypatch.setattr(scaling, "train_cell", counted)
    before = results(folder)
    study(folder, *TINY)
    assert trained == []
    assert results(folder) == before
    more = [*TINY[:8], "12", *TINY[8:]]  # a smaller corpus
    study(folder, *more)
    assert trained == [("8x1", 12), ("16x1", 12), ("24x1", 12)]


@pytest.mark.train
def test_a_cell_does_not_depend_on_the_other_cells(done: Path) -> None:
    table = pd.read_parquet(next((done / "out/strings").glob("*.parquet")))
    kept_back, corpus = nested_corpora(table["scope"].dropna(), [24], 24, 0)
    arguments = scaling.Arguments(data=["x"], out="y", num_train_epochs=2)
    alone = train_cell(Size(16, 1), corpus, kept_back, arguments.recipe, 0)
    cell = next(cell for cell in results(done)["cells"] if (cell["width"], cell["strings"]) == (16, 24))
    assert alone["loss"] == pytest.approx(cell["loss"], rel=1e-5)


def test_corpora_are_nested_disjoint_and_free_of_order() -> None:
    strings = [f"1 0 0 | Na {n}a" for n in range(40)]
    kept_back, corpus = nested_corpora(strings, [8, 20], 10, seed=3)
    again, smaller = nested_corpora([*reversed(strings), *strings[:5]], [8], 10, seed=3)
    assert kept_back == again
    assert corpus[:8] == smaller
    assert not set(kept_back) & set(corpus)
    assert len({*kept_back, *corpus}) == 30
    assert nested_corpora(strings, [20], 10, seed=4)[1] != corpus


def test_word_frequencies_fit_their_own_strings_best() -> None:
    salts, others = ["0 3 a | Na 4a Cl 4b"] * 10, ["1 2 b | K 8c Br 8d"] * 10
    own = frequency_loss(salts, salts, RECIPE)
    assert own["loss"] < frequency_loss(others, salts, RECIPE)["loss"] < math.log(len(ScopeTokenizer()) ** 2)
    # eight words, each an eighth of the counts but for the one that is added to all
    counts = 10 + 1
    total = 80 + len(ScopeTokenizer()) - 5
    assert own["loss"] == pytest.approx(-math.log(counts / total))


def test_heads_divide_the_width() -> None:
    for width in range(1, 200):
        heads = Size(width, 1).heads(32)
        assert width % heads == 0
        assert heads == 1 or width / heads >= 32


def test_wider_models_learn_more_slowly() -> None:
    rates = [RECIPE.rate(Size(width, 1)) for width in (32, 64, 128)]
    assert rates == pytest.approx([2e-3, 1e-3, 5e-4])


@pytest.mark.train
def test_bad_grids_are_refused(done: Path, tmp_path: Path) -> None:
    for flags, reason in (
        (["--corpus-sizes", "5000"], "distinct ones"),
        (["--layers", "1", "2"], "--layers gives 2 numbers"),
        (["--hidden-sizes", "16", "16"], "names a size twice"),
        (["--corpus-sizes", "0"], "corpus-sizes must be from 1"),
        (["--num-train-epochs", "0"], "num-train-epochs"),
        (["--seed", "5"], "seed was 0, is 5"),
    ):
        with pytest.raises(CloudError, match=reason):
            study(done, *TINY, *flags)
    with pytest.raises(CloudError, match="cannot be read"):
        study(tmp_path)


def test_rows_without_a_string_are_listed(tmp_path: Path, crystals: Callable[[int], pd.DataFrame]) -> None:
    table = crystals(60)
    table.at[table.index[3], "numbers"] = [300, 8]
    table.to_parquet(tmp_path / "crystals.parquet")
    grid = ["--hidden-sizes", "8", "--layers", "1", "--corpus-sizes", "20"]
    study(tmp_path, *grid, "--held-out", "10", "--num-train-epochs", "1")
    assert results(tmp_path)["rows_without_a_string"] == 1
    assert results(tmp_path)["law"] is None  # one size: nothing to fit
    assert len(pd.read_csv(tmp_path / "out/failures.csv")) == 1
    assert "1 rows had no usable string" in (tmp_path / "out/report.md").read_text()


@pytest.mark.slow
def test_two_processes_share_a_study(done: Path, tmp_path: Path) -> None:
    launched = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "cloud_hf",
        "study", "scaling", "--data", str(done / "crystals.parquet"), "--out", str(tmp_path / "out"), *TINY,
        "--per-device-train-batch-size", "16",
    ]  # fmt: skip
    subprocess.run(launched, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for one, two in zip(results(done)["cells"], results(tmp_path)["cells"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.05)
        assert two["masked_words"] == one["masked_words"]
