"""Studies that are run with one command, `cloud-hf study NAME`: benchmarks, scaling, attention, few labels, physics.

A study is a folder. Its `study.py` has `Arguments`, a dataclass of flags, and `run(arguments)`, which writes
`results.json`, `report.md` and pictures into a folder and returns the path of the report. `common/` holds what the
studies share: crystals, trainings, errors, the tree baseline, reports, and the folder that lets an interrupted study go
on.
"""

__all__ = ["STUDIES", "study_module"]

STUDIES = {
    "matbench": "the eight structure tasks of MatBench, official folds",
    "unconvbench": "unconventional crystals: exfoliation, 2-D, MOF, superconductors",
    "discovery": "train on the Materials Project, predict WBM, stable or not",
    "debye": "the Debye head against direct heads, other temperatures, consistency",
    "ablation": "what makes a model of heat capacities better, one change at a time",
    "scaling": "loss against parameters, data and compute, with fitted power laws",
    "attention": "what the model looks at, with a random model as control",
    "low-data": "learning curves against trees",
    "ood": "crystals unlike those trained on: element, space group, prototype, time, size",
    "screening": "hide families of crystals, enumerate them, and see where the known ones rank",
}
"""Each study and what it measures."""


def study_module(name: str) -> str:
    """Return the name of the module that holds `Arguments` and `run` of a study, to be imported when it is run."""
    return f"cloud_hf.studies.{name.replace('-', '_')}.study"
