"""Masks: a function of string, seed and epoch; special tokens untouched; the shares of BERT."""

from __future__ import annotations

import random

import pytest
import torch

from cloud_hf import ScopeTokenizer
from cloud_hf.training.collators import MaskingCollator

ELEMENTS = ["H", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "Cu", "Ti", "Sr"]


@pytest.fixture(scope="module")
def tokenizer() -> ScopeTokenizer:
    return ScopeTokenizer()


@pytest.fixture(scope="module")
def examples(tokenizer: ScopeTokenizer) -> list[dict[str, list[int]]]:
    """300 distinct strings of different length."""
    chance = random.Random(4)
    texts = []
    for _ in range(300):
        wyckoff = " ".join(chance.choices(["1a", "2b", "4c", "8d", "2i"], k=chance.randint(4, 40)))
        parts = " ".join(f"{e} 0.{chance.randint(1, 9)}" for e in chance.sample(ELEMENTS, chance.randint(1, 8)))
        texts.append(f"1 0 0 | {wyckoff} | {parts}")
    assert len(set(texts)) == len(texts)
    return [{"input_ids": ids} for ids in tokenizer(texts)["input_ids"]]


def rows(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    """Masked ids and labels of each string, without padding."""
    return [
        (ids[mask.bool()].tolist(), labels[mask.bool()].tolist())
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    ]


def test_the_mask_of_a_string_does_not_depend_on_its_batch(tokenizer: ScopeTokenizer, examples: list) -> None:
    together = rows(MaskingCollator(tokenizer, seed=1)(examples))
    backwards = rows(MaskingCollator(tokenizer, seed=1)(examples[::-1]))[::-1]
    alone = [rows(MaskingCollator(tokenizer, seed=1)([example]))[0] for example in examples]
    assert together == backwards == alone


def test_it_does_not_touch_or_follow_the_global_random_state(tokenizer: ScopeTokenizer, examples: list) -> None:
    collator = MaskingCollator(tokenizer, seed=1)
    torch.manual_seed(0)
    first = rows(collator(examples[:20]))
    state = torch.get_rng_state()
    torch.manual_seed(99)
    assert rows(collator(examples[:20])) == first
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_and_epoch_change_the_masks(tokenizer: ScopeTokenizer, examples: list) -> None:
    collators = [MaskingCollator(tokenizer, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (1, 0), (0, 1), (1, 1)]]
    masks = [[labels for _, labels in rows(collator(examples))] for collator in collators]
    for index, mask in enumerate(masks):
        for other in masks[index + 1 :]:
            same = sum(a == b for a, b in zip(mask, other, strict=True))
            assert same < len(examples) / 4


def test_the_input_is_not_changed(tokenizer: ScopeTokenizer, examples: list) -> None:
    before = [list(example["input_ids"]) for example in examples]
    MaskingCollator(tokenizer)(examples)
    assert [example["input_ids"] for example in examples] == before


def test_labels_are_the_original_words_and_minus_100_elsewhere(tokenizer: ScopeTokenizer, examples: list) -> None:
    for (inputs, labels), example in zip(rows(MaskingCollator(tokenizer)(examples)), examples, strict=True):
        for found, label, word in zip(inputs, labels, example["input_ids"], strict=True):
            assert label in (-100, word)
            if label == -100:
                assert found == word


def test_special_tokens_and_padding_are_never_asked_for(tokenizer: ScopeTokenizer, examples: list) -> None:
    special = torch.tensor(tokenizer.all_special_ids)
    for epoch in range(5):
        batch = MaskingCollator(tokenizer, mlm_probability=0.9, epoch=epoch)(examples)
        assert not torch.isin(batch["labels"], special).any()
        assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
        assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
        assert (batch["input_ids"][:, 0] == tokenizer.cls_token_id).all()


def test_random_replacements_are_words(tokenizer: ScopeTokenizer, examples: list) -> None:
    batch = MaskingCollator(tokenizer, mlm_probability=0.9)(examples)
    inside = batch["input_ids"][batch["labels"] != -100]
    others = inside[inside != tokenizer.mask_token_id]
    assert not torch.isin(others, torch.tensor(tokenizer.all_special_ids)).any()
    assert int(others.max()) < len(tokenizer)


def test_at_least_one_word_is_asked_of_every_string(tokenizer: ScopeTokenizer) -> None:
    short = [{"input_ids": tokenizer("1 0 0 | 1a | O 1.0")["input_ids"]}]
    for epoch in range(50):
        batch = MaskingCollator(tokenizer, mlm_probability=0.01, epoch=epoch)(short)
        assert (batch["labels"] != -100).sum() >= 1


def test_a_string_of_special_tokens_only_is_left_alone(tokenizer: ScopeTokenizer) -> None:
    batch = MaskingCollator(tokenizer)([{"input_ids": [tokenizer.cls_token_id, tokenizer.sep_token_id]}])
    assert (batch["labels"] == -100).all()
    assert batch["input_ids"].tolist() == [[tokenizer.cls_token_id, tokenizer.sep_token_id]]


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_shares(tokenizer: ScopeTokenizer, examples: list, share: float) -> None:
    """About 10,000 and 25,000 draws: the bounds are more than five standard deviations wide."""
    original = torch.tensor([word for example in examples for word in example["input_ids"]])
    asked, masked, kept, words = 0, 0, 0, 0
    for epoch in range(6):
        found = rows(MaskingCollator(tokenizer, mlm_probability=share, epoch=epoch)(examples))
        inputs = torch.tensor([word for row, _ in found for word in row])
        labels = torch.tensor([word for _, row in found for word in row])
        asked += int((labels != -100).sum())
        masked += int((inputs[labels != -100] == tokenizer.mask_token_id).sum())
        kept += int((inputs == labels).sum())
        words += len(original) - 2 * len(examples)
    assert asked / words == pytest.approx(share, abs=0.02)
    assert masked / asked == pytest.approx(0.8, abs=0.04)
    assert kept / asked == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(tokenizer: ScopeTokenizer, share: float) -> None:
    with pytest.raises(ValueError, match="mlm_probability"):
        MaskingCollator(tokenizer, mlm_probability=share)


class TestSegments:
    """A share of the strings loses one whole part; which one depends on string, seed and epoch only."""

    TEXTS = (
        "1 2 a O C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6",
        "1 2 a O C C n O O O 0 | 3a 3b 6c 18f 18f | Ba Ti B O O",
        "1 2 a O C C n O O O 0 | Ba 3a Ti 3b B 6c O 18f",
    )
    SIZES = ((11, 4, 4), (11, 5, 5), (11, 4, 4))

    def masked(self, tokenizer: ScopeTokenizer, text: str, epoch: int, share: float = 1.0) -> tuple[set[int], set[int]]:
        """Positions that are asked for, and those that show [MASK]."""
        collator = MaskingCollator(tokenizer, masking="segment", segment_probability=share, epoch=epoch)
        batch = collator([{"input_ids": tokenizer(text)["input_ids"]}])
        asked = (batch["labels"][0] != -100).nonzero().flatten().tolist()
        shown = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
        return set(asked), set(shown)

    @pytest.mark.parametrize(("text", "sizes"), zip(TEXTS, SIZES, strict=True))
    def test_each_part_is_lost_as_a_whole_and_as_often(
        self, tokenizer: ScopeTokenizer, text: str, sizes: tuple[int, int, int]
    ) -> None:
        words = ["[CLS]", *text.split(), "[SEP]"]
        first = words.index("|")
        parts = [set(range(1, first)), set(), set()]
        for position in range(first + 1, len(words) - 1):
            word = words[position]
            if word != "|" and "." not in word:
                parts[1 if word[0].isdigit() else 2].add(position)
        assert tuple(map(len, parts)) == sizes
        counts = [0, 0, 0]
        for epoch in range(150):
            asked, shown = self.masked(tokenizer, text, epoch)
            assert asked == shown
            counts[parts.index(asked)] += 1
        assert min(counts) > 25

    def test_the_others_are_masked_word_by_word(self, tokenizer: ScopeTokenizer, examples: list) -> None:
        plain = rows(MaskingCollator(tokenizer)(examples))
        mixed = rows(MaskingCollator(tokenizer, masking="segment", segment_probability=0.3)(examples))
        same = sum(a == b for a, b in zip(plain, mixed, strict=True)) / len(examples)
        assert 0.6 < same < 0.8
        assert rows(MaskingCollator(tokenizer, masking="segment", segment_probability=0.0)(examples)) == plain

    def test_it_does_not_depend_on_the_batch(self, tokenizer: ScopeTokenizer, examples: list) -> None:
        collator = MaskingCollator(tokenizer, masking="segment", segment_probability=0.5, seed=1, epoch=2)
        alone = [rows(collator([example]))[0] for example in examples]
        assert rows(collator(examples)) == alone

    @pytest.mark.parametrize("wrong", [{"masking": "words"}, {"segment_probability": 1.5}, {"pad_to_multiple_of": 0}])
    def test_wrong_values_are_refused(self, tokenizer: ScopeTokenizer, wrong: dict) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MaskingCollator(tokenizer, **wrong)


def test_a_string_is_masked_in_a_packed_row_as_alone(tokenizer: ScopeTokenizer, examples: list) -> None:
    collator = MaskingCollator(tokenizer, masking="segment", seed=1)
    alone = rows(collator(examples[:5]))
    ids = [example["input_ids"] for example in examples[:5]]
    packed = [
        {"input_ids": [word for row in ids[:3] for word in row], "lengths": [len(row) for row in ids[:3]]},
        {"input_ids": [word for row in ids[3:] for word in row], "lengths": [len(row) for row in ids[3:]]},
    ]
    batch = collator(packed)
    for row, strings in enumerate(([0, 1, 2], [3, 4])):
        for number, string in enumerate(strings):
            inside = batch["sequence_ids"][row] == number
            assert batch["position_ids"][row][inside].tolist() == list(range(len(ids[string])))
            assert (batch["input_ids"][row][inside].tolist(), batch["labels"][row][inside].tolist()) == alone[string]
    padding = batch["attention_mask"] == 0
    assert (batch["sequence_ids"][padding] == -1).all()
    assert ((batch["sequence_ids"] == -1) == padding).all()


def test_the_width_is_rounded_up(tokenizer: ScopeTokenizer, examples: list) -> None:
    batch = MaskingCollator(tokenizer, pad_to_multiple_of=8)(examples[:7])
    longest = max(len(example["input_ids"]) for example in examples[:7])
    assert batch["input_ids"].shape == (7, -(-longest // 8) * 8)
    plain = MaskingCollator(tokenizer)(examples[:7])
    assert torch.equal(batch["labels"][:, :longest], plain["labels"])


def test_the_shares_of_bert(tokenizer: ScopeTokenizer, examples: list) -> None:
    """15 % are asked for, of which 80 % show [MASK], 10 % another word and 10 % themselves."""
    asked = mask = kept = words = 0
    for epoch in range(8):
        batch = MaskingCollator(tokenizer, epoch=epoch)(examples)
        chosen = batch["labels"] != -100
        asked += int(chosen.sum())
        words += int(batch["attention_mask"].sum()) - 2 * len(examples)
        mask += int((batch["input_ids"] == tokenizer.mask_token_id).sum())
        kept += int((batch["input_ids"] == batch["labels"])[chosen].sum())
    assert asked / words == pytest.approx(0.15, abs=0.01)
    assert mask / asked == pytest.approx(0.8, abs=0.02)
    assert kept / asked == pytest.approx(0.1, abs=0.02)
