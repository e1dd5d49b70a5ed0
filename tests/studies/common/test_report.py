"""Reports: templates, tables and pictures, and that the committed reports are what their results say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cloud_hf.studies import STUDIES
from cloud_hf.studies.common.folder import StudyFolder
from cloud_hf.studies.common.report import STUDIES_FOLDER, _joined, _table, finish, new_figure, render_report

COMMITTED = sorted((Path(__file__).resolve().parents[3] / "docs/studies").glob("*/results.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_a_committed_report_is_what_its_results_say(path: Path) -> None:
    report = render_report(json.loads(path.read_text(encoding="utf-8")))
    assert report == path.with_name("report.md").read_text(encoding="utf-8")
    for picture in re.findall(r"\]\(([^)]*\.png)\)", report):
        assert path.with_name(picture).read_bytes().startswith(b"\x89PNG")


def test_every_study_has_a_report() -> None:
    for study in STUDIES:
        assert (STUDIES_FOLDER / study.replace("-", "_") / "report.md.j2").is_file()


def test_a_number_that_changes_is_seen_in_the_report() -> None:
    path = next(path for path in COMMITTED if path.parent.name == "ood")
    record = json.loads(path.read_text(encoding="utf-8"))
    before = render_report(record)
    record["results"]["table"]["used"] = 987_654
    assert render_report(record) == before.replace("6,000 rows with a string", "987,654 rows with a string") != before


def test_tables_keep_empty_cells_and_bars_inside_cells() -> None:
    lines = _table("name | value\na |\n1 2 \\| Li 8c | 0.123456\n", 3).splitlines()
    assert [line.split(" | ")[-1].strip(" |") for line in lines] == ["value", lines[1].strip("|"), "", "0.123"]
    assert "1 2 \\| Li 8c" in lines[3]


def test_the_lines_of_a_paragraph_and_of_an_item_are_joined() -> None:
    assert _joined("One\n  line.\n- a\n  b\n- c\n| d |\n") == "One line.\n- a b\n- c\n| d |"


def test_a_finished_study_has_results_report_and_pictures(tmp_path: Path) -> None:
    path = next(path for path in COMMITTED if path.parent.name == "low-data")
    record = json.loads(path.read_text(encoding="utf-8"))
    folder = StudyFolder(tmp_path / "out", "low-data", record["settings"])
    figure = new_figure()
    figure.add_subplot().plot([0, 1], [0, 1])
    report = finish(folder, record["results"], {"learning_curve.png": figure})
    assert report.read_text(encoding="utf-8") == path.with_name("report.md").read_text(encoding="utf-8")
    assert (tmp_path / "out/learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out/results.json").read_text())["results"] == record["results"]
