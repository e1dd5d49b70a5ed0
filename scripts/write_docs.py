"""Fill the marked blocks of README.md, model_card.md and docs/ from result files and real output.

    python scripts/write_docs.py

A block stands between `<!-- name -->` and `<!-- /name -->`. `heads` and what else `heads_docs.py` writes come from
`heads.json`, `intervals.json` and `ood.json` in `docs/results/`, `pretraining` from the bundled `pretraining.json`,
`screening`, `training`, `corpus` and `scope_...` from `predict.json`, `training.json`, `corpus.json` and `scope.json`;
`example`, `demo` and `elements` are what the program prints. Their sentences are in `docs_prose.md.j2`.
"""

import contextlib
import io
import json
import re
from pathlib import Path

import heads_docs
import pandas as pd
import scope_docs
from docs_parts import read, sentences, table
from transformers.utils.logging import disable_progress_bar

import cloud_hf
from cloud_hf.cli.prediction_table import terminal_table
from cloud_hf.data.inputs import collect_items
from cloud_hf.inference.phonon_plot import plot_phonon_dos
from cloud_hf.inference.prediction import load_predictor, load_predictors, predict_items

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "model_card.md", "docs/scope.md", "docs/guides/predict.md", "docs/guides/speed.md")
PICTURE = ROOT / "docs" / "pictures" / "heat_capacity.png"
DRAWN_EXAMPLES = ("C_diamond", "MgO", "Al2O3_corundum", "NaCl", "Cu")
SHOWN_EXAMPLES = ("C_diamond", "Si", "SiO2_quartz", "Al2O3_corundum", "TiO2_rutile", "Cu", "NaCl")


MEASURED = {"Cu": 24.44, "Mg": 24.87, "W": 24.27, "Si": 19.99, "C_diamond": 6.11}
"""Molar heat capacity Cp at 298.15 K, J/(mol K): CRC Handbook of Chemistry and Physics, thermodynamic tables."""


def example_block() -> str:
    """The output of the README's first Python block, by running it."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    if code is None:
        raise SystemExit("README.md has no Python block.")
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.chdir(ROOT):
        exec(compile(code.group(1), "README.md", "exec"), {})  # noqa: S102  (our own text)
    return f"```\n{output.getvalue().rstrip()}\n```"


def demo_block() -> str:
    """A few rows of the demo, with every bundled head."""
    predictor = load_predictors(likelihood=None)
    files = [str(ROOT / "examples" / f"{name}.cif") for name in SHOWN_EXAMPLES]
    shown = pd.DataFrame(terminal_table(predict_items(predictor, collect_items(files)), predictor.units))
    shown = shown.drop(columns="error").dropna(axis="columns", how="all")
    shown = shown.map(lambda value: str(value).replace(chr(10), " "))
    headers = [str(name).replace(chr(10), " ") for name in shown.columns]
    return table(shown.to_numpy().tolist(), headers)


def pretraining_block() -> str:
    """Errors of the encoder's pre-training."""
    path = Path(cloud_hf.bundled_model("heat_capacity")) / "pretraining.json"
    return sentences("pretraining", row=json.loads(path.read_text(encoding="utf-8")))


def elements_block() -> str:
    """Pure elements among the examples beside measured values."""
    predictor = load_predictor()
    names = {Path(file).stem: file for file in map(str, (ROOT / "examples").glob("*.cif"))}
    items = collect_items([names[name] for name in MEASURED])
    rows = []
    for measured, prediction in zip(MEASURED.values(), predict_items(predictor, items, 298.15), strict=True):
        quantities = {quantity["name"]: quantity["value"] for quantity in prediction.quantities}
        rows.append([prediction.item.formula, quantities["heat_capacity_per_atom"], measured])
    headers = ["element", "predicted Cv, J/(mol K)", "measured Cp, J/(mol K)"]
    return table(rows, headers, ".2f")


def screening_block() -> str:
    """Peak memory and speed of screening, as far as `scripts/benchmark_predict.py` has measured them."""
    results = read("predict.json")
    text = sentences("screening", results=results)
    if "inference" not in results:
        return text
    ways = ("here, float32", "here, bfloat16")
    rows = [
        [name, row["strings_per_second"]["paper, float32"], *(row["times_faster_than_paper"][way] for way in ways)]
        for name, row in results["inference"]["sizes"].items()
    ]
    headers = ["hidden size x layers", "padded to 64, strings/s", "here, times faster", "in bfloat16, times faster"]
    return f"{text}\n\n{table(rows, headers, '.1f')}"


def prediction_speed_block() -> str:
    """Times of the bundled model, beside the commit with five encoders, from a cold start, and in 8-bit integers."""
    results = read("predict.json")
    start = results["cold_start"]["seconds"]
    return sentences("prediction_speed", row=results["reference"], start=start, small=results["int8"])


def training_block() -> str:
    """Speed of pre-training beside the paper's recipe, from `scripts/benchmark_training.py`."""
    results = read("training.json")
    ratios = ("lean fp32 / paper fp32", "lean bf16 / paper bf16", "lean bf16 / paper fp32")
    rows = []
    for size in ("256x4", "768x12"):
        arms = results[size]["arms"]
        rates = [f"{arms[arm]['strings_per_s']:.3g}" for arm in ("paper fp32", "lean fp32", "lean bf16")]
        rows.append([size, *rates, *(f"{results[size]['ratios'][name]['median']:.1f}x" for name in ratios)])
    headers = ["hidden size x layers", "the paper's recipe, strings/s", "here, float32", "here, bf16"]
    headers += ["both float32", "both bf16", "bf16 over the paper's float32"]
    machine, slices = results["256x4"]["machine"], arms["lean fp32"]["slices"]
    text = sentences("training", machine=machine, slices=slices, curves=results["curves"])
    return f"{table(rows, headers)}\n\n{text}"


def corpus_block() -> str:
    """Memory and speed of building a corpus, from `scripts/benchmark_corpus.py`."""
    results = read("corpus.json")
    builds = sorted(
        (row for name, row in results.items() if name.startswith("memory_")), key=lambda row: row["crystals"]
    )
    rows = [
        [f"{row['crystals']:,}", row["peak_worker_MB"], row["peak_main_MB"], row["crystals_per_processor_second"]]
        for row in builds
    ]
    headers = ["crystals", "peak of the worker, MB", "peak of the main process, MB", "crystals per processor second"]
    text = sentences(
        "corpus", machine=results["machine"], speed=results["speed"], two=results["processes"], cost=results["cost"]
    )
    return f"{table(rows, headers)}\n\n{text}"


BLOCKS = {
    "corpus": corpus_block,
    "elements": elements_block,
    "example": example_block,
    "demo": demo_block,
    "pretraining": pretraining_block,
    "prediction_speed": prediction_speed_block,
    "screening": screening_block,
    "training": training_block,
    **heads_docs.BLOCKS,
    **scope_docs.BLOCKS,
}


def fill(text: str) -> str:
    """Return a document with every marked block renewed."""

    def renew(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- {name} -->\n{BLOCKS[name]()}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", renew, text, flags=re.DOTALL)


def main() -> None:
    """Renew all documents, and the picture of the README."""
    disable_progress_bar()
    files = [str(ROOT / "examples" / f"{name}.cif") for name in DRAWN_EXAMPLES]
    plot_phonon_dos(predict_items(load_predictor(), collect_items(files)), str(PICTURE))
    print(f"wrote {PICTURE}")
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
