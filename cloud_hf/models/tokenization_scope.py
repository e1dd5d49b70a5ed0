"""The SCOPE tokenizer: one word, one id, closed vocabulary. Flat: ships as Hub remote code."""

import os
from itertools import chain
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizer

from .errors import CloudError, GrammarError, ScopeTooLongError, UnknownWordError
from .saving_cloud import PushedWithCard, write_whole

__all__ = ["ScopeTokenizer", "grammar_of"]

VOCAB_FILES_NAMES = {"vocab_file": "vocab.txt"}

MAX_WIDTH = 1_000_000
"""Without a limit on the length, transformers gives a huge `model_max_length`, to which nothing is padded."""


def grammar_of(scope: str) -> str:
    """Tell the grammar of a SCOPE string by its form.

    Args:
        scope: A SCOPE string.

    Returns:
        `"composition"` (`generators | Wyckoff set | element fraction …`), `"full"` (`generators | one Wyckoff
        word per site | one element per site`) or `"sites"` (`generators | element Wyckoff element Wyckoff …`).

    Raises:
        GrammarError: The text has none of these forms; the message says what was found.
    """
    segments = [segment.split() for segment in scope.split("|")]
    if len(segments) == 2 and all(segments):
        words = segments[1]
        if len(words) % 2 == 0 and all(map(_is_element, words[::2])) and all(map(_is_wyckoff, words[1::2])):
            return "sites"
        raise GrammarError(_describe(scope, "its second part is not a list of element and Wyckoff word pairs"))
    if len(segments) != 3 or not all(segments):
        raise GrammarError(_describe(scope, f"it has {sum(map(bool, segments))} non-empty parts between '|'"))
    wyckoff, last = segments[1:]
    if not all(map(_is_wyckoff, wyckoff)):
        raise GrammarError(_describe(scope, "its second part is not a list of Wyckoff words"))
    if len(last) % 2 == 0 and all(map(_is_element, last[::2])) and all(map(_is_fraction, last[1::2])):
        return "composition"
    if len(last) == len(wyckoff) and all(map(_is_element, last)):
        return "full"
    raise GrammarError(
        _describe(scope, "its third part is neither element and fraction pairs nor one element per site")
    )


def _describe(scope: str, reason: str) -> str:
    shown = scope if len(scope) <= 80 else scope[:77] + "..."
    return (
        f"{shown!r} is not a SCOPE string: {reason}. "
        "Expected e.g. '1 0 0 | 2i | Cu 1.0' (composition), or the path of a CIF or POSCAR file."
    )


def _is_element(word: str) -> bool:
    return word == "[MASK]" or (word.isalpha() and word[0].isupper() and len(word) <= 2)


def _is_wyckoff(word: str) -> bool:
    return word == "[MASK]" or (word[:-1].isdigit() and word[-1].isalpha())


def _is_fraction(word: str) -> bool:
    return word == "[MASK]" or (word[:1].isdigit() and "." in word and word.replace(".", "", 1).isdigit())


class ScopeTokenizer(PushedWithCard, PreTrainedTokenizer):
    """Word-level tokenizer for SCOPE strings with a closed vocabulary.

    Ids 0 to 563 are those of the paper's released tokenizer, on which the published weights were trained.
    `O C B F Y …` are generator characters and elements with one id: the segment (before or after the first
    `|`) decides what such a token means, never the id. A word outside the vocabulary, or a string longer than
    `model_max_length` without `truncation=True`, is an error that names it.

    Args:
        vocab_file: One word a line, the line number is the id. Default: the vocabulary inside the package.
        model_max_length: Tokens that the model has positions for, [CLS] and [SEP] included.
        encoder_settings: What made the strings that the tokenizer's model was trained on, as `ScopeEncoder.settings`
            writes it: grammar, tolerances, version of the symmetry search. None if unknown.

    Raises:
        UnknownWordError: A word is not in the vocabulary.
        ScopeTooLongError: More tokens than `model_max_length`.
    """

    _auto_class = "AutoTokenizer"  # as `register_for_auto_class` sets it, which imports every model of transformers
    vocab_files_names = VOCAB_FILES_NAMES
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012  (the base class's contract)

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        unk_token: str = "[UNK]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        cls_token: str = "[CLS]",
        mask_token: str = "[MASK]",
        model_max_length: int = 256,
        encoder_settings: str | None = None,
        **kwargs: Any,
    ) -> None:
        path = Path(__file__).with_name(VOCAB_FILES_NAMES["vocab_file"]) if vocab_file is None else Path(vocab_file)
        words = path.read_text(encoding="utf-8").split()
        self._ids: dict[str, int] = {word: index for index, word in enumerate(words)}
        self._words: list[str] = words
        self.encoder_settings = encoder_settings
        kwargs.setdefault("special_tokens_pattern", "cls_sep")
        kwargs.setdefault("token_type_ids_pattern", "all_zeros")
        super().__init__(
            unk_token=unk_token,
            sep_token=sep_token,
            pad_token=pad_token,
            cls_token=cls_token,
            mask_token=mask_token,
            model_max_length=model_max_length,
            encoder_settings=encoder_settings,  # the base class saves what it is given here
            **kwargs,
        )

    @property
    def vocab_size(self) -> int:
        """Number of words, special tokens included."""
        return len(self._words)

    def get_vocab(self) -> dict[str, int]:
        """Return a copy of the vocabulary, word to id."""
        return dict(self._ids) | self.added_tokens_encoder

    def __call__(
        self, text: Any = None, *args: Any, truncation: bool | str | None = False, **kwargs: Any
    ) -> BatchEncoding:
        """Tokenize strings as every tokenizer does, but cut them only if `truncation` says so; so does `encode`.

        Strings with no more than `padding`, `max_length` and `return_tensors` take a short cut that gives the same.

        Raises:
            UnknownWordError, ScopeTooLongError: See the class.
            CloudError: `return_offsets_mapping` is asked for, which a tokenizer in Python does not have.
        """
        if kwargs.pop("return_offsets_mapping", False):
            raise CloudError(
                "ScopeTokenizer gives no offsets of its words. The stock tokenizer with the same ids does: "
                "cloud_hf.checkpoints.export.stock_tokenizer(tokenizer)."
            )
        truncation = False if truncation is None else truncation
        if truncation is False and not args and kwargs.keys() <= {"padding", "max_length", "return_tensors"}:
            batch = self._encode_plain(text, **kwargs)
            if batch is not None:
                return batch
        return cast(BatchEncoding, super().__call__(text, *args, truncation=truncation, **kwargs))

    def encode(
        self,
        text: Any,
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = False,
        **kwargs: Any,
    ) -> list[int]:
        """Return the ids alone; arguments and errors are those of a call, and no string is cut unasked."""
        truncation = False if truncation is None else truncation
        ids: list[int] = super().encode(text, text_pair, add_special_tokens, padding, truncation, **kwargs)
        return ids

    def _encode_plain(
        self, text: Any, padding: Any = False, max_length: int | None = None, return_tensors: Any = None
    ) -> BatchEncoding | None:
        """Look the words up and pad the rows, or return `None` where the base class has to decide or to refuse."""
        texts = [text] if isinstance(text, str) else text
        ids = self._word_ids()
        cls, sep, pad = self.cls_token_id, self.sep_token_id, self.pad_token_id
        if (
            ids is None
            or not isinstance(texts, (list, tuple))
            or set(map(type, texts)) != {str}
            or None in (cls, sep, pad)
            or not (padding is True or padding is False or isinstance(padding, str))
            or return_tensors not in (None, "pt", "np")
            or self.padding_side != "right"
            or self.special_tokens_pattern != "cls_sep"
            or self.model_input_names != ["input_ids", "attention_mask"]
        ):
            return None
        find = ids.__getitem__
        try:
            rows = [[cls, *map(find, words.split()), sep] for words in texts]
        except KeyError:  # the base class names the word
            return None
        lengths = list(map(len, rows))
        longest = max(lengths)
        if padding in (True, "longest") and max_length is None:
            width = longest
        elif padding == "max_length":
            width = self.model_max_length if max_length is None else max_length
        elif padding is False and max_length is None and (return_tensors is None or min(lengths) == longest):
            width = 0
        else:
            return None
        if longest > min(self.model_max_length, width or longest) or width > MAX_WIDTH:
            return None
        if return_tensors is None:
            masks = [[1] * n + [0] * (width - n) for n in lengths]
            padded = [row + [pad] * (width - len(row)) for row in rows]
            if isinstance(text, str):
                return BatchEncoding({"input_ids": padded[0], "attention_mask": masks[0]})
            return BatchEncoding({"input_ids": padded, "attention_mask": masks})
        filled = np.arange(width or longest) < np.array(lengths)[:, None]
        input_ids = np.full(filled.shape, pad, dtype=np.int64)
        input_ids[filled] = np.fromiter(chain.from_iterable(rows), np.int64, count=sum(lengths))
        arrays = {"input_ids": input_ids, "attention_mask": filled.astype(np.int64)}
        if return_tensors == "np":
            return BatchEncoding(arrays)
        try:
            import torch
        except ImportError:
            return None
        return BatchEncoding({key: torch.from_numpy(array) for key, array in arrays.items()})

    def _word_ids(self) -> dict[str, int] | None:
        """Return the id of each word, or `None` where an added token makes more of a string than its words.

        The base class cuts a string at its added tokens before it cuts it at white space.
        """
        added = self.added_tokens_encoder
        known, ids = _PLAIN.get(self, (None, None))
        if added != known:
            words = self.get_vocab()
            plain = all(token == word or token not in word for token in added for word in words)
            plain &= all(token.split() == [token] for token in added)
            ids = words if plain else None
            _PLAIN[self] = added, ids
        return ids

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return text.split()

    def _convert_token_to_id(self, token: str) -> int:
        try:
            return self._ids[token]
        except KeyError:
            raise UnknownWordError(
                f"The word {token!r} is not in the SCOPE vocabulary. Words are generator characters, Wyckoff words "
                "such as '4a', element symbols, fractions with up to two decimals from 0.0 to 1.0, and '|'."
            ) from None

    def _convert_id_to_token(self, index: int) -> str:
        if not 0 <= index < len(self._words):
            raise UnknownWordError(f"The id {index} is not in the SCOPE vocabulary of {len(self._words)} words.")
        return self._words[index]

    def prepare_for_model(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """Add special tokens, cut and pad the ids of one string, as the base class does.

        Raises:
            ScopeTooLongError: More tokens than `model_max_length`, where the base class would only warn.
        """
        length = len(ids) + len(pair_ids or ())
        if add_special_tokens:
            length += self.num_special_tokens_to_add(pair=pair_ids is not None)
        truncation = truncation or False
        if truncation not in (False, "do_not_truncate"):
            length = min(length, self.model_max_length if max_length is None else max_length)
        if length > self.model_max_length:
            raise ScopeTooLongError(
                f"A SCOPE string of {length} tokens is longer than the {self.model_max_length} positions of the "
                f"model: {' '.join(self.convert_ids_to_tokens(ids[:12]))} ... Pass truncation=True only if a cut "
                "string is really wanted, or use a model with more positions."
            )
        truncation = False if truncation is None else truncation
        return super().prepare_for_model(ids, pair_ids, add_special_tokens, padding, truncation, max_length, **kwargs)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write `vocab.txt` into a folder and return its path."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        path = Path(save_directory) / (prefix + VOCAB_FILES_NAMES["vocab_file"])
        write_whole("\n".join(self._words) + "\n", path)
        return (str(path),)


_PLAIN: WeakKeyDictionary[ScopeTokenizer, tuple[dict[str, int], dict[str, int] | None]] = WeakKeyDictionary()
"""Added tokens and what `_word_ids` gives for them. Not in the tokenizer, whose hash, by which `datasets` finds what it
has mapped, a call must not change."""
