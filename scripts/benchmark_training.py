"""Measure pre-training: the paper's recipe and this package's, through their Trainers, in short slices in turn.

    python scripts/benchmark_training.py --data STRINGS [--only 256x4 768x12 curves] [--again] [--rounds N] [--slice S]

Prints strings/s and real tokens/s (padding not counted) of both recipes in float32 and in bf16 autocast, and writes
them to docs/results/training.json. Each cell is written when it is finished; a cell that is in the file is not run
again unless `--again` says so. Every recipe is a process of its own, of which one runs at a time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when the libraries are imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from benchmarking import processor, show, versions, write_section
from tqdm import tqdm
from training_recipes import PAPER_LENGTH, lean_trainer, paired_losses, paper_trainer
from transformers import TrainerCallback
from transformers.utils import logging

from cloud_hf.training.pretrain import read_strings

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cloud-hf", "torch", "transformers", "accelerate", "datasets", "numpy")
SIZES = {"256x4": (256, 4, 64), "768x12": (768, 12, 16)}
"""Hidden size, layers, strings per step."""
ARMS = ("paper fp32", "lean fp32", "paper bf16", "lean bf16")
TARGETS = {"256x4": (7.0, 10.0), "768x12": (2.7, 5.0)}
"""Ratios to reach: both in float32; this package's in bf16 over the paper's in float32."""
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bf16 FLOP/s of GPUs, from their data sheets."""
CURVE = {"hidden": 64, "layers": 2, "batch": 32, "strings": 1_280}


class Slices(TrainerCallback):
    """Train for some seconds when told so on standard input, then print what was done and wait."""

    def __init__(self, device: str) -> None:
        self.device, self.counts, self.steps, self.until, self.start = device, np.zeros(3), 0, 0.0, 0.0

    def count(self, module: Any, args: Any, inputs: dict[str, Any]) -> None:
        """Add the strings, real tokens and tokens of a forward pass."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        self.counts += [int((ids == 0).sum()), int(mask.sum()), mask.numel()]  # [CLS] is 0 in both recipes

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on, or report and wait for the next slice."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.steps += 1
        seconds = time.perf_counter() - self.start
        if state.global_step < 3 or seconds < self.until:  # the first steps warm up
            return
        if self.until:
            print("SLICE", json.dumps([seconds, self.steps, *self.counts.tolist()]), flush=True)
        else:
            print("READY", flush=True)
        self.until = float(sys.stdin.readline() or 0)
        if not self.until:
            os._exit(0)
        self.counts[:], self.steps, self.start = 0, 0, time.perf_counter()


def work(options: argparse.Namespace) -> None:
    """Be one arm of a cell (in a process of its own)."""
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    hidden, layers, batch = SIZES[options.size]
    recipe, precision = options.arm.split()
    strings, _ = read_strings(options.data)
    gpu = torch.cuda.is_available()
    training = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": options.batch or batch, "max_steps": 10**6,
        "learning_rate": 1e-4, "warmup_steps": 100, "weight_decay": 0.01, "save_strategy": "no", "logging_steps": 100,
        "disable_tqdm": True, "use_cpu": not gpu, "bf16": precision == "bf16",
    }  # fmt: skip
    if recipe == "paper":
        trainer = paper_trainer(strings, hidden, layers, training)
    else:
        trainer = lean_trainer(strings, hidden, layers, training, packing=options.packing)
    slices = Slices("cuda" if gpu else "cpu")
    trainer.add_callback(slices)
    model: Any = trainer.model
    model.register_forward_pre_hook(slices.count, with_kwargs=True)
    sys.stdout.flush()
    trainer.train()


class Arm:
    """A process that trains one recipe when told so."""

    def __init__(self, name: str, size: str, options: argparse.Namespace) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--data", *options.data, "--arm", name, "--size", size]
        command += ["--threads", str(options.threads), "--batch", str(options.batch), "--packing", str(options.packing)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer("READY")

    def run(self, seconds: float) -> list[float]:
        """Train for so long; return seconds, steps, strings, real tokens and tokens."""
        self.process.stdin.write(f"{seconds}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        measured: list[float] = json.loads(self._answer("SLICE"))
        return measured

    def end(self) -> None:
        """End the process."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()

    def _answer(self, word: str) -> str:
        for line in self.process.stdout:  # type: ignore[union-attr]
            if line.startswith(word):
                return line.removeprefix(word)
        raise RuntimeError(f"{' '.join(self.process.args)} ended without an answer.")  # type: ignore[arg-type]


def measure(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the slices of one model size in turn."""
    arms = {name: Arm(name, size, options) for name in options.arms}
    slices: dict[str, list[list[float]]] = {name: [] for name in arms}
    names = list(arms)
    seconds = options.slice * (1 if size == "256x4" else 2)
    for _ in tqdm(range(options.rounds), desc=size):
        names.append(names.pop(0))
        for name in names:
            slices[name].append(arms[name].run(seconds))
    for arm in arms.values():
        arm.end()
    cell: dict[str, Any] = {"arms": {}, "ratios": {}}
    rates = {}
    for name, measured in slices.items():
        spent, steps, strings, tokens, with_padding = np.array(measured).T
        rates[name] = strings / spent
        cell["arms"][name] = {
            "strings_per_s": float(np.median(strings / spent)),
            "real_tokens_per_s": float(np.median(tokens / spent)),
            "padding_share": float(1 - tokens.sum() / with_padding.sum()),
            "ms_per_step": float(1e3 * np.median(spent / steps)),
            "slices": len(measured),
            "steps": int(steps.sum()),
        }
        share = peak_share(size, name, float(np.median(tokens / spent)))
        if share is not None:
            cell["arms"][name]["share_of_peak"] = share
    for ours, paper in (("lean fp32", "paper fp32"), ("lean bf16", "paper bf16"), ("lean bf16", "paper fp32")):
        if ours in rates and paper in rates:
            ratio = rates[ours] / rates[paper]
            cell["ratios"][f"{ours} / {paper}"] = {
                "median": float(np.median(ratio)), "lowest": float(ratio.min()), "highest": float(ratio.max()),
            }  # fmt: skip
    return cell


def peak_share(size: str, arm: str, tokens_per_s: float) -> float | None:
    """Share of a GPU's bf16 peak that the arithmetic of the model on real tokens takes; None elsewhere.

    Counted per token: 24 h² multiplications and additions a layer for the projections, 4 h l for attention over l
    tokens (28 on average), a head of h² and h times the 585 words on the 15 % masked ones; times 3 for the backward
    pass.
    """
    if not torch.cuda.is_available() or "bf16" not in arm:
        return None
    peak = next((value for name, value in PEAK.items() if name in torch.cuda.get_device_name()), None)
    if peak is None:
        return None
    hidden, layers, _ = SIZES[size]
    forward = layers * (24 * hidden**2 + 4 * hidden * 28) + 0.15 * 2 * (hidden**2 + 585 * hidden)
    return 3 * forward * tokens_per_s / peak


def curves(options: argparse.Namespace) -> dict[str, Any]:
    """Loss of both recipes step by step on the same strings and masks; a table, and a picture beside the JSON file."""
    from matplotlib.figure import Figure

    strings, _ = read_strings(options.data)
    training = {
        "output_dir": tempfile.mkdtemp(), "learning_rate": 3e-3, "warmup_steps": 10, "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
    }  # fmt: skip
    logging.set_verbosity_error()
    losses = paired_losses(strings[: CURVE["strings"]], CURVE["hidden"], CURVE["layers"], CURVE["batch"], training)
    difference = max(abs(a - b) for a, b in zip(losses["lean"], losses["paper"], strict=True))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    styles = {
        "paper_as_released": ("paper, with 29,958 words that do not exist", "C1-"),
        "paper": ("paper", "C0-"),
        "lean": ("lean", "k:"),
    }
    for name, (label, style) in styles.items():
        axes.plot(range(1, len(losses[name]) + 1), losses[name], style, label=label)
    axes.set(xlabel="step", ylabel="loss (nats per masked word)")
    axes.legend()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out.with_name("training_loss.png"), dpi=100)
    return CURVE | {"largest_difference_lean_paper": difference, "losses": losses}


def report(results: dict[str, Any]) -> None:
    """Print the tables of the cells that are there."""
    for size in SIZES:
        if size not in results:
            continue
        hidden, layers, _ = SIZES[size]
        rows = [
            [
                name,
                a["strings_per_s"],
                a["real_tokens_per_s"],
                a["padding_share"],
                a["ms_per_step"],
                a["slices"],
                a.get("share_of_peak"),
            ]
            for name, a in results[size]["arms"].items()
        ]
        heads = ["recipe", "strings/s", "real tokens/s", "padding", "ms/step", "slices", "share of peak"]
        show(f"hidden {hidden} x {layers} layers, {results[size]['batch']} strings per step", rows, heads)
        same, mixed = TARGETS[size]
        targets = {"lean fp32 / paper fp32": same, "lean bf16 / paper fp32": mixed}
        ratios = [
            [n, r["median"], r["lowest"], r["highest"], targets.get(n)] for n, r in results[size]["ratios"].items()
        ]
        show("strings/s, ratio slice by slice", ratios, ["", "median", "lowest", "highest", "target"], ".3g")
        if not torch.cuda.is_available():
            print("\nNo GPU here: the share of peak FLOP/s is not measured.")
    if "curves" in results:
        curves = results["curves"]
        steps = sorted({*range(0, len(curves["losses"]["lean"]), 15), len(curves["losses"]["lean"]) - 1})
        rows = [[step + 1, *(values[step] for values in curves["losses"].values())] for step in steps]
        title = (
            "Loss (nats per masked word) from the same weights on the same strings and masks; lean and paper differ by"
        )
        title += f" {curves['largest_difference_lean_paper']:.1e} at most"
        show(title, rows, ["step", *curves["losses"]], ".4f")


def main() -> None:
    """Parse the arguments, run the cells that are not there and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="tables with a column 'scope'")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "training.json")
    parser.add_argument("--only", nargs="+", choices=[*SIZES, "curves"], default=[*SIZES, "curves"])
    parser.add_argument("--again", action="store_true", help="run cells that are in the file again")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rounds", type=int, default=5, help="slices of each recipe")
    parser.add_argument("--slice", type=float, default=4.0, help="s; twice as long for the larger model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="strings per step instead of the cell's, e.g. on a GPU")
    parser.add_argument("--packing", type=int, default=0, help="pack strings in rows of so many tokens instead")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        work(options)
        return
    for cell in options.only:
        results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
        if cell in results and not options.again:
            print(f"{cell} is in {options.out} already; --again measures it again.")
            continue
        figures = curves(options) if cell == "curves" else measure(cell, options)
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processor()}, {options.threads} thread(s)"
        )
        if cell != "curves":
            figures |= {"batch": options.batch or SIZES[cell][2], "packing": options.packing, "padded_to": PAPER_LENGTH}
        write_section(options.out, cell, {"machine": device, "versions": versions(PACKAGES)} | figures)
    report(json.loads(options.out.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
