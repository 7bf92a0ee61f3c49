"""Every kind of mistake: where it is said to be, what was found, and what to do."""

import re
from typing import NamedTuple

import pytest

from attnsearch.spaces import SpaceError

HEAD = """\
name: test
task: classification
data: {source: digits, image_size: 16}
network: {backbone: resnet18, stem: small, width: 0.5}
"""
LINES = HEAD.count("\n")


class Mistake(NamedTuple):
    """A file with one mistake: the text after HEAD, or a whole text."""

    id: str
    text: str
    place: str  # line:column, counted from the end of HEAD
    found: str
    remedy: str
    whole: bool = False


IN_YAML = [
    Mistake("tab", "train:\n\tepochs: 3", "2:1", "\\t", "indent with spaces", True),
    Mistake("unclosed", "name: [a", "1:9", "end", "not closed", True),
    Mistake("colon", "name: a: b", "1:8", "mapping values", "quote", True),
    Mistake("two documents", "name: a\n---\nname: b", "2:1", "another document", "---", True),
    Mistake("alias", "name: *a", "1:7", "'a'", "&name", True),
    Mistake("empty", "", "1:1", "empty", "name, task, data", True),
    Mistake("list", "- a\n- b", "1:1", "['a', 'b']", "mapping", True),
    Mistake("text", "resnet18", "1:1", "'resnet18'", "mapping", True),
    Mistake("not UTF-8", "name: a\ntask: caf\udce9", "2:10", "0xe9", "UTF-8", True),
    Mistake("control character", "name: a\x00b", "1:8", "U+0000", "remove", True),
    Mistake("surrogate", 'name: "\\ud800"', "1:7", "surrogate", "remove", True),
    Mistake("deep", "a: " + "[" * 60, "1:35", "32", "nested", True),
    Mistake("duplicate key", "train: {lr: 1, lr: 2}", "1:16", "'lr'", "remove one"),
    Mistake("number as key", "blocks: {1: {}}", "1:10", "1", "quotes"),
    Mistake("list as key", "blocks: {[a]: {}}", "1:10", "key", "key: value"),
    Mistake("binary", "checkpoint: !!binary aGk=", "1:13", "binary", "plain value"),
    Mistake("python object", "checkpoint: !!python/name:os.system x", "1:13", "python", "plain"),
    Mistake("infinite", "train: {lr: .inf}", "1:13", "'.inf'", "finite"),
    Mistake("not a number", "train: {lr: .nan}", "1:13", "'.nan'", "finite"),
    Mistake("overflow", "train: {lr: 1e999}", "1:13", "'1e999'", "finite"),
    Mistake("huge integer", f"train: {{seed: {'9' * 5000}}}", "1:15", "9999", "too large"),
    Mistake("self-containing alias", "blocks: &a {x: *a}", "1:9", "itself", "write the value"),
    Mistake("merged text", "blocks: {<<: 3}", "1:10", "<<", "*name"),
]

KEYS = [
    Mistake("unknown key", "train: {epoch: 3}", "1:9", "'epoch'", "did you mean 'epochs'?"),
    Mistake("unknown section", "blockz: {}", "1:1", "'blockz'", "did you mean 'blocks'?"),
    Mistake("missing", "task: classification\nname: a", "1:1", "'data'", "source: digits", True),
    Mistake("text for number", "train: {epochs: ten}", "1:17", "'ten'", "a whole number"),
    Mistake("fraction for integer", "train: {epochs: 2.5}", "1:17", "2.5", "a whole number"),
    Mistake("boolean for number", "train: {batch_size: true}", "1:21", "true", "a whole number"),
    Mistake("word for boolean", "train: {nesterov: yes}", "1:19", "'yes'", "true or false"),
    Mistake("null", "train: {epochs: }", "1:16", "null", "a whole number"),
    Mistake("zero epochs", "train: {epochs: 0}", "1:17", "0", "at least 1"),
    Mistake("negative rate", "train: {lr: -0.1}", "1:13", "-0.1", "above 0"),
    Mistake("optimizer", "train: {optimizer: adam}", "1:20", "'adam'", "did you mean 'adamw'?"),
    Mistake("number for list", "insert: layer4", "1:9", "'layer4'", "a list"),
    Mistake("number for mapping", "train: 3", "1:8", "3", "a mapping"),
    Mistake("checkpoint", "checkpoint: best", "1:13", "'best'", "best_val"),
    Mistake("null section", "limits:", "1:8", "null", "a mapping"),
    Mistake("limit zero", "limits: {params: 0}", "1:18", "0", "above 0"),
    Mistake("limit unknown", "limits: {flops: 3}", "1:10", "'flops'", "macs"),
    Mistake("GPU fraction", "resources: {gpus: 1.5}", "1:19", "1.5", "fraction below 1"),
    Mistake("no cpus", "resources: {cpus: 0}", "1:19", "0", "at least 1"),
    Mistake("control", "confirm: {controls: [base]}", "1:22", "'base'", "'baseline'"),
    Mistake("plan twice", "ablation: {plans: [loco, loco]}", "1:26", "loco", "remove one"),
    Mistake("plan unknown", "ablation: {plans: [loo]}", "1:20", "'loo'", "'loco'"),
    Mistake("no plan", "ablation: {plans: []}", "1:19", "[]", "at least 1"),
    Mistake("reuse", "ablation: {reuse: confirm}", "1:19", "confirm", "add it"),
]

SECTIONS = [
    Mistake("backbone", HEAD.replace("resnet18", "resnet19"), "4:21", "'resnet19'", "resnet18", True),
    Mistake(
        "stem", HEAD.replace("resnet18, stem: small", "resnet20, stem: imagenet"), "4:37",
        "'imagenet'", "small", True,
    ),
    Mistake("width", HEAD.replace("0.5", "0"), "4:51", "0", "above 0", True),
    Mistake("decoder", HEAD.replace("0.5", "0.5, decoder: unet"), "4:56", "decoder", "segmentation", True),
    Mistake("weights", HEAD.replace("0.5", "1, weights: a.pth"), "4:63", "a.pth", "relative to", True),
    Mistake("name", HEAD.replace("test", "a study"), "1:7", "'a study'", "letters", True),
    Mistake("source word", HEAD.replace("digits", "digit"), "3:16", "'digit'", "'digits'", True),
    Mistake("no source", HEAD.replace("digits", "null"), "3:16", "channels", "channels: 3", True),
    Mistake("splits", HEAD.replace("16", "16, splits: [0.5, 0.2, 0.2]"), "3:48", "0.9", "add up to 1", True),
    Mistake("two splits", HEAD.replace("16", "16, splits: [0.5, 0.5]"), "3:48", "0.5", "at least 3", True),
    Mistake("fold", HEAD.replace("16", "16, folds: 5, fold: 5"), "3:56", "5", "0 to 4", True),
    Mistake("fold alone", HEAD.replace("16", "16, fold: 1"), "3:40", "fold", "folds", True),
    Mistake("classes", HEAD.replace("16", "16, classes: true"), "3:49", "true", "a list of their names", True),
    Mistake("class twice", HEAD.replace("16", "16, classes: [a, b, a]"), "3:49", "'a'", "twice", True),
    Mistake("groups", HEAD.replace("16", "16, groups: '('"), "3:48", "'('", "regular expression", True),
    Mistake("groups without group", HEAD.replace("16", "16, groups: 'p[0-9]+'"), "3:48", "0 groups", "one", True),
    Mistake("groups table", HEAD.replace("16", "16, groups: patients.csv"), "3:48", "patients.csv", "relative to", True),
    Mistake("augmentation", HEAD.replace("16", "16, augment: {rotation: 3}"), "3:50", "'rotation'", "'rotate'", True),
    Mistake("augmentation range", HEAD.replace("16", "16, augment: {erase: 0.9}"), "3:57", "0.9", "at most 0.5", True),
    Mistake("ignore_index", HEAD.replace("16", "16, ignore_index: 255"), "3:40", "ignore_index", "segmentation", True),
    Mistake("warm-up", "train: {epochs: 5, warmup_epochs: 5}", "1:35", "5", "below train.epochs"),
    Mistake("onecycle", "train: {schedule: onecycle, warmup_epochs: 1}", "1:44", "onecycle", "remove"),
    Mistake("class weights", "train: {class_weights: none}", "1:24", "'none'", "balanced"),
    Mistake("side output", "train: {aux_weight: {ecm: 1}}", "1:22", "'ecm'", "did you mean 'ecrm'?"),
    Mistake("metric", "search: {objectives: {accuracy: max}}", "1:23", "'accuracy'", "'val_accuracy'"),
    Mistake("wrong task", "search: {objectives: {val_dice: max}}", "1:23", "'val_dice'", "val_accuracy"),
    Mistake("direction", "search: {objectives: {val_loss: max}}", "1:33", "val_loss", "val_loss: min"),
    Mistake("cost first", "search: {objectives: {params: min}}", "1:23", "params", "val_accuracy: max"),
    Mistake("sampler", "search: {sampler: tpf}", "1:19", "'tpf'", "'tpe'"),
    Mistake("two schedulers", "search: {scheduler: {asha: {}, median: {}}}", "1:21", "asha and median", "write one"),
    Mistake("no scheduler", "search: {scheduler: {}}", "1:21", "no scheduler", "write one"),
    Mistake("grace", "train: {epochs: 3}\nsearch: {scheduler: {asha: {grace: 4}}}", "2:36", "4", "train.epochs is 3"),
    Mistake(
        "cmaes", "search: {sampler: cmaes, objectives: {val_loss: min, params: min}}", "1:19", "2", "nsga2",
    ),
    Mistake(
        "grid", "train: {lr: {float: [0.1, 1.0]}}\nsearch: {sampler: grid}", "1:13", "0.1", "step:",
    ),
]  # fmt: skip

DECISIONS = [
    Mistake("searched backbone", HEAD.replace("resnet18", "{choice: [resnet18, resnet34]}"), "4:21", "searched", "one file per backbone", True),
    Mistake("searched epochs", "train: {epochs: {int: [1, 9]}}", "1:17", "searched", "budget"),
    Mistake("searched seed", "train: {seed: {int: [1, 9]}}", "1:15", "searched", "confirm"),
    Mistake("searched trials", "search: {trials: {int: [1, 9]}}", "1:18", "search.trials", "insert (block, params)"),
    Mistake("kind", "train: {lr: {flot: [0.1, 1]}}", "1:13", "flot", "did you mean 'float'?"),
    Mistake("option", "train: {lr: {float: [0.1, 1], logg: true}}", "1:31", "'logg'", "'log'"),
    Mistake("no members", "train: {nesterov: {choice: []}}", "1:28", "[]", "at least 1"),
    Mistake("member", "train: {optimizer: {choice: [sgd, adam]}}", "1:35", "'adam'", "'adamw'"),
    Mistake("member twice", "train: {lr: {choice: [0.1, 0.2, 0.1]}}", "1:13", "0.1", "remove one"),
    Mistake("choice prior", "train: {lr: {choice: [0.1, 0.2], prior: 3}}", "1:13", "3", "[0.1, 0.2]"),
    Mistake("one end", "train: {lr: {float: [0.1]}}", "1:21", "[0.1]", "at least 2"),
    Mistake("empty range", "train: {lr: {float: [0.4, 0.1]}}", "1:13", "0.4", "below"),
    Mistake("member out of range", "train: {momentum: {float: [0.5, 1]}}", "1:33", "1", "below 1"),
    Mistake("log from zero", "train: {weight_decay: {float: [0, 1], log: true}}", "1:23", "0", "above 0"),
    Mistake("log and step", "train: {lr: {float: [0.1, 1], log: true, step: 0.1}}", "1:13", "step", "remove one"),
    Mistake("step", "train: {batch_size: {int: [16, 50], step: 16}}", "1:21", "50", "48"),
    Mistake("prior outside", "train: {lr: {float: [0.1, 1], prior: 2}}", "1:13", "2", "[0.1, 1"),
    Mistake("prior off the steps", "train: {batch_size: {int: [16, 48], step: 16, prior: 20}}", "1:21", "20", "step 16"),
    Mistake("fractions for integer", "train: {batch_size: {float: [16, 32]}}", "1:21", "[16, 32]", "{int:"),
    Mistake("range for words", "train: {optimizer: {int: [1, 2]}}", "1:20", "[1, 2]", "{choice: [...]}"),
]  # fmt: skip

INSERT = [
    Mistake("site", "insert: [{at: layer5, block: gc}]", "1:15", "'layer5'", "layer4"),
    Mistake("pattern", "insert: [{at: 'layer[2-', block: gc}]", "1:15", "layer[2-", "bracket"),
    Mistake("misspelt site", "insert: [{at: layer4.0.residul, block: gc}]", "1:15", "residul", "layer4.0.residual"),
    Mistake("stars", "insert: [{at: '********', block: gc}]", "1:15", "********", "6"),
    Mistake("block", "insert: [{at: layer4, block: gcc}]", "1:30", "'gcc'", "gc"),
    Mistake("member block", "insert: [{at: layer4, block: {choice: [none, sse]}}]", "1:46", "'sse'", "se"),
    Mistake("no block", "insert: [{at: layer4}]", "1:10", "'block'", "attnsearch blocks"),
    Mistake("null block", "insert: [{at: layer4, block: null}]", "1:30", "null", "text"),
    Mistake("decide", "insert: [{at: layer4, block: gc, decide: every}]", "1:42", "'every'", "each"),
    Mistake("class", "insert: [{at: layer4, block: 'nowhere:Gate'}]", "1:30", "nowhere:Gate", "No module named"),
    Mistake("no module", "insert: [{at: layer4, block: 'math:sqrt'}]", "1:30", "sqrt", "nn.Module"),
    Mistake("hyperparameter", "insert: [{at: layer4, block: gc}]\nblocks: {gc: {ration: 0.5}}", "2:15", "'ration'", "did you mean 'ratio'?"),
    Mistake("entry hyperparameter", "insert: [{at: layer4, block: gc, params: {gc: {pool: avg}}}]", "1:48", "'pool'", "'pooling'"),
    Mistake("boolean hyperparameter", "insert: [{at: layer4, block: ecrm}]\nblocks: {ecrm: {bank_size: true}}", "2:28", "true", "a whole number"),
    Mistake("fractional hyperparameter", "insert: [{at: layer4, block: ecrm}]\nblocks: {ecrm: {bank_size: {float: [1.5, 2]}}}", "2:37", "1.5", "a whole number"),
    Mistake("integer range", "insert: [{at: layer4, block: gc}]\nblocks: {gc: {ratio: {int: [1, 2]}}}", "2:22", "ratio", "{float:"),
    Mistake("negative hyperparameter", "insert: [{at: layer4, block: ecrm}]\nblocks: {ecrm: {bank_size: -3}}", "2:28", "-3", "ecrm"),
    Mistake("hyperparameter value", "insert: [{at: layer4, block: gc}]\nblocks: {gc: {pooling: max}}", "2:24", "'max'", "att"),
    Mistake("member that cannot be", "insert: [{at: layer4, block: gc}]\nblocks: {gc: {pooling: {choice: [att, max]}}}", "2:39", "'max'", "att"),
    Mistake("joint member", "insert: [{at: layer4, block: gc}]\nblocks: {gc: {choice: [{ratio: 0.5}, {ratoi: 0.5}]}}", "2:39", "'ratoi'", "'ratio'"),
    Mistake("nested decision", "insert: [{at: layer4, block: gc}]\nblocks: {gc: {choice: [{ratio: {choice: [0.5]}}]}}", "2:32", "member", "one value"),
    Mistake("settings of none", "blocks: {none: {}}", "1:10", "none", "remove"),
    Mistake("cannot replace", "insert: [{at: layer2.0.conv1, block: se}]", "1:38", "layer2.0.conv1", "layer2.0.after_conv1"),
    Mistake("stands at some", "insert: [{at: layer2.*.conv1, block: se}]", "1:38", "layer2.0.conv1", "layer2.1.conv1"),
    Mistake("replaced twice", "insert:\n  - {at: layer3.0.conv2, block: psa}\n  - {at: layer3.*.conv2, block: scconv}", "3:5", "layer3.0.conv2", "after_conv"),
    Mistake("same name", "insert:\n  - {at: layer4, block: gc}\n  - {at: layer4.*, block: gc}", "3:5", "'layer4'", "`name:`"),
    Mistake("forbidden name", "insert: [{at: layer4, block: {choice: [gc, se]}}]\nforbid: [{layer3.block: gc}]", "2:11", "'layer3.block'", "'layer4.block'"),
    Mistake("forbidden value", "insert: [{at: layer4, block: {choice: [gc, se]}}]\nforbid: [{layer4.block: gcc}]", "2:25", "'gcc'", "did you mean 'gc'?"),
    Mistake("other decide", "insert: [{at: 'layer[2-3]', block: {choice: [gc, se]}}]\nforbid: [{layer3.block: gc}]", "2:11", "layer2-3.block", "decide: stage"),
    Mistake("empty rule", "forbid: [{}]", "1:10", "conditions", "remove"),
    Mistake("rule on what is fixed", "insert: [{at: layer4, block: gc}]\nforbid: [{layer4.block: gc}]", "2:10", "fixes", "nothing is left"),
    Mistake("rule no list", "forbid: {a: b}", "1:9", "{'a': 'b'}", "a list"),
]  # fmt: skip

MISTAKES = [*IN_YAML, *KEYS, *SECTIONS, *DECISIONS, *INSERT]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_is_found_in_its_place_with_its_value_and_a_remedy(mistake, load):
    text = mistake.text if mistake.whole else HEAD + mistake.text
    line, column = map(int, mistake.place.split(":"))
    line += 0 if mistake.whole else LINES
    with pytest.raises(SpaceError) as caught:
        load(text.encode("utf-8", "surrogateescape"))
    message = str(caught.value)
    places = [(problem.line, problem.column) for problem in caught.value.problems]
    assert (line, column) in places, message
    ours = [str(p) for p in caught.value.problems if (p.line, p.column) == (line, column)]
    assert any(mistake.found in text and mistake.remedy in text for text in ours), message
    assert all(re.match(r"space\.yaml:\d+:\d+: ", text) for text in message.splitlines())
    if mistake.id not in ("empty", "missing", "surrogate", "list", "text"):
        assert len(caught.value.problems) == 1, message
