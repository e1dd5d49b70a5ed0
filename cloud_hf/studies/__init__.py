"""Studies that are run with one command, `cloud-hf study NAME`: benchmarks, scaling, attention, few labels, physics.

Each module has `Arguments`, a dataclass of flags, and `run(arguments)`, which writes `results.json`, `report.md` and
pictures into a folder and returns the path of the report. They share splits, errors, the tree baseline, reports and the
folder that lets an interrupted study go on.
"""

__all__ = ["STUDIES"]

STUDIES = {
    "matbench": ("cloud_hf.studies.matbench", "the eight structure tasks of MatBench, official folds"),
    "unconvbench": ("cloud_hf.studies.unconvbench", "unconventional crystals: exfoliation, 2-D, MOF, superconductors"),
    "discovery": ("cloud_hf.studies.discovery", "train on the Materials Project, predict WBM, stable or not"),
    "debye": ("cloud_hf.studies.debye", "the Debye head against direct heads, other temperatures, consistency"),
    "scaling": ("cloud_hf.studies.scaling", "loss against parameters, data and compute, with fitted power laws"),
    "attention": ("cloud_hf.studies.attention", "what the model looks at, with a random model as control"),
    "low-data": ("cloud_hf.studies.low_data", "learning curves against trees"),
    "ood": ("cloud_hf.studies.ood", "crystals unlike those trained on: element, space group, prototype, time, size"),
}
"""Each study with the module that holds its `Arguments` and `run`, imported only when it is run, and its line."""
