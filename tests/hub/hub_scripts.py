"""Scripts for fresh processes; each prints what happened as JSON in its last line."""

COMMON = """
import json
import sys
from pathlib import Path

base = Path(sys.argv[1])
SITES = ["1 0 0 | Cu 2i", "1 2 a E C C n O O O 0 | Ba 3a Ti 3b B 6c O 18f"]  # the grammar of the bundled models
SCOPES = ["1 0 0 | 2i | Cu 1.0", "1 2 a E C C n O O O 0 | 3a 3b 6c 18f | Ba 0.1 Ti 0.1 B 0.2 O 0.6"]


def attempt(function):
    try:
        return function()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "notes": getattr(error, "__notes__", [])}


def outputs(model, ids):
    import torch

    model.eval()
    found = model(torch.tensor(ids))
    return (found.last_hidden_state if hasattr(found, "last_hidden_state") else found.logits).tolist()
"""

PUBLISH = (
    COMMON
    + """
import torch
from huggingface_hub import HfApi
from transformers import AutoTokenizer, pipeline

from cloud_hf import (
    CloudConfig, CloudForDebye, CloudForMaskedLM, CloudForPropertyRegression, CloudModel, ScopeTokenizer, bundled_model,
)

root, api, commits, expected = Path(sys.argv[2]), HfApi(), {}, {}
tokenizer = ScopeTokenizer()
ids = tokenizer(SCOPES, padding=True)["input_ids"]
expected["ids"] = tokenizer(SCOPES)["input_ids"]
tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
one = {"target_names": ["band_gap"], "target_units": ["eV"], "target_mean": [1.5], "target_scale": [0.7]}


def model(kind, seed, **fields):
    torch.manual_seed(seed)
    return kind(CloudConfig(initializer_range=0.2, **tiny, **fields)).eval()


def push(thing, name, **options):
    commits.setdefault(name, []).append(thing.push_to_hub(f"owner/{name}", **options).oid)


push(CloudConfig(**tiny), "config")
push(tokenizer, "tokenizer")
push(AutoTokenizer.from_pretrained(root / "tokenizer" / "fast"), "fast")
kinds = {"encoder": CloudModel, "masked_lm": CloudForMaskedLM, "debye": CloudForDebye}
for name, kind in (kinds | {"band_gap": CloudForPropertyRegression}).items():
    made = model(kind, 13, **(one if name == "band_gap" else {}))
    push(made, name, tags=["mine"])
    push(tokenizer, name)
    expected[name] = outputs(made, ids)
made = model(CloudForDebye, 17)
made.save_pretrained(base / "saved", push_to_hub=True, repo_id="owner/saved")
tokenizer.save_pretrained(base / "saved", push_to_hub=True, repo_id="owner/saved")
expected["saved"] = outputs(made, ids)

crystals = pipeline("crystal-property", model=bundled_model("heat_capacity"))
push(crystals, "pipeline")
expected["pipeline"] = crystals(SITES)

# a later commit with other weights, and with code that does not run
old, new = model(CloudForDebye, 1), model(CloudForDebye, 2)
push(old, "pinned")
api.create_tag("owner/pinned", tag="v1")
push(new, "pinned")
api.upload_file(
    path_or_fileobj=b"raise ImportError('code of the newest commit')", path_in_repo="modeling_cloud.py",
    repo_id="owner/pinned",
)
expected |= {"pinned_old": outputs(old, ids), "pinned_new": outputs(new, ids)}

push(model(CloudForDebye, 3), "private", private=True)
push(tokenizer, "private")

(base / "written.md").write_text("---\\nlicense: mit\\n---\\n\\n# A card by hand\\n")
api.create_repo("owner/written")
api.upload_file(path_or_fileobj=base / "written.md", path_in_repo="README.md", repo_id="owner/written")
for thing in (model(CloudForDebye, 4), tokenizer, CloudConfig(**tiny)):
    push(thing, "written")
print()
print(json.dumps({"commits": commits, "expected": expected, "input_ids": ids}))
"""
)

FETCH = (
    COMMON
    + """
asked, package, online = json.loads((base / "published.json").read_text()), *(word == "yes" for word in sys.argv[2:4])
if package:
    import cloud_hf

    cloud_hf.register()
import transformers

flag = {} if package else {"trust_remote_code": True}
ids, found = asked["input_ids"], {}
AUTO = {
    "encoder": "AutoModel", "masked_lm": "AutoModelForMaskedLM", "debye": "AutoModelForSequenceClassification",
    "band_gap": "AutoModelForSequenceClassification", "saved": "AutoModelForSequenceClassification",
}


def load(name, auto="AutoModelForSequenceClassification", **options):
    return getattr(transformers, auto).from_pretrained(f"owner/{name}", **(flag | options))


def described(model):
    return {"module": type(model).__module__, "class": type(model).__name__, "outputs": outputs(model, ids)}


for name, auto in AUTO.items():
    found[name] = attempt(lambda: described(load(name, auto)))
found["config"] = attempt(lambda: load("config", "AutoConfig").to_dict())
for name in ("tokenizer", "debye", "fast"):
    more = {"trust_remote_code": None} if name == "fast" else {}
    found[f"{name}_ids"] = attempt(lambda: load(name, "AutoTokenizer", **more)(SCOPES)["input_ids"])
task = "crystal-property" if package else None  # without the package the code beside the weights tells
predict = attempt(lambda: transformers.pipeline(task, model="owner/pipeline", **flag))
found["pipeline"] = predict if isinstance(predict, dict) else attempt(lambda: predict(SITES))
for name in ("debye", "band_gap"):
    found[f"{name}_pipeline"] = attempt(lambda: transformers.pipeline(task, model=f"owner/{name}", **flag)(SCOPES))
    trusted = {"model": f"owner/{name}", "trust_remote_code": True}  # whether the package is there or not
    found[f"{name}_trusted"] = attempt(lambda: transformers.pipeline(**trusted)(SCOPES))
    named = {"task": "crystal-property"}
    found[f"{name}_named"] = attempt(lambda: transformers.pipeline(**named, **trusted)(SCOPES))
found["refused_pipeline"] = attempt(lambda: type(transformers.pipeline(model="owner/debye")).__module__)

first = asked["commits"]["pinned"][0]
pins = {"old": {"revision": first}, "tag": {"revision": "v1"}, "new": {"code_revision": first}, "newest": {}}
for pin, options in pins.items():
    found[f"pinned_{pin}"] = attempt(lambda: described(load("pinned", **options)))
found["no_revision"] = attempt(lambda: described(load("pinned", revision="0" * 40)))

if not package:
    found["refused"] = {
        "model": attempt(lambda: load("debye", trust_remote_code=None)),
        "config": attempt(lambda: load("config", "AutoConfig", trust_remote_code=None)),
        "tokenizer": attempt(lambda: load("tokenizer", "AutoTokenizer", trust_remote_code=None)),
        "pipeline": attempt(lambda: transformers.pipeline(model="owner/pipeline")),
    }
    found["refused"] = {name: what if isinstance(what, dict) else "loaded" for name, what in found["refused"].items()}
if online:
    found["private"] = {
        token: attempt(lambda: type(load("private", token=token)).__name__) for token in ("hf_owner", "hf_guest")
    }
    found["private"]["none"] = attempt(lambda: type(load("private", token=False)).__name__)
print()
print(json.dumps(found))
"""
)

TRAIN = (
    COMMON
    + """
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, TrainingArguments

from cloud_hf import CloudConfig, CloudForPropertyRegression, ScopeTokenizer
from cloud_hf.cli.main import main
from cloud_hf.training.trainer import CloudTrainer

compositions = ("Cu 1.0", "Na 0.5 Cl 0.5", "Ti 0.33 O 0.67", "Si 0.33 O 0.67", "Al 0.4 O 0.6", "Fe 0.5 S 0.5")
texts = [f"1 0 0 | {sites} | {elements}" for sites in ("1a 2i", "2i", "1a 1h 2i") for elements in compositions]
rows = [f"{text},{0.1 * number}" for number, text in enumerate(texts)]
Path("strings.csv").write_text("scope,band_gap\\n" + "\\n".join(rows) + "\\n")
tiny = ["--hidden-size", "32", "--num-hidden-layers", "1", "--num-attention-heads", "2"]
quick = ["--max-steps", "4", "--use-cpu", "true", "--disable-tqdm", "true", "--push-to-hub", "true"]
encoder = ["--data", "strings.csv", "--output-dir", "encoder", "--hub-model-id", "owner/trained_encoder"]
status = [main(["pretrain", *encoder, *tiny, *quick, "--validation-fraction", "0.2"])]
gap = ["--data", "strings.csv", "--target", "band_gap:eV", "--output-dir", "gap", "--hub-model-id", "owner/trained_gap"]
status.append(main(["finetune", "--model", "owner/trained_encoder", *gap, *quick]))

torch.manual_seed(3)
tokenizer = ScopeTokenizer()
fields = {"target_names": ["band_gap"], "target_units": ["eV"], "hidden_size": 32, "num_hidden_layers": 1}
model = CloudForPropertyRegression(CloudConfig(**fields, num_attention_heads=2, intermediate_size=48))
ids = tokenizer(texts)["input_ids"]
trainer = CloudTrainer(
    model=model,
    args=TrainingArguments(
        "by_hand", push_to_hub=True, hub_model_id="owner/by_hand", max_steps=4, save_steps=2, use_cpu=True,
        disable_tqdm=True, report_to="none",
    ),
    data_collator=DataCollatorWithPadding(tokenizer),
    train_dataset=Dataset.from_dict({"input_ids": ids, "labels": [0.1 * number for number in range(len(ids))]}),
    processing_class=tokenizer,
)
trainer.train()
trainer.push_to_hub(dataset="owner/gaps", license="mit", tags="gaps")

# the trained folder, loaded and pushed elsewhere by hand, still knows its errors; after a change it does not
again = CloudForPropertyRegression.from_pretrained("gap")
again.push_to_hub("owner/again")
before = Path("gap/README.md").read_text()
with torch.no_grad():
    again.classifier.layers[-1].bias += 1
again.push_to_hub("owner/changed")
Path("gap/README.md").write_text("# My own words\\n")
CloudForPropertyRegression.from_pretrained("gap").push_to_hub("owner/my_words")
files = sorted(str(path.relative_to("gap")) for path in Path("gap").rglob("*"))
print()
print(json.dumps({"status": status, "card": before, "files": files}))
"""
)

BREAK = (
    COMMON
    + """
import contextlib
import hashlib
import io
import time
import urllib.request

import torch

from cloud_hf import CloudConfig, CloudForDebye
from cloud_hf.cli.main import main
from huggingface_hub import constants

time.sleep = lambda seconds: None  # uploads are tried again after pauses
tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
model = CloudForDebye(CloudConfig(**tiny))
model.save_pretrained("saved")
model.push_to_hub("owner/broken")


def break_requests(*faults):
    request = urllib.request.Request(f"{constants.ENDPOINT}/_faults", json.dumps(faults).encode(), method="POST")
    urllib.request.urlopen(request).read()


def hashes(folder):
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


FAULTS = {
    "refused weights": {"method": "PUT", "pattern": "/lfs/", "status": 403},
    "broken weights": {"method": "PUT", "pattern": "/lfs/", "status": 500},
    "cut weights": {"method": "PUT", "pattern": "/lfs/", "status": 0},
    "broken commit": {"method": "POST", "pattern": "/commit/", "status": 500},
    "cut commit": {"method": "POST", "pattern": "/commit/", "status": 0},
}
found, before = {}, hashes("saved")
for name, fault in FAULTS.items():
    changed = CloudForDebye.from_pretrained("saved")
    with torch.no_grad():
        changed.classifier.layers[-1].bias += len(found) + 1
    break_requests(fault)
    found[name] = attempt(lambda: changed.push_to_hub("owner/broken").oid)
untouched = hashes("saved") == before
break_requests({"method": "PUT", "pattern": "/lfs/", "status": 503, "times": 2})
found["passing"] = attempt(lambda: changed.push_to_hub("owner/broken").oid)

Path("strings.csv").write_text("scope\\n1 0 0 | 2i | Cu 1.0\\n1 0 0 | 1a | Cu 1.0\\n")
break_requests({"method": "POST", "pattern": "/commit/", "status": 500})
shape = ["--hidden-size", "32", "--num-hidden-layers", "1", "--num-attention-heads", "2", "--max-steps", "1"]
command = ["pretrain", "--data", "strings.csv", "--output-dir", "run", "--use-cpu", "true", *shape]
with contextlib.redirect_stderr(io.StringIO()) as message:
    status = main([*command, "--validation-fraction", "0", "--push-to-hub", "true", "--hub-model-id", "owner/run"])
break_requests()
files = sorted(path.name for path in Path("run").iterdir())
results = {"found": found, "untouched": untouched, "status": status, "files": files, "message": message.getvalue()}
print()
print(json.dumps(results))
"""
)
