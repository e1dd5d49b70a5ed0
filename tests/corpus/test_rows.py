"""A corpus as training rows: every row once, a node reads its own shards, an order that is found again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_hf import ScopeTokenizer
from cloud_hf.corpus import open_corpus
from cloud_hf.errors import CorpusError
from cloud_hf.training import corpus_shards as module
from cloud_hf.training.corpus_shards import CorpusRows, ShardSampler, select_rows

from .conftest import tables


@pytest.fixture(scope="module")
def corpus(corpus_folder: Path) -> Any:
    return open_corpus(corpus_folder)


def make_rows(corpus: Any, tokenizer: ScopeTokenizer, packing: int | None = None, **choice: Any) -> CorpusRows:
    return CorpusRows(corpus, "sites", select_rows(corpus, "sites", **choice), tokenizer, packing)


class TestSelection:
    def test_without_wishes_every_row_is_trained_on(self, corpus: Any) -> None:
        found = select_rows(corpus, "sites")
        assert sum(map(len, found.positions)) == len(corpus) == 144
        assert (found.validation, found.excluded, found.too_long, found.without) == ([], 0, 0, 0)

    def test_a_share_is_kept_back_by_hash_and_seed(self, corpus: Any) -> None:
        first, again, other = (select_rows(corpus, "sites", 0.3, seed) for seed in (0, 0, 1))
        assert first.validation == again.validation != other.validation
        assert 20 < len(first.validation) < 70
        assert sum(map(len, first.positions)) + len(first.validation) == 144
        assert first.digest == again.digest != other.digest

    def test_excluded_rows_are_in_neither_part(self, corpus: Any, corpus_folder: Path) -> None:
        rows = tables(corpus_folder)["shards"]
        gone = set(rows["hash"][::3])
        found = select_rows(corpus, "sites", 0.3, exclude=gone)
        assert found.excluded == len(gone) == 48
        kept = {
            text
            for shard, positions in enumerate(found.positions)
            for text in rows["sites"][10 * shard : 10 * shard + 10].iloc[positions]
        }
        assert kept | set(found.validation) == set(rows["sites"][~rows["hash"].isin(gone)])

    def test_strings_that_are_too_long_are_counted(self, corpus: Any, corpus_folder: Path) -> None:
        n_tokens = tables(corpus_folder)["shards"]["sites"].str.split().str.len() + 2
        found = select_rows(corpus, "sites", max_length=int(n_tokens.min()))
        assert found.too_long == int((n_tokens > n_tokens.min()).sum()) > 0

    def test_a_grammar_in_which_crystals_share_a_string_gives_it_once(self, corpus: Any, corpus_folder: Path) -> None:
        strings = tables(corpus_folder)["shards"]["composition"]
        found = select_rows(corpus, "composition")
        assert sum(map(len, found.positions)) == strings.nunique()
        assert found.without == len(strings) - strings.nunique()

    def test_nothing_left_or_no_such_column_is_an_error(self, corpus: Any) -> None:
        with pytest.raises(CorpusError, match="144 too long"):
            select_rows(corpus, "sites", max_length=3)
        with pytest.raises(CorpusError, match="no column 'scope'"):
            select_rows(corpus, "scope")


class TestRows:
    def test_a_row_is_the_string_of_the_tokenizer(
        self, corpus: Any, corpus_folder: Path, tokenizer: ScopeTokenizer
    ) -> None:
        rows = make_rows(corpus, tokenizer)
        strings = tables(corpus_folder)["shards"]["sites"]
        for index in (0, 9, 10, 77, 143):
            assert rows[index]["input_ids"].tolist() == tokenizer(strings[index])["input_ids"]
        assert rows.string_lengths.tolist() == [len(rows[index]["input_ids"]) for index in range(144)]
        assert rows[144]["input_ids"].tolist() == [tokenizer.cls_token_id, tokenizer.sep_token_id]
        with pytest.raises(IndexError):
            rows[145]

    def test_packed_rows_hold_every_string_once(self, corpus: Any, tokenizer: ScopeTokenizer) -> None:
        rows, plain = make_rows(corpus, tokenizer, 128), make_rows(corpus, tokenizer)
        found = []
        for index in range(len(rows)):
            row = rows[index]
            assert row["lengths"].sum() == len(row["input_ids"]) <= 128
            found += [tuple(part) for part in np.split(row["input_ids"], np.cumsum(row["lengths"])[:-1])]
        assert len(rows) < 60
        assert sorted(found) == sorted(tuple(plain[index]["input_ids"]) for index in range(144))

    def test_few_shards_are_in_memory(
        self, corpus: Any, tokenizer: ScopeTokenizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SHARDS_TOGETHER", 2)
        rows = make_rows(corpus, tokenizer)
        for index in range(144):
            _ = rows[index]
            assert len(rows._loaded) <= 5

    def test_a_shard_that_changed_is_noticed(self, corpus_folder: Path, tmp_path: Path, tokenizer: Any) -> None:
        shutil.copytree(corpus_folder, tmp_path / "corpus")
        rows = make_rows(open_corpus(tmp_path / "corpus"), tokenizer)
        shutil.copy(tmp_path / "corpus/shards/00009.parquet", tmp_path / "corpus/shards/00000.parquet")
        with pytest.raises(CorpusError, match="changed while"):
            _ = rows[0]
        (tmp_path / "corpus/shards/00001.parquet").write_bytes(b"PAR1")
        with pytest.raises(CorpusError, match="cannot be read"):
            _ = rows[10]


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("nodes", [1, 2, 3])
class TestOrder:
    def test_every_row_comes_once_an_epoch(self, nodes: int, by_length: bool, corpus: Any, tokenizer: Any) -> None:
        rows = make_rows(corpus, tokenizer)
        sampler = ShardSampler(rows, 4, nodes, seed=1, by_length=by_length)
        order = list(sampler)
        assert len(order) == len(sampler)
        assert sorted(index for index in order if index < len(rows)) == list(range(144))
        assert len(order) % (4 * nodes) == 0
        again = ShardSampler(make_rows(corpus, tokenizer), 4, nodes, seed=1, by_length=by_length)
        assert list(again) == order
        again.set_epoch(1)
        assert list(again) != order
        assert list(ShardSampler(rows, 4, nodes, seed=2, by_length=by_length)) != order

    def test_a_node_reads_its_part_of_the_shards(
        self, nodes: int, by_length: bool, corpus: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SHARDS_TOGETHER", 1)
        rows = make_rows(corpus, tokenizer)
        order = np.array(list(ShardSampler(rows, 4, nodes, by_length=by_length))).reshape(-1, nodes, 4)
        shards = [set((order[:, node][order[:, node] < 144] // 10).tolist()) for node in range(nodes)]
        assert set.union(*shards) == set(range(15))
        assert all(len(own) <= 15 // nodes + 2 for own in shards)


def test_rows_of_different_shards_stand_side_by_side(corpus: Any, tokenizer: ScopeTokenizer) -> None:
    rows = make_rows(corpus, tokenizer)
    order = np.array(list(ShardSampler(rows, 8, by_length=False)))
    assert len(set((order[:16] // 10).tolist())) > 4


@pytest.mark.parametrize("name", ["absent/corpus", "."])
def test_what_is_no_corpus(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError):
        open_corpus(name)


def test_a_corpus_that_is_not_complete(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(CorpusError, match="not complete"):
        open_corpus(tmp_path)
