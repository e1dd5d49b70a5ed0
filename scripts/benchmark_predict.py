"""Measure screening: peak memory and speed of `cloud-hf predict`, and inference beside the paper's padding.

    OMP_NUM_THREADS=1 python scripts/benchmark_predict.py               # memory and inference, a few minutes
    OMP_NUM_THREADS=1 python scripts/benchmark_predict.py --parts million    # one million strings, bundled model

Each part is stored in the output file when it is done and left out of the next run, unless `--again` is given.

memory      Peak resident memory of the command in a process of its own, for growing tables of strings, with a small
            random model, as memory does not depend on the model's speed.
inference   The prediction path of this package (strings in, quantities out, batches of similar length) against
            `BertModel` with the paper's vocabulary of 30,522 and strings padded to 64, batches of 256, SDPA: the same
            strings, one thread, random weights of the same size, the ways taken in turn, medians of processor time.
            The paper's side is the encoder's forward pass alone, its ids made before.
reference   The command on the same strings, beside an earlier commit of this package that is checked out for it: with
            every property, interval and flag, and with one member and no flag. The ways are taken in turn, each on
            many strings and on few; medians of processor time for each further string, of one thread.
int8        The bundled model's passes with matrices of 8-bit integers in ONNX Runtime, beside the same in float32 and
            this package's own passes, in batches of similar length; and what the integers change.
cold_start  Processor time of the command on one CIF file, from the start of the process to its end, beside the import
            of torch and transformers' AutoModel alone, and beside the earlier commit.
twenty_thousand  The same as `million` on 20,000 strings, to compare the memory with.
million     The command with the bundled model in bfloat16 on one million strings, the best 100 kept.

Strings are those of a table, with their elements exchanged for others where more are needed than it has.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmarking import processor
from tqdm import tqdm
from transformers import BertConfig, BertModel
from transformers.utils.logging import disable_progress_bar

from cloud_hf import CloudConfig, CloudForDebye, CrystalPropertyPipeline, ScopeTokenizer, bundled_model
from cloud_hf.checkpoints.export import export
from cloud_hf.checkpoints.reading import read_config
from cloud_hf.data.inputs import Item, encode_items
from cloud_hf.data.writers import open_writer
from cloud_hf.files import write_json
from cloud_hf.inference.fast_model import load_fast
from cloud_hf.inference.prediction import load_predictor, predict_encoded
from cloud_hf.scope.canonical import ELEMENT_ORDER

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("memory", "inference", "reference", "cold_start", "int8", "twenty_thousand", "million")
REFERENCE = "e3391d6"
"""The commit before one checkpoint had every head; its `predict` ran five encoders, of which one for every element."""

FEW_STRINGS = 16
MEMORY_SIZES = (10_000, 20_000, 200_000)
PAPER_LENGTH, PAPER_VOCABULARY, PAPER_BATCH = 64, 30_522, 256

SIZES = {"256 x 4": (256, 4, 4, 2048, 256), "768 x 12": (768, 12, 12, 256, 32)}
"""Hidden size, layers, heads, strings, and strings per batch here (few, so that a small sample has several batches)."""


def strings_of(table: Path, n: int, seed: int = 0) -> Iterator[str]:
    """Yield `n` strings: those of the table in random order, then again with elements exchanged for others."""
    scopes = pd.read_parquet(table, columns=["scope"])["scope"].tolist()
    chance = random.Random(seed)
    exchanged = dict(zip(ELEMENT_ORDER, ELEMENT_ORDER, strict=True))
    while n > 0:
        chance.shuffle(scopes)
        for scope in scopes[:n]:
            generators, rest = scope.split("|", 1)
            yield f"{generators}|{' '.join(exchanged.get(word, word) for word in rest.split(' '))}"
        n -= len(scopes)
        exchanged = dict(zip(ELEMENT_ORDER, chance.sample(ELEMENT_ORDER, len(ELEMENT_ORDER)), strict=True))


def peak_memory(table: Path, n: int, *argv: str) -> dict[str, Any]:
    """Run `cloud-hf predict` on `n` strings and return its peak memory and speed."""
    with tempfile.TemporaryDirectory() as folder:
        given, predicted = Path(folder, "strings.parquet"), Path(folder, "predicted.parquet")
        with open_writer(given, {"scope": "object"}) as writer:
            for scope in strings_of(table, n):
                writer.write({"scope": scope})
        command = [sys.executable, "-m", "cloud_hf", "predict", str(given), "-o", str(predicted), *argv]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}.")
        return {
            "strings": n,
            "peak_memory_MB": round(usage.ru_maxrss / 1024),
            "seconds": round(seconds, 1),
            "strings_per_second": round(n / seconds, 1),
            "output_MB": round(predicted.stat().st_size / 1e6, 1),
        }


def memory(table: Path) -> dict[str, Any]:
    """Peak memory for each size."""
    with tempfile.TemporaryDirectory() as folder:
        config = CloudConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
        CloudForDebye(config).save_pretrained(folder)
        ScopeTokenizer().save_pretrained(folder)
        rows = [peak_memory(table, n, "--model", folder) for n in tqdm(MEMORY_SIZES, desc="memory", disable=None)]
    growth = rows[-1]["peak_memory_MB"] - rows[0]["peak_memory_MB"]
    return {"model": "32 x 1, random", "sizes": rows, "growth_MB": growth}


def inference(table: Path, rounds: int) -> dict[str, Any]:
    """Strings per second of each way, and what bfloat16 costs in accuracy."""
    results: dict[str, Any] = {"rounds": rounds, "paper_batch": PAPER_BATCH, "sizes": {}}
    for name, (hidden, layers, heads, n, batch) in SIZES.items():
        sizes: dict[str, Any] = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
        sizes["intermediate_size"] = 4 * hidden
        scopes = list(strings_of(table, n))
        ways = {"paper, float32": _paper(sizes, scopes)}
        for dtype in ("float32", "bfloat16"):
            ways[f"here, {dtype}"] = _here(sizes, scopes, batch, getattr(torch, dtype))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in tqdm(range(rounds), desc=name, disable=None):
            for way, run in ways.items():
                start = time.process_time()  # of this one thread, which other work on the machine disturbs least
                run()
                seconds[way].append(time.process_time() - start)
        paper = seconds["paper, float32"]
        ratios = {
            way: statistics.median(one / two for one, two in zip(paper, times, strict=True))
            for way, times in seconds.items()
        }
        results["sizes"][name] = {
            "strings": n,
            "batch": batch,
            "strings_per_second": {way: round(n / statistics.median(times), 1) for way, times in seconds.items()},
            "times_faster_than_paper": {way: round(ratio, 2) for way, ratio in ratios.items()},
            "bfloat16_relative_error_of_cls": _state_error(sizes, scopes[:PAPER_BATCH]),
        }
    results["bundled_model"] = _bundled_error(list(strings_of(table, 2048)))
    return results


def _paper(sizes: dict[str, Any], scopes: list[str]) -> Callable[[], None]:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=PAPER_VOCABULARY, max_position_embeddings=PAPER_LENGTH, pad_token_id=1, **sizes)
    model = BertModel(config).eval()
    model.set_attn_implementation("sdpa")
    tokens = ScopeTokenizer()(scopes, padding="max_length", max_length=PAPER_LENGTH, return_tensors="pt")

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(scopes), PAPER_BATCH):
                model(**{name: values[start : start + PAPER_BATCH] for name, values in tokens.items()})

    return run


def _predictor(sizes: dict[str, Any], dtype: torch.dtype) -> CrystalPropertyPipeline:
    torch.manual_seed(0)
    model: Any = CloudForDebye(CloudConfig(**sizes)).eval().to(dtype)
    return CrystalPropertyPipeline(model, tokenizer=ScopeTokenizer(), task="crystal-property")


def _encoder_of(predictor: Any) -> Any:
    return predictor.model.bert


def _here(sizes: dict[str, Any], scopes: list[str], batch: int, dtype: torch.dtype) -> Callable[[], None]:
    predictor = _predictor(sizes, dtype)
    items = [Item(scope, scope=scope) for scope in scopes]

    def run() -> None:
        for prediction in predict_encoded(predictor, encode_items(items, predictor.encoder), batch_size=batch):
            if prediction.item.error is not None:
                raise SystemExit(str(prediction.item.error))

    return run


def _state_error(sizes: dict[str, Any], scopes: list[str]) -> float:
    """Median over strings of |difference| / |state| of the [CLS] state."""
    tokens = ScopeTokenizer()(scopes, padding=True, return_tensors="pt")
    with torch.inference_mode():
        exact, fast = (
            _encoder_of(_predictor(sizes, dtype))(**tokens).last_hidden_state[:, 0].double()
            for dtype in (torch.float32, torch.bfloat16)
        )
    return round(float(((exact - fast).norm(dim=1) / exact.norm(dim=1)).median()), 5)


def _bundled_error(scopes: list[str]) -> dict[str, Any]:
    """Relative difference of every quantity that the bundled model predicts in bfloat16."""
    values = []
    for dtype in ("float32", "bfloat16"):
        predictor = load_predictor(dtype=dtype)
        items = encode_items((Item(scope, scope=scope) for scope in scopes), predictor.encoder)
        values.append([[q["value"] for q in prediction.quantities] for prediction in predict_encoded(predictor, items)])
        names = list(predictor.units)
    exact, fast = map(torch.tensor, values)
    errors = ((fast - exact) / exact).abs()
    return {
        name: {"mean_relative_error": round(float(column.mean()), 5), "p99": round(float(column.quantile(0.99)), 5)}
        for name, column in zip(names, errors.T, strict=False)
    }


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a folder with the tree of a commit."""
    git = shutil.which("git")
    if git is None:
        raise SystemExit("The reference and cold_start parts check a commit out with git, which is not here.")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        subprocess.run([git, "worktree", "add", "--detach", "--quiet", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run([git, "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def seconds_of(tree: Path, *argv: str) -> float:
    """Processor time of a Python process and its children with the package of a tree, s."""
    variables = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL, cwd=tree, env=variables)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with status {process.returncode}.")
    return usage.ru_utime + usage.ru_stime


def beside_reference(table: Path, n: int, rounds: int, model: str, commit: str) -> dict[str, Any]:
    """Time for each string of every way."""
    with checked_out(commit) as old, tempfile.TemporaryDirectory() as folder:
        ways = {
            "reference": (old, []),
            "everything": (ROOT, ["--model", model]),
            "one member, no flag": (ROOT, ["--model", model, "--members", "1", "--likelihood", "none"]),
        }
        given = {number: Path(folder, f"{number}.parquet") for number in (n, FEW_STRINGS)}
        for number, path in given.items():
            pd.DataFrame({"scope": list(strings_of(table, number))}).to_parquet(path)
        times_of: dict[str, list[float]] = {way: [] for way in ways}
        for _ in tqdm(range(rounds), desc="reference", disable=None):
            for way, (tree, argv) in ways.items():
                many, few = (
                    seconds_of(tree, "-m", "cloud_hf", "predict", str(path), "-o", f"{folder}/out.parquet", *argv)
                    for path in given.values()
                )
                times_of[way].append(1000 * (many - few) / (n - FEW_STRINGS))
    medians = {way: statistics.median(times) for way, times in times_of.items()}
    return {
        "commit": commit,
        "strings": n,
        "rounds": rounds,
        "ms_per_string": {way: round(value, 3) for way, value in medians.items()},
        "times_faster": {way: round(medians["reference"] / value, 2) for way, value in medians.items()},
    }


def cold_start(rounds: int, model: str, commit: str) -> dict[str, Any]:
    """Time of one crystal from a cold start, beside imports alone."""
    crystal = str(ROOT / "examples" / "Cu.cif")
    with checked_out(commit) as old:
        ways = {
            "import torch and AutoModel": (ROOT, ["-c", "import torch; from transformers import AutoModel"]),
            "import torch and a model class": (ROOT, ["-c", "from transformers.models.bert import modeling_bert"]),
            "predict": (ROOT, ["-m", "cloud_hf", "predict", crystal, "--model", model]),
            "reference": (old, ["-m", "cloud_hf", "predict", crystal]),
        }
        times_of: dict[str, list[float]] = {way: [] for way in ways}
        for _ in tqdm(range(rounds), desc="cold start", disable=None):
            for way, (tree, argv) in ways.items():
                times_of[way].append(seconds_of(tree, *argv))
    return {
        "commit": commit,
        "rounds": rounds,
        "seconds": {way: round(statistics.median(times), 2) for way, times in times_of.items()},
    }


def int8(table: Path, n: int, rounds: int) -> dict[str, Any]:
    """Time for each string of every way, and how far the integers move what is predicted, in units of the errors."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    predictor: Any = load_fast(bundled_model(), read_config(bundled_model()), flagged=False)
    scopes = sorted(strings_of(table, n), key=lambda scope: len(scope.split()))
    batches = [
        dict(predictor.tokenizer(scopes[start : start + 64], padding=True, return_tensors="pt"))
        | {"n_atoms": torch.ones(len(scopes[start : start + 64]))}
        for start in range(0, n, 64)
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        export(bundled_model(), f"{folder}/onnx", "onnx")
        whole, small = f"{folder}/onnx/model.onnx", f"{folder}/int8.onnx"
        quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"])
        sessions = [onnxruntime.InferenceSession(path, options) for path in (whole, small)]
        megabytes = [round(Path(path).stat().st_size / 1e6, 1) for path in (whole, small)]

    def run(session: Any) -> list[Any]:
        passes = []
        for batch in batches:
            feed = {name: batch[name].numpy() for name in ("input_ids", "attention_mask", "n_atoms")}
            feed["temperature"] = torch.full_like(batch["n_atoms"], 300.0).numpy()
            passes.append(session.run(None, feed)[:2])
        return passes

    ways: dict[str, Callable[[], Any]] = {
        "here, float32": lambda: [predictor.forward(batch) for batch in batches],
        "ONNX Runtime, float32": lambda: run(sessions[0]),
        "ONNX Runtime, int8": lambda: run(sessions[1]),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    outputs: dict[str, Any] = {}
    for _ in tqdm(range(rounds), desc="int8", disable=None):
        for way, passes in ways.items():
            start = time.process_time()
            outputs[way] = passes()
            seconds[way].append(time.process_time() - start)
    exact, integers = (
        [torch.cat([torch.from_numpy(one[place]) for one in outputs[f"ONNX Runtime, {way}"]]) for place in (0, 1)]
        for way in ("float32", "int8")
    )
    errors = json.loads((ROOT / "docs" / "results" / "heads.json").read_text(encoding="utf-8"))["heads"]
    changes = {"heat_capacity": float((exact[1] - integers[1]).abs().mean())}
    for place, name in enumerate(predictor.settings.target_names):
        changes[name] = float((exact[0][:, place] - integers[0][:, place]).abs().mean())
    return {
        "strings": n,
        "rounds": rounds,
        "ms_per_string": {way: round(1000 * statistics.median(times) / n, 3) for way, times in seconds.items()},
        "MB": {"float32": megabytes[0], "int8": megabytes[1]},
        "mean_change": {
            name: {"value": round(change, 5), "of_the_error": round(change / errors[name]["model"]["mae"], 3)}
            for name, change in changes.items()
            if name in errors
        },
    }


def screening(table: Path, n: int) -> dict[str, Any]:
    """The bundled model on `n` strings."""
    return peak_memory(table, n, "--dtype", "bfloat16", "--top", "100")


def main() -> None:
    """Run the parts that the output file lacks."""
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:6])
    parser.add_argument("--strings", type=Path, default=shared / "data" / "published_scope_10k.parquet")
    parser.add_argument("--rounds", type=int, default=3, help="of the parts that compare ways (default 3)")
    parser.add_argument("--n-strings", type=int, default=4000, help="of the reference part (default 4000)")
    parser.add_argument("--model", default="default", help="of the reference and cold_start parts")
    parser.add_argument("--reference", default=REFERENCE, help=f"the earlier commit (default {REFERENCE})")
    parser.add_argument("--million", type=int, default=1_000_000, help="strings of that part, to try it with fewer")
    parser.add_argument("--again", action="store_true", help="also parts that the output file has")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "predict.json")
    arguments = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(1)
    results = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else {}
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "memory": lambda: memory(arguments.strings),
        "inference": lambda: inference(arguments.strings, arguments.rounds),
        "reference": lambda: beside_reference(
            arguments.strings, arguments.n_strings, arguments.rounds, arguments.model, arguments.reference
        ),
        "cold_start": lambda: cold_start(arguments.rounds, arguments.model, arguments.reference),
        "int8": lambda: int8(arguments.strings, min(arguments.n_strings, 1024), arguments.rounds),
        "twenty_thousand": lambda: screening(arguments.strings, 20_000),
        "million": lambda: screening(arguments.strings, arguments.million),
    }
    for part in arguments.parts:
        if part in results and not arguments.again:
            print(f"{part}: is in {arguments.output}; --again measures it anew.")
            continue
        load = os.getloadavg()[0]
        machine = {"processor": _processor(), "threads": 1, "torch": torch.__version__}
        results[part] = runs[part]() | {"machine": machine, "load_before": round(load, 2)}
        write_json(results, arguments.output, indent=2)
        print(json.dumps({part: results[part]}, indent=2))


def _processor() -> str:
    """Name of the processor and what it knows of bfloat16."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    known = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in info]
    return f"{processor()}, {', '.join(known) or 'no bfloat16 instructions'}"


if __name__ == "__main__":
    main()
