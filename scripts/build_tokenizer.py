"""Write the tokenizer folder from the packaged vocabulary: `tokenizer/` (ScopeTokenizer) and `tokenizer/fast/` (stock).

    python scripts/build_tokenizer.py [FOLDER]

Check first that the vocabulary is complete: the published 564 words come first and stay where they are; words that
they lack (elements, Wyckoff words of the 230 groups, generator characters) are appended, never inserted.
"""

import sys
from pathlib import Path

from pymatgen.analysis.prototypes import WYCKOFF_MULTIPLICITY_DICT
from pymatgen.core import Element

import cloud_hf
from cloud_hf.checkpoints.cards import write_card
from cloud_hf.checkpoints.export import stock_tokenizer
from cloud_hf.scope.generators import generator_words

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = ROOT / "cloud_hf" / "models" / "vocab.txt"


def needed_words() -> list[str]:
    """Every word that an encoder can write, in a fixed order."""
    generators = sorted({word for number in range(1, 231) for word in generator_words(number)})
    wyckoff = [f"{n}{letter}" for group in WYCKOFF_MULTIPLICITY_DICT.values() for letter, n in group.items()]
    elements = [Element.from_Z(z).symbol for z in range(1, 119)]
    fractions = [str(round(hundredth / 100, 2)) for hundredth in range(101)]
    return [*generators, "|", *dict.fromkeys(wyckoff), *elements, *fractions]


def complete_vocabulary() -> list[str]:
    """Append the words that the vocabulary file lacks and return all of them."""
    words = VOCABULARY.read_text(encoding="utf-8").split()
    known = set(words)
    words += [word for word in needed_words() if word not in known]
    VOCABULARY.write_text("\n".join(words) + "\n", encoding="utf-8")
    return words


def main() -> None:
    """Write both folders."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tokenizer"
    words = complete_vocabulary()
    tokenizer = cloud_hf.ScopeTokenizer()
    tokenizer.save_pretrained(folder)
    stock_tokenizer(tokenizer).save_pretrained(folder / "fast")
    write_card(folder / "fast", repo_id="tokenizer/fast")  # transformers' own class, whose pushes carry no card of ours
    print(f"{len(words)} words -> {folder} and {folder / 'fast'}")


if __name__ == "__main__":
    main()
