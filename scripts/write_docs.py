"""Fill the marked blocks of README.md, model_card.md and docs/ from result files and real output.

    python scripts/write_docs.py

A block stands between `<!-- name -->` and `<!-- /name -->`. `heads` and what else `heads_docs.py` writes come from
`heads.json`, `intervals.json` and `ood.json` in `docs/results/`, `pretraining` from the bundled `pretraining.json`,
`screening`, `training`, `corpus` and `scope_...` from `predict.json`, `training.json`, `corpus.json` and `scope.json`;
`example`, `demo` and `elements` are what the program prints.
"""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import heads_docs
import pandas as pd
import scope_docs
from tabulate import tabulate
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
    table = pd.DataFrame(terminal_table(predict_items(predictor, collect_items(files)), predictor.units))
    table = table.drop(columns="error").dropna(axis="columns", how="all")
    shown = table.map(lambda value: str(value).replace(chr(10), " "))
    headers = [str(name).replace(chr(10), " ") for name in table.columns]
    return tabulate(shown.to_numpy().tolist(), headers=headers, tablefmt="github", disable_numparse=True)


def pretraining_block() -> str:
    """Errors of the encoder's pre-training."""
    path = Path(cloud_hf.bundled_model("heat_capacity")) / "pretraining.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    kinds = ", ".join(
        f"{kind} {row[f'validation_masked_accuracy_{key}']:.1%} (perplexity {row[f'validation_perplexity_{key}']:.2f})"
        for kind, key in (("generators", "generators"), ("Wyckoff positions", "wyckoff"), ("elements", "elements"))
    )
    return (
        f"{row['train_strings']:,} distinct strings; on {row['validation_strings']:,} strings kept back: perplexity "
        f"{row['validation_perplexity']:.2f} and accuracy {row['validation_masked_accuracy']:.1%} over "
        f"{row['validation_masked_words']:,.0f} masked words. By the kind of word: {kinds}."
    )


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
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".2f")


def screening_block() -> str:
    """Peak memory and speed of screening, as far as `scripts/benchmark_predict.py` has measured them."""
    results = json.loads((ROOT / "docs" / "results" / "predict.json").read_text(encoding="utf-8"))
    peaks = ", ".join(f"{row['peak_memory_MB']} MB for {row['strings']:,}" for row in results["memory"]["sizes"])
    text = f"Peak memory of the command with a tiny model: {peaks} strings."
    if "million" in results:
        few, row = results["twenty_thousand"], results["million"]
        text += (
            f" A model of 4 layers x 192 in bfloat16: {few['peak_memory_MB']} MB for {few['strings']:,}, "
            f"{row['peak_memory_MB']} MB for {row['strings']:,} strings, which took it {row['seconds'] / 60:.0f} "
            "minutes on one core with the other one busy."
        )
    return text + (_inference_text(results) if "inference" in results else "")


def prediction_speed_block() -> str:
    """Times of the bundled model, beside the commit with five encoders, from a cold start, and in 8-bit integers."""
    results = json.loads((ROOT / "docs" / "results" / "predict.json").read_text(encoding="utf-8"))
    row, start, small = results["reference"], results["cold_start"]["seconds"], results["int8"]
    times, faster, ways = row["ms_per_string"], row["times_faster"], small["ms_per_string"]
    most = max(small["mean_change"].items(), key=lambda item: item[1]["of_the_error"])
    return (
        f"Processor time of one core, {row['strings']:,} strings: every property with intervals and flag "
        f"{times['everything']:.1f} ms a string, {faster['everything']:.1f} times as fast as commit {row['commit']}, "
        f"which ran five encoders; one member without the flag {times['one member, no flag']:.1f} ms, "
        f"{faster['one member, no flag']:.1f} times. One CIF from a cold start: {start['predict']:.1f} s, of which the "
        f"import of torch and transformers' `AutoModel` takes {start['import torch and AutoModel']:.1f} s; that commit "
        f"took {start['reference']:.1f} s. Matrices of 8-bit integers (ONNX Runtime, {small['MB']['int8']} MB instead "
        f"of {small['MB']['float32']}): {ways['ONNX Runtime, int8']:.1f} ms a string for the passes alone, beside "
        f"{ways['here, float32']:.1f} ms in float32 here and {ways['ONNX Runtime, float32']:.1f} ms in ONNX Runtime; "
        f"they change predictions by {most[1]['of_the_error']:.0%} of the mean absolute error at most (`{most[0]}`)."
    )


def _inference_text(results: dict[str, Any]) -> str:
    errors = results["inference"]["bundled_model"].items()
    changes = ", ".join(f"{name} by {row['mean_relative_error']:.2%}" for name, row in errors)
    ways = ("here, float32", "here, bfloat16")
    rows = [
        [
            name,
            row["strings_per_second"]["paper, float32"],
            *(row["times_faster_than_paper"][way] for way in ways),
        ]
        for name, row in results["inference"]["sizes"].items()
    ]
    headers = ["hidden size x layers", "padded to 64, strings/s", "here, times faster", "in bfloat16, times faster"]
    return (
        f" Inference on one core ({results['inference']['machine']['processor']}) is compared with the same strings "
        f"padded to 64, as the paper does; bfloat16 changes what it predicts, on average: {changes}.\n\n"
        + tabulate(rows, headers=headers, tablefmt="github", floatfmt=".1f")
    )


def training_block() -> str:
    """Speed of pre-training beside the paper's recipe, from `scripts/benchmark_training.py`."""
    results = json.loads((ROOT / "docs" / "results" / "training.json").read_text(encoding="utf-8"))
    ratios = ("lean fp32 / paper fp32", "lean bf16 / paper bf16", "lean bf16 / paper fp32")
    rows = []
    for size in ("256x4", "768x12"):
        arms = results[size]["arms"]
        rates = [f"{arms[arm]['strings_per_s']:.3g}" for arm in ("paper fp32", "lean fp32", "lean bf16")]
        rows.append([size, *rates, *(f"{results[size]['ratios'][name]['median']:.1f}x" for name in ratios)])
    headers = ["hidden size x layers", "the paper's recipe, strings/s", "here, float32", "here, bf16"]
    headers += ["both float32", "both bf16", "bf16 over the paper's float32"]
    curves, machine = results["curves"], results["256x4"]["machine"]
    return (
        f"{tabulate(rows, headers=headers, tablefmt='github', disable_numparse=True)}\n\n{machine}; "
        f"medians of {arms['lean fp32']['slices']} slices in turn. On the same strings and masks the losses of both "
        f"recipes differ by at most {curves['largest_difference_lean_paper']:.0e} over {len(curves['losses']['lean'])} "
        "steps (`docs/results/training_loss.png`)."
    )


def corpus_block() -> str:
    """Memory and speed of building a corpus, from `scripts/benchmark_corpus.py`."""
    results = json.loads((ROOT / "docs" / "results" / "corpus.json").read_text(encoding="utf-8"))
    builds = sorted(
        (row for name, row in results.items() if name.startswith("memory_")), key=lambda row: row["crystals"]
    )
    rows = [
        [f"{row['crystals']:,}", row["peak_worker_MB"], row["peak_main_MB"], row["crystals_per_processor_second"]]
        for row in builds
    ]
    headers = ["crystals", "peak of the worker, MB", "peak of the main process, MB", "crystals per processor second"]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    speed, two, cost = results["speed"], results["processes"], results["cost"]
    seconds = " s against ".join(f"{two['seconds'][number]:.0f}" for number in ("2", "1"))
    sites, every, worker = (f"{ratio:.0%}" for name, ratio in speed["of_encoder"].items() if name != "encoder")
    return (
        f"{table}\n\nReal crystals with perturbed cells, {results['machine']['processor']}; larger sizes were not "
        f"measured. On one core a build of {speed['crystals']:,} crystals reaches {sites} of the bare encoder's speed "
        f"({speed['crystals_per_second']['encoder']:.0f} crystals/s) with the grammar `sites`, {every} with all three, "
        f"{worker} with a worker process that can be stopped, as the command has it: medians of {speed['rounds']} "
        f"rounds in turn, processor time. Two worker processes take {two['times_processor_time']:.2f} times the "
        f"processor time of one and finish {two['times_faster']:.2f} times as fast "
        f"({seconds} s on {two['cores']} vCPUs, start of the command included; {two['crystals']:,} crystals, "
        f"medians of {two['rounds']} runs in turn). At the "
        f"rate of the largest build, {cost['crystals'] / 1e6:.1f} million crystals take "
        f"{cost['core_hours']:.1f} core-hours."
    )


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
