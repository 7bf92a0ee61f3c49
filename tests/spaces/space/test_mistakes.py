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


class Mistake(NamedTuple):
    """A file with one mistake, its place marked by ▸, and what the message must hold."""

    id: str
    text: str
    found: str
    remedy: str


def whole(text):
    """A text that is the whole file; any other follows HEAD."""
    return "!" + text


def instead_of_line(line):
    """HEAD with the line of this key exchanged."""
    key = line.replace("▸", "").split(":")[0]
    lines = [line if old.startswith(key) else old for old in HEAD.splitlines()]
    return whole("\n".join(lines))


def of_masks(data):
    """A whole file for segmentation with these keys of `data`."""
    head = HEAD.replace("classification", "segmentation")
    return whole(head.replace("{source: digits, image_size: 16}", f"{{source: scenes, {data}}}"))


def several(text):
    """A whole file for any number of classes an image, with this below."""
    head = HEAD.replace("task: classification", "task: multilabel")
    return whole(head.replace("digits", "scans.npz") + text)


IN_YAML = [
    Mistake("tab", whole("train:\n▸\tepochs: 3"), "\\t", "indent with spaces"),
    Mistake("unclosed", whole("name: [a▸"), "end", "not closed"),
    Mistake("colon", whole("name: a▸: b"), "mapping values", "quote"),
    Mistake("two documents", whole("name: a\n▸---\nname: b"), "another document", "---"),
    Mistake("alias", whole("name: ▸*a"), "'a'", "&name"),
    Mistake("empty", whole("▸"), "empty", "name, task, data"),
    Mistake("list", whole("▸- a\n- b"), "['a', 'b']", "mapping"),
    Mistake("text", whole("▸resnet18"), "'resnet18'", "mapping"),
    Mistake("not UTF-8", whole("name: a\ntask: caf▸\udce9"), "0xe9", "UTF-8"),
    Mistake("control character", whole("name: a▸\x00b"), "U+0000", "remove"),
    Mistake("surrogate", whole('name: ▸"\\ud800"'), "surrogate", "remove"),
    Mistake(
        "deep",
        whole("a: " + "[" * 31 + "▸" + "[" * 29),
        "32",
        "nested",
    ),
    Mistake("duplicate key", "train: {lr: 1, ▸lr: 2}", "'lr'", "remove one"),
    Mistake("number as key", "blocks: {▸1: {}}", "1", "quotes"),
    Mistake("list as key", "blocks: {▸[a]: {}}", "key", "key: value"),
    Mistake("binary", "checkpoint: ▸!!binary aGk=", "binary", "plain value"),
    Mistake("python object", "checkpoint: ▸!!python/name:os.system x", "python", "plain"),
    Mistake("infinite", "train: {lr: ▸.inf}", "'.inf'", "finite"),
    Mistake("not a number", "train: {lr: ▸.nan}", "'.nan'", "finite"),
    Mistake("overflow", "train: {lr: ▸1e999}", "'1e999'", "finite"),
    Mistake(
        "huge integer",
        "train: {seed: ▸" + "9" * 5000 + "}",
        "9999",
        "too large",
    ),
    Mistake("self-containing alias", "blocks: ▸&a {x: *a}", "itself", "write the value"),
    Mistake("merged text", "blocks: {▸<<: 3}", "<<", "*name"),
]

KEYS = [
    Mistake("unknown key", "train: {▸epoch: 3}", "'epoch'", "did you mean 'epochs'?"),
    Mistake("unknown section", "▸blockz: {}", "'blockz'", "did you mean 'blocks'?"),
    Mistake("missing", whole("▸task: classification\nname: a"), "'data'", "source: digits"),
    Mistake("text for number", "train: {epochs: ▸ten}", "'ten'", "a whole number"),
    Mistake("fraction for integer", "train: {epochs: ▸2.5}", "2.5", "a whole number"),
    Mistake("boolean for number", "train: {batch_size: ▸true}", "true", "a whole number"),
    Mistake("word for boolean", "train: {nesterov: ▸yes}", "'yes'", "true or false"),
    Mistake("null", "train: {epochs:▸ }", "null", "a whole number"),
    Mistake("zero epochs", "train: {epochs: ▸0}", "0", "at least 1"),
    Mistake("negative rate", "train: {lr: ▸-0.1}", "-0.1", "above 0"),
    Mistake("optimizer", "train: {optimizer: ▸adam}", "'adam'", "did you mean 'adamw'?"),
    Mistake("number for list", "insert: ▸layer4", "'layer4'", "a list"),
    Mistake("number for mapping", "train: ▸3", "3", "a mapping"),
    Mistake("checkpoint", "checkpoint: ▸best", "'best'", "best_val"),
    Mistake("null section", "limits:▸", "null", "a mapping"),
    Mistake("limit zero", "limits: {params: ▸0}", "0", "above 0"),
    Mistake("limit unknown", "limits: {▸flops: 3}", "'flops'", "macs"),
    Mistake("GPU fraction", "resources: {gpus: ▸1.5}", "1.5", "fraction below 1"),
    Mistake(
        "batch smaller than its cards",
        "resources: {gpus: ▸4}\ntrain: {batch_size: 6}",
        "4 GPUs cannot share a batch of 6",
        "at most 3 GPUs",
    ),
    Mistake(
        "searched batch smaller than its cards",
        "resources: {gpus: ▸2}\ntrain: {batch_size: {int: [3, 64]}}",
        "2 GPUs cannot share a batch of 3",
        "one GPU",
    ),
    Mistake(
        "compiled over cards",
        "resources: {gpus: 2}\ntrain: {compile: ▸true}",
        "resources.gpus: 2",
        "ask for one GPU",
    ),
    Mistake("GPUs in a word", "resources: {gpus: ▸all}", "'all'", "auto"),
    Mistake("fewer GPUs than none", "resources: {gpus: ▸-1}", "-1", "at least 0"),
    Mistake("GPUs of truth", "resources: {gpus: ▸true}", "true", "a number of GPUs, or auto"),
    Mistake("no time", "resources: {timeout: ▸0}", "0", "above 0"),
    Mistake("a time with a unit", "resources: {timeout: ▸5min}", "5min", "number"),
    Mistake("no cpus", "resources: {cpus: ▸0}", "0", "at least 1"),
    Mistake("control", "confirm: {controls: [▸base]}", "'base'", "'baseline'"),
    Mistake("plan twice", "ablation: {plans: [loco, ▸loco]}", "loco", "remove one"),
    Mistake("plan unknown", "ablation: {plans: [▸loo]}", "'loo'", "'loco'"),
    Mistake("no plan", "ablation: {plans: ▸[]}", "[]", "at least 1"),
    Mistake("reuse", "ablation: {reuse: ▸confirm}", "confirm", "add it"),
    Mistake(
        "reused epochs",
        "confirm: {epochs: 6}\nablation: {reuse: confirm, epochs: ▸5}",
        "5 epochs",
        "remove one",
    ),
    Mistake(
        "reused seeds",
        "confirm: {seeds: 3}\nablation: {reuse: confirm, seeds: ▸4}",
        "4 seeds",
        "raise",
    ),
    Mistake("match", "confirm: {match: ▸flops}", "'flops'", "macs"),
    Mistake("no seeds", "confirm: {seeds: ▸0}", "0", "at least 1"),
    Mistake("seeds a word", "confirm: {seeds: ▸many}", "many", "{min: 5, max: 20}"),
    Mistake("few seeds", "confirm: {seeds: {min: ▸4, max: 9}}", "4", "at least 5"),
    Mistake("no most seeds", "confirm: {▸seeds: {min: 5}}", "max", "missing"),
    Mistake("most seeds", "confirm: {seeds: {min: 8, max: ▸8}}", "8 is not above min", "seeds: 5"),
    Mistake(
        "seeds of folds",
        whole(
            HEAD.replace("image_size: 16}", "image_size: 16, folds: 5, development: 0.2}")
            + "confirm: {seeds: ▸{min: 5, max: 8}}"
        ),
        "pairs are folds",
        "one number",
    ),
    Mistake(
        "reused least seeds",
        "confirm: {seeds: {min: 5, max: 9}}\nablation: {reuse: confirm, seeds: ▸6}",
        "6 seeds are more than the 5",
        "confirm.seeds",
    ),
    Mistake("part", "ablation: {part: ▸train}", "'train'", "val, test"),
    Mistake("primary metric", "primary_metric: ▸acuracy", "'acuracy'", "'accuracy'"),
    Mistake("primary with part", "primary_metric: ▸val_f1", "'val_f1'", "'f1'"),
    Mistake("alpha", "alpha: ▸0.9", "0.9", "at most 0.5"),
    Mistake("margin", "margin: ▸-0.01", "-0.01", "above 0"),
    Mistake("effect in points", "smallest_effect: ▸1.5", "1.5", "0.015 is 1.5 points"),
    Mistake(
        "development",
        instead_of_line("data: {source: digits, image_size: 16, ▸development: 0.2}"),
        "development",
        "add it",
    ),
    Mistake(
        "stages",
        instead_of_line("network: {backbone: resnet18, stem: small, width: ▸[1, 0.5]}"),
        "2 multipliers",
        "4 stages",
    ),
    Mistake(
        "narrowing",
        instead_of_line("network: {backbone: resnet20, stem: small, width: ▸[1, 0.25, 1]}"),
        "(16, 8, 64)",
        "no stage can be narrower",
    ),
]

SECTIONS = [
    Mistake(
        "backbone",
        instead_of_line("network: {backbone: ▸resnet19, stem: small, width: 0.5}"),
        "'resnet19'",
        "resnet18",
    ),
    Mistake(
        "stem",
        instead_of_line("network: {backbone: resnet20, stem: ▸imagenet, width: 0.5}"),
        "'imagenet'",
        "small",
    ),
    Mistake(
        "width",
        instead_of_line("network: {backbone: resnet18, stem: small, width: ▸0}"),
        "0",
        "above 0",
    ),
    Mistake(
        "decoder",
        instead_of_line("network: {backbone: resnet18, stem: small, width: 0.5, ▸decoder: unet}"),
        "decoder",
        "segmentation",
    ),
    Mistake(
        "weights",
        instead_of_line("network: {backbone: resnet18, stem: small, width: 1, weights: ▸a.pth}"),
        "a.pth",
        "relative to",
    ),
    Mistake("name", instead_of_line("name: ▸a study"), "'a study'", "letters"),
    Mistake(
        "source word",
        instead_of_line("data: {source: ▸digit, image_size: 16}"),
        "'digit'",
        "'digits'",
    ),
    Mistake(
        "no source",
        instead_of_line("data: {source: ▸null, image_size: 16}"),
        "channels",
        "channels: 3",
    ),
    Mistake(
        "splits",
        instead_of_line("data: {source: digits, image_size: 16, splits: ▸[0.5, 0.2, 0.2]}"),
        "0.9",
        "add up to 1",
    ),
    Mistake(
        "two splits",
        instead_of_line("data: {source: digits, image_size: 16, splits: ▸[0.5, 0.5]}"),
        "0.5",
        "at least 3",
    ),
    Mistake(
        "fold",
        instead_of_line("data: {source: digits, image_size: 16, folds: 5, fold: ▸5}"),
        "5",
        "0 to 4",
    ),
    Mistake(
        "fold alone",
        instead_of_line("data: {source: digits, image_size: 16, ▸fold: 1}"),
        "fold",
        "folds",
    ),
    Mistake(
        "classes",
        instead_of_line("data: {source: digits, image_size: 16, classes: ▸true}"),
        "true",
        "a list of their names",
    ),
    Mistake(
        "class twice",
        instead_of_line("data: {source: digits, image_size: 16, classes: ▸[a, b, a]}"),
        "'a'",
        "twice",
    ),
    Mistake(
        "groups",
        instead_of_line("data: {source: digits, image_size: 16, groups: ▸'('}"),
        "'('",
        "regular expression",
    ),
    Mistake(
        "groups without group",
        instead_of_line("data: {source: digits, image_size: 16, groups: ▸'p[0-9]+'}"),
        "0 groups",
        "one",
    ),
    Mistake(
        "groups table",
        instead_of_line("data: {source: digits, image_size: 16, groups: ▸patients.csv}"),
        "patients.csv",
        "relative to",
    ),
    Mistake(
        "augmentation",
        instead_of_line("data: {source: digits, image_size: 16, augment: {▸rotation: 3}}"),
        "'rotation'",
        "'rotate'",
    ),
    Mistake(
        "augmentation range",
        instead_of_line("data: {source: digits, image_size: 16, augment: {erase: ▸0.9}}"),
        "0.9",
        "at most 0.5",
    ),
    Mistake(
        "crop larger than what it is cut from",
        instead_of_line("data: {source: digits, image_size: 16, eval_crop: ▸14}"),
        "16 are cut out",
        "at least 16, or a fraction",
    ),
    Mistake(
        "crop larger than what it is cut from, of a size of its own",
        instead_of_line(
            "data: {source: digits, image_size: 16, eval_size: [32, 24], eval_crop: ▸20}"
        ),
        "32x24 are cut out",
        "at least 24",
    ),
    Mistake(
        "crop of more than all",
        instead_of_line("data: {source: digits, image_size: 16, eval_crop: ▸1.2}"),
        "1.2",
        "at most 1",
    ),
    Mistake(
        "crop in words",
        instead_of_line("data: {source: digits, image_size: 16, eval_crop: ▸true}"),
        "true",
        "fraction such as 0.875",
    ),
    Mistake(
        "crop of masks",
        of_masks("image_size: 16, ▸eval_crop: 20"),
        "eval_crop",
        "classification",
    ),
    Mistake(
        "ignore_index",
        instead_of_line("data: {source: digits, image_size: 16, ▸ignore_index: 255}"),
        "ignore_index",
        "segmentation",
    ),
    Mistake(
        "one colour of two classes",
        of_masks('image_size: 16, mask_colors: ▸{a: [0, 0, 0], b: "#000000", c: "#ff0000"}'),
        "a and b",
        "each has its own",
    ),
    Mistake(
        "one class beside ignore",
        of_masks('image_size: 16, mask_colors: ▸{a: [0, 0, 0], ignore: "#ff0000"}'),
        "fewer than two",
        "add",
    ),
    Mistake(
        "classes beside colours",
        of_masks('image_size: 16, mask_colors: {a: "#000000", b: "#ffffff"}, classes: ▸2'),
        "mask_colors",
        "remove this",
    ),
    Mistake(
        "an ignored value beside colours",
        of_masks('image_size: 16, mask_colors: {a: "#000000", b: "#ffffff"}, ignore_index: ▸255'),
        "mask_colors",
        "called ignore",
    ),
    Mistake(
        "a colour's channel",
        of_masks('image_size: 16, mask_colors: {a: "#000000", b: [0, ▸256, 0]}'),
        "256",
        "at most 255",
    ),
    Mistake("warm-up", "train: {epochs: 5, warmup_epochs: ▸5}", "5", "below train.epochs"),
    Mistake("onecycle", "train: {schedule: onecycle, warmup_epochs: ▸1}", "onecycle", "remove"),
    Mistake("two warm-ups", "train: {warmup_epochs: 1, warmup_steps: ▸5}", "5", "remove one"),
    Mistake(
        "a sampler of masks",
        of_masks("image_size: 16").replace("name:", "train: {▸sampler: balanced}\nname:", 1),
        "classification only",
        "remove it",
    ),
    Mistake(
        "mixed masks",
        of_masks("image_size: 16, augment: {▸mixup: 0.2}"),
        "classification or multilabel only",
        "remove it",
    ),
    Mistake("loss of one class", several("train: {loss: ▸ce}"), "multilabel", "bce or focal"),
    Mistake("loss of several classes", "train: {loss: ▸bce}", "classification", "ce or focal"),
    Mistake(
        "balanced draws of several classes",
        several("train: {▸sampler: balanced}"),
        "several classes",
        "class_weights: balanced",
    ),
    Mistake(
        "metric of several classes",
        several("search: {objectives: {▸val_accuracy: max}}"),
        "multilabel",
        "val_label_accuracy",
    ),
    Mistake("class weights", "train: {class_weights: ▸none}", "'none'", "balanced"),
    Mistake("side output", "train: {aux_weight: {▸ecm: 1}}", "'ecm'", "did you mean 'ecrm'?"),
    Mistake("metric", "search: {objectives: {▸accuracy: max}}", "'accuracy'", "'val_accuracy'"),
    Mistake("wrong task", "search: {objectives: {▸val_dice: max}}", "'val_dice'", "val_accuracy"),
    Mistake("direction", "search: {objectives: {val_loss: ▸max}}", "val_loss", "val_loss: min"),
    Mistake("cost first", "search: {objectives: {▸params: min}}", "params", "val_accuracy: max"),
    Mistake("sampler", "search: {sampler: ▸tpf}", "'tpf'", "'tpe'"),
    Mistake(
        "two schedulers",
        "search: {scheduler: ▸{asha: {}, median: {}}}",
        "asha and median",
        "write one",
    ),
    Mistake("no scheduler", "search: {scheduler: ▸{}}", "no scheduler", "write one"),
    Mistake(
        "grace",
        "train: {epochs: 3}\nsearch: {scheduler: {asha: {grace: ▸4}}}",
        "4",
        "train.epochs is 3",
    ),
    Mistake(
        "cmaes",
        "search: {sampler: ▸cmaes, objectives: {val_loss: min, params: min}}",
        "2",
        "nsga2",
    ),
    Mistake("grid", "train: {lr: ▸{float: [0.1, 1.0]}}\nsearch: {sampler: grid}", "0.1", "step:"),
]

DECISIONS = [
    Mistake(
        "searched backbone",
        instead_of_line(
            "network: {backbone: ▸{choice: [resnet18, resnet34]}, stem: small, width: 0.5}"
        ),
        "searched",
        "one file per backbone",
    ),
    Mistake("searched epochs", "train: {epochs: ▸{int: [1, 9]}}", "searched", "budget"),
    Mistake("searched seed", "train: {seed: ▸{int: [1, 9]}}", "searched", "confirm"),
    Mistake(
        "searched trials",
        "search: {trials: ▸{int: [1, 9]}}",
        "search.trials",
        "insert (block, params)",
    ),
    Mistake("kind", "train: {lr: ▸{flot: [0.1, 1]}}", "flot", "did you mean 'float'?"),
    Mistake("option", "train: {lr: {float: [0.1, 1], ▸logg: true}}", "'logg'", "'log'"),
    Mistake("no members", "train: {nesterov: {choice: ▸[]}}", "[]", "at least 1"),
    Mistake("member", "train: {optimizer: {choice: [sgd, ▸adam]}}", "'adam'", "'adamw'"),
    Mistake("member twice", "train: {lr: ▸{choice: [0.1, 0.2, 0.1]}}", "0.1", "remove one"),
    Mistake("choice prior", "train: {lr: ▸{choice: [0.1, 0.2], prior: 3}}", "3", "[0.1, 0.2]"),
    Mistake("one end", "train: {lr: {float: ▸[0.1]}}", "[0.1]", "at least 2"),
    Mistake("empty range", "train: {lr: ▸{float: [0.4, 0.1]}}", "0.4", "below"),
    Mistake("member out of range", "train: {momentum: {float: [0.5, ▸1]}}", "1", "below 1"),
    Mistake("log from zero", "train: {weight_decay: ▸{float: [0, 1], log: true}}", "0", "above 0"),
    Mistake(
        "log and step",
        "train: {lr: ▸{float: [0.1, 1], log: true, step: 0.1}}",
        "step",
        "remove one",
    ),
    Mistake("step", "train: {batch_size: ▸{int: [16, 50], step: 16}}", "50", "48"),
    Mistake("prior outside", "train: {lr: ▸{float: [0.1, 1], prior: 2}}", "2", "[0.1, 1"),
    Mistake(
        "prior off the steps",
        "train: {batch_size: ▸{int: [16, 48], step: 16, prior: 20}}",
        "20",
        "step 16",
    ),
    Mistake(
        "fractions for integer", "train: {batch_size: ▸{float: [16, 32]}}", "[16, 32]", "{int:"
    ),
    Mistake("range for words", "train: {optimizer: ▸{int: [1, 2]}}", "[1, 2]", "{choice: [...]}"),
]

INSERT = [
    Mistake("site", "insert: [{at: ▸layer5, block: gc}]", "'layer5'", "layer4"),
    Mistake("pattern", "insert: [{at: ▸'layer[2-', block: gc}]", "layer[2-", "bracket"),
    Mistake(
        "misspelt site",
        "insert: [{at: ▸layer4.0.residul, block: gc}]",
        "residul",
        "layer4.0.residual",
    ),
    Mistake("stars", "insert: [{at: ▸'********', block: gc}]", "********", "6"),
    Mistake("block", "insert: [{at: layer4, block: ▸gcc}]", "'gcc'", "gc"),
    Mistake(
        "member block", "insert: [{at: layer4, block: {choice: [none, ▸sse]}}]", "'sse'", "se"
    ),
    Mistake("no block", "insert: [▸{at: layer4}]", "'block'", "attnsearch blocks"),
    Mistake("null block", "insert: [{at: layer4, block: ▸null}]", "null", "text"),
    Mistake("decide", "insert: [{at: layer4, block: gc, decide: ▸every}]", "'every'", "each"),
    Mistake(
        "class",
        "insert: [{at: layer4, block: ▸'nowhere:Gate'}]",
        "nowhere:Gate",
        "No module named",
    ),
    Mistake("no module", "insert: [{at: layer4, block: ▸'math:sqrt'}]", "sqrt", "nn.Module"),
    Mistake(
        "hyperparameter",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: {▸ration: 0.5}}",
        "'ration'",
        "did you mean 'ratio'?",
    ),
    Mistake(
        "entry hyperparameter",
        "insert: [{at: layer4, block: gc, params: {gc: {▸pool: avg}}}]",
        "'pool'",
        "'pooling'",
    ),
    Mistake(
        "boolean hyperparameter",
        "insert: [{at: layer4, block: ecrm}]\nblocks: {ecrm: {bank_size: ▸true}}",
        "true",
        "a whole number",
    ),
    Mistake(
        "fractional hyperparameter",
        "insert: [{at: layer4, block: ecrm}]\nblocks: {ecrm: {bank_size: {float: [▸1.5, 2]}}}",
        "1.5",
        "a whole number",
    ),
    Mistake(
        "integer range",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: {ratio: ▸{int: [1, 2]}}}",
        "ratio",
        "{float:",
    ),
    Mistake(
        "negative hyperparameter",
        "insert: [{at: layer4, block: ecrm}]\nblocks: {ecrm: {bank_size: ▸-3}}",
        "-3",
        "ecrm",
    ),
    Mistake(
        "hyperparameter value",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: {pooling: ▸max}}",
        "'max'",
        "att",
    ),
    Mistake(
        "member that cannot be",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: {pooling: {choice: [att, ▸max]}}}",
        "'max'",
        "att",
    ),
    Mistake(
        "joint members alike to the block",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: ▸{choice: [{ratio: 1}, {ratio: 1.0}]}}",
        "the member {'ratio': 1.0} stands twice",
        "remove one",
    ),
    Mistake(
        "joint member",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: {choice: [{ratio: 0.5}, {▸ratoi: 0.5}]}}",
        "'ratoi'",
        "'ratio'",
    ),
    Mistake(
        "nested decision",
        "insert: [{at: layer4, block: gc}]\nblocks: {gc: {choice: [{ratio: ▸{choice: [0.5]}}]}}",
        "member",
        "one value",
    ),
    Mistake("settings of none", "blocks: {▸none: {}}", "none", "remove"),
    Mistake(
        "cannot replace",
        "insert: [{at: layer2.0.conv1, block: ▸se}]",
        "layer2.0.conv1",
        "layer2.0.after_conv1",
    ),
    Mistake(
        "stands at some",
        "insert: [{at: layer2.*.conv1, block: ▸se}]",
        "layer2.0.conv1",
        "layer2.1.conv1",
    ),
    Mistake(
        "replaced twice",
        "insert:\n  - {at: layer3.0.conv2, block: psa}\n  - ▸{at: layer3.*.conv2, block: scconv}",
        "layer3.0.conv2",
        "after_conv",
    ),
    Mistake(
        "same name",
        "insert:\n  - {at: layer4, block: gc}\n  - ▸{at: layer4.*, block: gc}",
        "'layer4'",
        "`name:`",
    ),
    Mistake(
        "forbidden name",
        "insert: [{at: layer4, block: {choice: [gc, se]}}]\nforbid: [{▸layer3.block: gc}]",
        "'layer3.block'",
        "'layer4.block'",
    ),
    Mistake(
        "forbidden value",
        "insert: [{at: layer4, block: {choice: [gc, se]}}]\nforbid: [{layer4.block: ▸gcc}]",
        "'gcc'",
        "did you mean 'gc'?",
    ),
    Mistake(
        "other decide",
        "insert: [{at: 'layer[2-3]', block: {choice: [gc, se]}}]\nforbid: [{▸layer3.block: gc}]",
        "layer2-3.block",
        "decide: stage",
    ),
    Mistake("empty rule", "forbid: [▸{}]", "conditions", "remove"),
    Mistake(
        "rule on what is fixed",
        "insert: [{at: layer4, block: gc}]\nforbid: [▸{layer4.block: gc}]",
        "fixes",
        "nothing is left",
    ),
    Mistake("rule no list", "forbid: ▸{a: b}", "{'a': 'b'}", "a list"),
]

MISTAKES = [*IN_YAML, *KEYS, *SECTIONS, *DECISIONS, *INSERT]
BRING_OTHERS = ("empty", "missing", "surrogate", "list", "text")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_is_found_in_its_place_with_its_value_and_a_remedy(mistake, load):
    marked = mistake.text[1:] if mistake.text.startswith("!") else HEAD + mistake.text
    before, _, after = marked.partition("▸")
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    with pytest.raises(SpaceError) as caught:
        load((before + after).encode("utf-8", "surrogateescape"))
    message = str(caught.value)
    problems = caught.value.problems
    ours = [str(problem) for problem in problems if (problem.line, problem.column) == place]
    assert ours, (place, message)
    assert any(mistake.found in text and mistake.remedy in text for text in ours), message
    assert all(re.match(r"space\.yaml:\d+:\d+: ", line) for line in message.splitlines())
    if mistake.id not in BRING_OTHERS:
        assert len(problems) == 1, message
