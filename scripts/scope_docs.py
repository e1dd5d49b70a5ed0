"""Blocks of README.md and docs/scope.md from `docs/results/scope.json`; used by `write_docs.py`."""

from collections.abc import Callable
from typing import Any

from docs_parts import read, table

__all__ = ["BLOCKS"]

GRAMMARS = {"sites": "`sites`", "composition": "`composition`", "paper": "as released", "full": "`full`"}
NOISE = "noise, 1e-4 Å per atom"
CONDITIONS = {"raw": "as they are", "idealised": "symmetry-idealised"}


def results() -> dict[str, Any]:
    """Everything that `benchmark_scope.py` measured."""
    return read("scope.json")


def _percent(share: float | None) -> str:
    """Never rounded up to 100."""
    return "" if share is None else "100 %" if share == 1 else f"{min(100 * share, 99.99):.2f} %"


def _short(text: str, most: int = 90) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def summary_block() -> str:
    """What a user gains over the paper's encoder, in a few lines."""
    invariance, distinct, speed = (results()[name] for name in ("invariance", "distinctness", "speed"))
    rows = []
    for condition, words in CONDITIONS.items():
        condition_results = invariance[condition]
        line = condition_results["all_kinds"]
        text = f"same string for other descriptions of a crystal, {condition_results['n']:,} {words}"
        rows.append([text, *(_percent(line[key]) for key in ("sites", "paper"))])
    noise = invariance["raw"]["kinds"][NOISE]
    rows.append(["same string with 1e-4 Å noise on every atom", *(_percent(noise[key]) for key in ("sites", "paper"))])
    shares = distinct["collisions"]
    words = f"string shared with another protostructure, {distinct['n']:,} crystals"
    rows.append([words, *(_percent(shares[key]["shared_with_another_protostructure"]) for key in ("sites", "paper"))])
    methods = speed["encoder_20_sites"]["methods"]
    paper = methods["paper's procedure"]
    reference = f"{paper['rate']:,.0f}"
    for backend in ("spglib", "moyopy"):
        method = methods[f"sites, {backend}"]
        rows.append(
            [
                f"CIF files to strings per second, {backend}",
                f"{method['rate']:,.0f} ({method['ratio']:.1f}x)",
                reference,
            ]
        )
    tokenizer = speed["tokenizer"]["methods"]
    ours, published = tokenizer["ScopeTokenizer"], tokenizer["published, batched"]
    rows.append(
        [
            "strings to padded tensors per second",
            f"{ours['rate']:,.0f} ({ours['ratio']:.0f}x)",
            f"{published['rate']:,.0f}",
        ]
    )
    return table(rows, ["", "`sites`", "the paper's"], ".4g")


def invariance_block() -> str:
    """Share of re-descriptions that keep the string, by kind, and every case that did not."""
    parts = []
    for condition, words in CONDITIONS.items():
        condition_results = results()["invariance"][condition]
        keys = ("sites", "composition", "paper")
        lines = {**condition_results["kinds"], "all but the noise": condition_results["all_kinds"]}
        rows = [[kind, f"{line['n']:,}", *(_percent(line[key]) for key in keys)] for kind, line in lines.items()]
        parts.append(f"{condition_results['n']:,} crystals of `materials_project`, {words}:\n")
        parts.append(table(rows, ["re-description", "N", *(GRAMMARS[key] for key in keys)], ".4g"))
        rows = []
        for entry in condition_results["changed"]:
            tolerances = ", ".join(f"{number} at {tolerance} Å" for tolerance, number in entry["at_tolerances"].items())
            before, after = entry["space_groups"]
            rows.append(
                [entry["id"], entry["kind"], " and ".join(entry["grammars"]), f"{before} to {after}", tolerances]
            )
        if rows:
            parts.append("\nStrings that changed, with the space groups that spglib finds at other tolerances:\n")
            parts.append(table(rows, ["crystal", "re-description", "grammar", "space group", "by tolerance"], ".4g"))
        parts.append("")
    return "\n".join(parts).rstrip()


def distinctness_block() -> str:
    """Strings against protostructure labels, and how many crystals share a string."""
    distinctness = results()["distinctness"]
    kinds = {
        "one_string_several_labels": "strings with several labels",
        "one_label_several_strings": "labels with several strings",
    }
    counts = [
        f"{distinctness['n']:,}",
        len(distinctness["refused"]),
        f"{distinctness['strings']:,}",
        f"{distinctness['labels']:,}",
    ]
    counts += [len(distinctness[kind]) for kind in kinds]
    parts = [table([counts], ["crystals", "refused", "`sites` strings", "labels", *kinds.values()], ".4g")]
    for kind, words in kinds.items():
        for violation in distinctness[kind]:
            groups = next(value for value in violation.values() if isinstance(value, dict))
            shown = (f"`{_short(key)}`: {', '.join(ids)}" for key, ids in groups.items())
            parts.append(f"\n- {words}: " + "; ".join(shown))
    parts += [f"\n- refused: {row['id']}: {row['error']}" for row in distinctness["refused"]]
    for title, figures in (("All tables", "collisions"), ("Without carbon24", "collisions_without_carbon24")):
        rows = [
            [
                GRAMMARS[key],
                f"{row['n']:,}",
                f"{row['strings']:,}",
                _percent(row["shared_with_another_protostructure"]),
                _percent(row["shared_with_any_other_row"]),
            ]
            for key, row in distinctness[figures].items()
        ]
        headers = [
            "grammar",
            "N",
            "strings",
            "crystals that share one with another protostructure",
            "with any other row",
        ]
        parts += ["", f"{title}:\n", table(rows, headers, ".4g")]
    return "\n".join(parts)


def irreducible_block() -> str:
    """MAE of the per-string median of each label: the floor under every model that reads the strings."""
    rows, headers = (
        [],
        ["table", "label", "unit", "N", "MAD", *GRAMMARS.values(), "rows that share a `sites` string", "their MAE"],
    )
    for row in results()["distinctness"]["irreducible"]:
        start = [row["table"], f"`{row['column']}`", row["unit"], f"{row['n']:,}", row["mad"]]
        shared = row["sites"]
        rows.append([*start, *(row[key]["mae"] for key in GRAMMARS), shared["n_shared"], shared["mae_shared"]])
    return table(rows, headers, ".3g")


def speed_block() -> str:
    """Rates and ratios, measured in turns on the same items."""
    speed = results()["speed"]
    parts = []
    for key in ("encoder_20_sites", "encoder_60_sites", "processes", "tokenizer"):
        part = speed[key]
        title = {
            "processes": f"`encode_batch` on {part['n']:,} files, {part.get('cores')} cores:",
            "tokenizer": f"{part['n']:,} strings to padded tensors, one core:",
        }.get(key)
        title = title or f"{part['n']} CIF files of {part['mean_sites']:.1f} sites on average, one core:"
        rows = [
            [name, f"{row['rate']:,.0f}", f"{row['ratio']:.2f}", f"{row['first_round']:.2f}"]
            for name, row in part["methods"].items()
        ]
        headers = ["", "per second", "ratio to the first line", "in the first round"]
        parts += [f"{title}\n", table(rows, headers, ".4g"), ""]
    return "\n".join(parts).rstrip()


BLOCKS: dict[str, Callable[[], str]] = {
    "scope_summary": summary_block,
    "scope_invariance": invariance_block,
    "scope_distinctness": distinctness_block,
    "scope_irreducible": irreducible_block,
    "scope_speed": speed_block,
}
