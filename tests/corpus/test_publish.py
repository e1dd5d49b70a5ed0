"""The card of a corpus: what it counts, and that a card written by hand stays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

from cloud_hf.corpus import open_corpus
from cloud_hf.corpus.publish import PICTURES, card_text, write_card


@pytest.fixture
def folder(corpus_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))


def test_the_card_counts_sources_licences_and_rows(folder: Path) -> None:
    write_card(folder, open_corpus(folder), "owner/toy")
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == ["cc-by-4.0"]
    assert card.data.size_categories == ["n<1K"]
    text = card.text
    assert "144 rows in = 144 rows out + 0 duplicates + 0 quarantined" in text
    for line in ("| toy", "| CC-BY-4.0", "cloud-hf pretrain --corpus owner/toy", "load_dataset('owner/toy'"):
        assert line in text
    for name in PICTURES:
        assert f"]({name})" in text
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_its_yaml_leads_datasets_to_the_shards_alone(folder: Path) -> None:
    from datasets import load_dataset

    write_card(folder, open_corpus(folder))
    rows: Any = load_dataset(str(folder), split="train", streaming=True)
    assert sum(1 for _ in rows) == 144


@pytest.mark.parametrize("edit", ["", "\nRead this first.\n"])
def test_a_card_that_was_edited_stays(folder: Path, edit: str) -> None:
    corpus = open_corpus(folder)
    write_card(folder, corpus)
    old = (folder / "README.md").read_text() + edit
    (folder / "README.md").write_text(old)
    write_card(folder, corpus, "owner/other")
    new = (folder / "README.md").read_text()
    assert (new == old) is bool(edit)
    assert ("owner/other" in new) is not bool(edit)


def test_licences_that_the_hub_does_not_know_are_other(folder: Path) -> None:
    corpus = open_corpus(folder)
    corpus.report["counts"]["licenses"] = {"CC-BY-4.0": 100, "unknown": 44}
    assert "license: other" in card_text(corpus)
