"""Fetching from the OPTIMADE reference server on the loopback: pages, interruptions, failures, odd entries."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from cloud_hf.cli.main import main
from cloud_hf.corpus import BuildSettings, build_corpus
from cloud_hf.corpus import fetch as module
from cloud_hf.corpus.fetch import Request, fetch_structures
from cloud_hf.errors import CorpusError
from waiting import wait_until

from .conftest import Crystal, optimade, tables, write_jsonl

pytest.importorskip("optimade.client", reason="fetching needs the extra 'optimade'")
pytest.importorskip("mongomock", reason="the reference server needs optimade[server]")

QUICK = Request(page=20, delay=0.0, attempts=2, rows=50)


class Server(NamedTuple):
    url: str
    faults: Path

    def spoil(self, **fault: Any) -> None:
        self.faults.write_text(json.dumps(fault))


def document(row: Crystal) -> dict[str, Any]:
    """A structure as the server's database holds it."""
    return {"id": row["id"], "task_id": row["id"], "type": "structures", **optimade(row)["attributes"]} | {
        "elements": sorted(set(optimade(row)["attributes"]["species_at_sites"])),
        "structure_features": [],
    }


def answers(url: str) -> bool:
    """Whether the server is there."""
    try:
        urllib.request.urlopen(f"{url}/v1/info", timeout=60).close()
    except OSError:
        return False
    return True


def serve(documents: list[dict[str, Any]], folder: Path) -> Iterator[Server]:
    write_jsonl(documents, folder / "structures.jsonl")
    (folder / "faults.json").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("optimade_server.py")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), str(port), folder / "structures.jsonl", folder / "faults.json"],
        env=os.environ | {"PYTHONPATH": ""}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or answers(url), "the server does not answer")
        assert process.poll() is None, "the server ended"
        yield Server(url, folder / "faults.json")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def reference(crystals: list[Crystal], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """144 good structures, an alloy, and two that are malformed."""
    alloy = document(crystals[0]) | {"id": "alloy", "species_at_sites": ["mix", "F"]}
    alloy["species"] = [
        {"name": "mix", "chemical_symbols": ["Li", "Na"], "concentration": [0.5, 0.5]},
        {"name": "F", "chemical_symbols": ["F"], "concentration": [1.0]},
    ]
    flat = document(crystals[1]) | {"id": "flat", "lattice_vectors": [[1, 0, 0], [0, 1, 0], None]}
    short = document(crystals[2]) | {"id": "short", "cartesian_site_positions": [[0, 0]]}
    yield from serve([*map(document, crystals), alloy, flat, short], tmp_path_factory.mktemp("server"))


@pytest.fixture
def server(reference: Server) -> Iterator[Server]:
    reference.spoil()
    yield reference
    reference.spoil()


def rows_of(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))], ignore_index=True)


def test_what_is_fetched_gives_the_strings_of_the_structures(
    server: Server, strings: dict[str, str], tmp_path: Path
) -> None:
    (found,) = fetch_structures([server.url], tmp_path / "fetched", QUICK)
    assert (found.done, found.problem, found.structures, found.shards) == (True, None, 147, 3)
    rows = rows_of(tmp_path / "fetched")
    assert rows["id"].is_unique
    assert rows["url"].eq(server.url).all()
    assert rows["last_modified"].str.startswith("2024-05-17").all()
    assert rows["provider"].eq(found.provider).all()
    assert rows["license"].eq("CC-BY-4.0").all()
    assert (pd.Timestamp.now("UTC") - pd.to_datetime(rows["fetched"])).lt("1h").all()
    report = build_corpus(
        [str(tmp_path / "fetched")], tmp_path / "corpus", BuildSettings(rows=60), processes=1, timeout=None
    )
    assert report["rows"] == {"in": 147, "out": 145, "duplicates": 0, "quarantined": 2}
    built = tables(tmp_path / "corpus")
    ordered = built["shards"][built["shards"]["id"] != "alloy"]
    assert dict(zip(ordered["id"], ordered["sites"], strict=True)) == strings
    assert built["shards"].set_index("id").loc["alloy", "composition"].endswith("| Na 0.25 Li 0.25 F 0.5")
    assert sorted(built["quarantine"]["id"]) == ["flat", "short"]
    assert built["shards"]["provider"].eq(found.provider).all()
    assert built["shards"]["license"].eq("CC-BY-4.0").all()


def test_a_filter_and_a_limit(server: Server, tmp_path: Path) -> None:
    (found,) = fetch_structures([server.url], tmp_path, Request('elements HAS "Li"', 10, delay=0.0))
    assert found.structures == len(rows_of(tmp_path)) == 18 + 3
    (found,) = fetch_structures([server.url], tmp_path / "few", Request(page=20, most=33, delay=0.0))
    assert (found.structures, found.done) == (33, True)
    with pytest.raises(CorpusError, match=r"other settings: most was 33, is 40\. Repeat"):
        fetch_structures([server.url], tmp_path / "few", Request(page=20, most=40, delay=0.0))
    with pytest.raises(CorpusError, match=r"filter was elements HAS \"Li\", is nelements=2"):
        fetch_structures([server.url], tmp_path, Request("nelements=2", delay=0.0))


class TestInterrupted:
    @pytest.fixture
    def whole(self, server: Server, tmp_path: Path) -> pd.DataFrame:
        fetch_structures([server.url], tmp_path / "whole", QUICK)
        return rows_of(tmp_path / "whole").drop(columns="fetched")

    @pytest.mark.parametrize("how", ["500", "429", "html"])
    def test_a_server_that_fails_half_way_is_asked_on_later(
        self, how: str, server: Server, whole: pd.DataFrame, tmp_path: Path
    ) -> None:
        server.spoil(**{"from": _requests(server) + 4, "how": how})
        (found,) = fetch_structures([server.url], tmp_path / "part", QUICK)
        assert not found.done
        assert 0 < found.structures < 147
        assert found.problem is not None
        assert {"500": "500", "429": "429", "html": "maintenance"}[how] in found.problem
        server.spoil()
        (found,) = fetch_structures([server.url], tmp_path / "part", QUICK)
        assert (found.done, found.problem, found.structures) == (True, None, 147)
        pd.testing.assert_frame_equal(rows_of(tmp_path / "part").drop(columns="fetched"), whole)

    def test_a_request_that_fails_twice_is_repeated(self, server: Server, whole: pd.DataFrame, tmp_path: Path) -> None:
        server.spoil(**{"from": _requests(server) + 3, "how": "429", "times": 2})
        (found,) = fetch_structures([server.url], tmp_path / "part", QUICK)
        assert (found.done, found.structures) == (True, 147)

    @pytest.mark.parametrize("saved", [0, 1, 2, 3])
    def test_a_run_that_dies_goes_on_without_gap_or_double(
        self, saved: int, server: Server, whole: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Death right before a shard is written, or between it and the note of where to go on."""
        calls = 0
        save = module.save_json if saved % 2 else module.open_rows

        class DeadError(BaseException):
            pass

        def die(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > saved // 2:
                raise DeadError
            return save(*arguments)

        monkeypatch.setattr(module, "save_json" if saved % 2 else "open_rows", die)
        with pytest.raises(DeadError):
            fetch_structures([server.url], tmp_path / "part", QUICK)
        monkeypatch.undo()
        (found,) = fetch_structures([server.url], tmp_path / "part", QUICK)
        assert found.done
        pd.testing.assert_frame_equal(rows_of(tmp_path / "part").drop(columns="fetched"), whole)


def _requests(server: Server) -> int:
    """Requests for structures that the server has seen."""
    with urllib.request.urlopen(f"{server.url}/requests", timeout=600) as answer:
        return int(answer.read())


def test_the_command_names_the_provider_that_failed_and_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    argv = ["corpus", "fetch", "--url", nobody, server.url, "-o", str(tmp_path), "--delay", "0", "--attempts", "1"]
    assert main([*argv, "--page", "50"]) == 1
    out, err = capsys.readouterr()
    assert "147 structures" in out
    assert f"cloud-hf: {nobody}: " in err
    assert "the same command goes on" in err
    assert len(rows_of(tmp_path)) == 147


@pytest.mark.parametrize("n", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_structures_of_the_reference_data(shared: Path, tmp_path: Path, n: int) -> None:
    """Real crystals through the server have the strings that they have from their table."""
    table = pd.read_parquet(shared / "data" / "wbm.parquet").query("nsites <= 12").head(n)
    documents = []
    from pymatgen.core import Element

    for row in table.to_dict("records"):
        lattice = np.reshape(row["lattice"], (3, 3))
        symbols = [Element.from_Z(z).symbol for z in row["numbers"]]
        documents.append(
            {
                "id": row["id"],
                "task_id": row["id"],
                "type": "structures",
                "lattice_vectors": lattice.tolist(),
                "cartesian_site_positions": (np.reshape(row["frac_coords"], (-1, 3)) @ lattice).tolist(),
                "species_at_sites": symbols,
                "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))],
                "structure_features": [],
            }
        )
    for server in serve(documents, tmp_path):
        (found,) = fetch_structures([server.url], tmp_path / "fetched", Request(page=40, delay=0.0))
    assert found.structures == n
    table.to_parquet(tmp_path / "table.parquet")
    columns = ["id", "sites"]
    sides = []
    for name in ("fetched", "table.parquet"):
        build_corpus([str(tmp_path / name)], tmp_path / f"corpus-{name}", BuildSettings(("sites",)), timeout=None)
        sides.append(tables(tmp_path / f"corpus-{name}")["shards"][columns].sort_values("id", ignore_index=True))
    # of crystals with one string the first stays, and the server has an order of its own
    assert set(sides[0]["sites"]) == set(sides[1]["sites"])
    both = sides[0].merge(sides[1], on="id")
    assert len(both) > 0.9 * n
    assert (both["sites_x"] == both["sites_y"]).all()
