"""Every config field, its default and what it means: the reference page of the configuration.

A file in `configs/` starts from `defaults()`, sets what its run is about and returns the config; the command line
overrides single fields (`--config.train.steps=100`). The config is locked: a field that is not listed here is refused,
in a file and on the command line. Lists are tuples, so that the command line can hold them: `"(0,1,2)"`.

Each field is declared once, as `Field(name, default, meaning, ...)`; `fields.py` says what the rest means. The same
reference as tables is docs/configuration.md, which this command writes:

    python -m infoprompt_jax.settings > docs/configuration.md
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import ml_collections

from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import Field, Section

MOST_SEED = 2**32 - 1

RUN = Section(
    "",
    "What runs.",
    Field(
        "job",
        "train",
        "job that the command runs",
        choices=("train", "evaluate", "predict", "pretrain", "rospr_sources", "rospr_eval"),
    ),
    Field("seed", 0, "random seed of initialisation, data order and noise", least=0, most=MOST_SEED, member=True),
)

BACKBONE = Section(
    "backbone",
    "The frozen model.",
    Field(
        "name", "google/t5-base-lm-adapt", "hub id, directory (Hugging Face or T5X), nano, mini (embedded) or random"
    ),
    Field("revision", "", 'hub revision; "" = the default branch'),
    Field(
        "dtype",
        "float32",
        "type of weights and activations; softmax, norms and logits stay float32",
        choices=("float32", "bfloat16"),
    ),
    Field(
        "weights",
        "full",
        "full = weights in backbone.dtype; int8 = rounded while they are loaded, for less memory (docs/int8.md)",
        choices=("full", "int8"),
    ),
    Field("tokenizer", "", 'path of spiece.model, of tokenizer.json or of their directory; "" = beside the weights'),
    Field(
        "takes_eos",
        "auto",
        "whether inputs end in `</s>`; auto = by the evidence in the checkpoint, logged (T0: no)",
        choices=("auto", "yes", "no"),
    ),
    Field(
        "remat",
        "dots",
        "what the backward pass computes again to save memory: attention (dots), wide products (narrow), all (full)",
        choices=("none", "dots", "narrow", "full"),
        resume=True,
    ),
    Field("unroll", 1, "layers per scan iteration; with more, compilation is slower and steps may be faster", least=1),
    Field("dropout", 0.0, "dropout rate of the frozen model, in training only", least=0, most=0.99),
)

DATA = Section(
    "data",
    "Where rows come from and how they become arrays; see docs/data.md.",
    Field(
        "seed", -1, "seed of the shots and the order of training rows; -1 = the member's seed", least=-1, most=MOST_SEED
    ),
    Field("dir", "", 'directory of the files `<data set>/<split>.<suffix>`, see docs/data.md; "" = TFDS', resume=True),
    Field("file", "", "file of rows to predict with job=predict (docs/predict.md), or - for standard input"),
    Field("tfds_dir", "", 'directory of the data sets that TFDS has prepared; "" = its default', resume=True),
    Field("cache_dir", "", 'directory of tokenised arrays; "" = ~/.cache/infoprompt_jax', resume=True),
    Field("max_input_length", 512, "most tokens of an input; the rest is cut off, EOS kept, and counted", least=2),
    Field("max_target_length", 128, "most tokens of a target or an answer choice", least=2),
    Field("buckets", (32, 64, 128, 256, 512, 1024), "input lengths that programs are compiled for", least=1, of=int),
    Field("threads", 2, "threads of the input pipeline", least=0, resume=True),
)

TASK = Section(
    "task",
    "What is trained on and evaluated: data sets and their templates.",
    Field(
        "name",
        "super_glue/rte",
        "data set, or `seqio:<task or mixture>`; several, by commas, make a mixture",
        member=True,
    ),
    Field("module", "", "Python module that registers the tasks of `seqio:` with seqio; it is imported"),
    Field("template", "all", "name of a template; all = a mixture of the original task's templates", member=True),
    Field("templates_dir", "", 'directory of templates in the YAML of promptsource; "" = those of the package'),
    Field("input", "", "input of your own template: jinja over the fields of a row; no YAML is needed", member=True),
    Field("target", "", "target of your own template, usually `{{ answer_choices[label] }}`", member=True),
    Field("answer_choices", "", 'choices of your own template: `No ||| Yes`, or jinja; "" = free text', member=True),
    Field("train_split", "train", "split to train on; slices are allowed: train[:90%], train[100:200]"),
    Field("eval_split", "validation", "split that selects the best prompt, evaluated every train.eval_every steps"),
    Field("test_split", "", 'split that is evaluated once, at the end, with the best prompt; "" = none', grows=True),
    Field("train_limit", 0, "number of training rows that are tokenised, drawn from the whole split; 0 = all", least=0),
    Field("shots", 0, "number of examples to train on, drawn by data.seed; 0 = all", least=0, member=True),
    Field("eval_limit", 0, "number of rows of each task that are evaluated, the first ones; 0 = all", least=0),
    # With less, rates overflow.
    Field("temperature", 1.0, "temperature of a mixture: rate = min(rows, cap) ** (1 / temperature)", least=0.1),
    Field("cap", 0, "most rows of a task that count for its rate in a mixture; 0 = all", least=0),
    Field("counterpart", False, "whether the generated world replaces a data set that data.dir lacks"),
    Field(
        "metric",
        "",
        'metric that selects the best prompt; "" = the default of the data set',
        choices=("", "accuracy", "f1", "macro_f1", "matthews", "exact_match"),
    ),
)

PROMPT = Section(
    "prompt",
    "The soft prompt, which is trained.",
    Field("length", 100, "length P, in tokens; 0 with job=evaluate evaluates the backbone alone", least=0),
    Field(
        "kind",
        "static",
        "kind of prompt: static = one matrix; instance = generated for each example (InfoPrompt's methods section)",
        choices=("static", "instance"),
    ),
    Field(
        "init", "vocabulary", "initialiser: uniform, vocabulary, labels, text, or a saved prompt's path", member=True
    ),
    Field("by", "", "column that names each row's prompt, with job=predict; prompt.init is their directory"),
    Field("text", "", "words that init=text starts from"),
    Field("top_k", 5000, "number of the first pieces that init=vocabulary and labels sample from", least=1),
    Field("bottleneck", 32, "width of the generator of kind=instance", least=1),
)

INFOPROMPT = Section(
    "infoprompt",
    "The mutual-information terms; docs/infoprompt.md has the formulas.",
    Field("gamma", 0.1, "weight of the head loss, I(prompt; head)", least=0, member=True),
    Field("beta", 0.2, "weight of the representation loss, I(prompt; encoded representation)", least=0, member=True),
    Field("kappa", 0.1, "weight of the KL term of the variational bottleneck", least=0, member=True),
    Field(
        "decay", 0.0, "linear decay of the terms' weights, by 1 - decay * step / steps", least=0, most=1, member=True
    ),
    Field(
        "estimator",
        "infonce",
        "estimator of mutual information",
        choices=("infonce", "nwj", "dv", "smile", "js"),
        member=True,
    ),
    Field("smile_tau", 5.0, "clipping threshold of estimator=smile", least=0),
    Field(
        "critic",
        "auto",
        "form of the head loss's critic; auto = dot if embeddings are tied, else bilinear",
        choices=("auto", "dot", "bilinear"),
    ),
    Field(
        "representation",
        "decoder",
        "representation Z: the decoder's final state at position 0, or the mean of the encoder's states",
        choices=("decoder", "mean_encoder"),
    ),
    Field(
        "negatives",
        "posterior",
        "negatives of the representation loss: noise around the example without a prompt, or the batch's other rows",
        choices=("posterior", "in_batch"),
    ),
    Field("negatives_per_example", 0, "number K of negatives=posterior; 0 = 4 * batch size", least=0),
    Field("noise_scale", 1.0, "standard deviation of the posterior's noise, unless infoprompt.variational", least=0),
    Field("variational", False, "whether a trained Gaussian bottleneck replaces the fixed noise"),
    Field("latent", 32, "width of the variational bottleneck", least=1),
    Field("cache_features", True, "whether features without a prompt are computed once per example, not in every step"),
)

TRAIN = Section(
    "train",
    "The recipe.",
    Field("steps", 2000, "number of optimiser steps", least=1, grows=True),
    Field("batch_size", 32, "rows per member and step, over all devices", least=1),
    Field("accumulate", 1, "micro-batches per step; their gradients are averaged", least=1),
    Field(
        "task_loss",
        "lm",
        "loss of the target's tokens (lm), the choices' scores (choices) or a trained head on label words (verbalizer)",
        choices=("lm", "choices", "verbalizer"),
    ),
    Field(
        "optimizer",
        "adafactor",
        "optimiser of the prompt: T5X's Adafactor without parameter scaling, or AdamW",
        choices=("adafactor", "adamw"),
    ),
    Field("learning_rate", 0.3, "learning rate of the prompt", least=0, member=True),
    Field(
        "critic_learning_rate",
        1e-3,
        "AdamW's learning rate for critics, verbalizer and bottleneck",
        least=0,
        member=True,
    ),
    Field(
        "schedule",
        "constant",
        "schedule of both learning rates; linear and cosine reach zero right after the last step",
        choices=("constant", "linear", "cosine"),
        member=True,
    ),
    Field("warmup", 0.0, "share of the steps that warm up the learning rates", least=0, most=1, member=True),
    Field(
        "weight_decay", 1e-5, "decay per step (Adafactor) or times the learning rate (AdamW); none on critics", least=0
    ),
    Field("clip_norm", 1.0, "largest global norm of a member's gradients; 0 = no clipping", least=0),
    Field("eval_every", 200, "steps between evaluations; 0 = only at the end", least=0),
    Field("eval_batch_size", 64, "rows per member in an evaluation batch, over all devices", least=1, resume=True),
    Field("log_every", 10, "steps between records in the log; 0 = never", least=0, resume=True),
    Field("save_every", 100, "steps between checkpoints; 0 = only at the end or a stop", least=0, resume=True),
    Field("patience", 0, "evaluations without improvement after which a member stops; 0 = never", least=0),
    Field("references", False, "whether the backbone without a prompt and the most frequent answer are evaluated too"),
    Field("tensorboard", False, "whether the run is also logged for TensorBoard", resume=True),
    Field(
        "tracker",
        "",
        'tracker that gets the log too, an optional package; "" = none',
        choices=("", "trackio"),
        resume=True,
    ),
)

FLEET = Section(
    "fleet",
    "Many members in one run: the product of members, presets and seeds.",
    Field("seeds", (), "seeds, with one member for each; () = the run's seed", of=int),
    Field(
        "presets",
        ("run",),
        "sets of InfoPrompt's terms that are on, paired by seed; run = the terms of the config",
        choices=("run", "both", "plain", "head", "representation"),
        of=str,
    ),
    Field("at_once", 0, "number of members whose activations are in memory together; 0 = all", least=0, resume=True),
    Field(
        "over",
        "auto",
        "what the devices share out: rows of each batch, whole members, or auto = members where they divide evenly",
        choices=("auto", "rows", "members"),
        resume=True,
    ),
    Field("members", (), 'members as dicts of their fields: `{"name": "a", "task.name": "glue/sst2"}`', of=dict),
)

MESH = Section(
    "mesh",
    "How devices are used; see docs/sharding.md.",
    Field("data", -1, "devices that split the batch; -1 = all that remain", resume=True),
    Field("fsdp", 1, "devices that split the batch and one copy of the weights", resume=True),
    Field("model", 1, "devices that split the products with one copy of the weights", resume=True),
    Field("slices", -1, "TPU slices that mesh.data spans; -1 = as the devices report", resume=True),
    Field("coordinator", "", 'address of process 0 as host:port, of a run on several hosts; "" = none', resume=True),
    Field(
        "processes", -1, "number of processes; -1 = as SLURM or Cloud TPU starts them, else one", least=-1, resume=True
    ),
    Field(
        "process", -1, "number of this process, from 0; -1 = as SLURM or Cloud TPU numbers it", least=-1, resume=True
    ),
    Field("wait", 300, "most seconds to wait at the start for the other processes", least=1, resume=True),
)

SCORING = Section(
    "scoring",
    "How predictions are made; see docs/scoring.md.",
    Field(
        "normalize",
        "none",
        "divisor of the log-probabilities in rank classification",
        choices=("none", "tokens", "characters"),
    ),
    Field("max_length", 32, "most tokens that are generated for tasks without answer choices", least=1),
)

ROSPR = Section(
    "rospr",
    "The Source Prompt Library, retrieval from it, and what is measured; see docs/rospr.md.",
    Field("retriever", "", 'T5 whose encoder makes keys and queries: hub id or directory; "" = the backbone itself'),
    Field(
        "similarity",
        "",
        'similarity of keys and queries; "" = that of the library, or inner_product (as in the paper) for a new one',
        choices=("", "inner_product", "cosine"),
    ),
    Field("instances", 100, "number n of a source prompt's training instances whose encodings are its keys", least=1),
    Field("group", 64, "number of source prompts that are trained together: as many as fit memory", least=1),
    Field("library", "", "directory of the library to evaluate: `<workdir>/library` of job=rospr_sources", resume=True),
    Field(
        "methods",
        ("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle"),
        "methods to compare",
        choices=("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle"),
        of=str,
    ),
    Field("queries", 32, "number Q of unlabelled instances of the evaluation task that vote", least=1),
    Field("query_split", "", 'split that the queries come from; "" = task.eval_split'),
    Field("top", 10, "number N of nearest keys of a query; all, if fewer belong to other tasks", least=1),
    Field("interpolate", 3, "number N' of candidates that are interpolated or ranked by variance", least=1),
    Field("eps", 0.01, "constant added to the variance of answers, in squared fractions", least=1e-9),
)

PRETRAIN = Section(
    "pretrain",
    "What job=pretrain makes: a T5 v1.1 of these sizes. Steps, batches and rates are those of `train`.",
    Field("denoising_phase", 0.25, "share of the steps, the first ones, with only span corruption", least=0, most=1),
    Field(
        "denoising_share",
        0.15,
        "share of span corruption in later batches; the other rows are templates'",
        least=0,
        most=0.9,
    ),
    Field("corpus", "", 'folder of text and prompted rows to train on; "" = the generated world\'s'),
    Field("lines", 150_000, "number of lines of the generated world's text", least=1),
    Field("minutes", 0.0, "time limit; train.steps becomes what fits into it, by measured speed; 0 = none", least=0),
    Field("measurements", 0, "how often the loss and accuracies are measured on the corpus's held-out part", least=0),
    Field("cased", False, "whether the vocabulary keeps upper case"),
    # 256 bytes, 3 control tokens and some letters are the least.
    Field("pieces", 1948, "number of vocabulary pieces; with 100 sentinels, the embedding's rows", least=300),
    Field("d_model", 128, "width of the model", least=1),
    Field("d_kv", 16, "width of an attention head", least=1),
    Field("num_heads", 8, "number of attention heads", least=1),
    Field("d_ff", 320, "width of the feed-forward layers", least=1),
    Field("num_layers", 4, "number of the encoder's layers", least=1),
    Field("num_decoder_layers", 2, "number of the decoder's layers", least=1),
    Field("tied", False, "whether the LM head is the embedding matrix"),
    Field("dtype", "float32", "type of the computation and of the result", choices=("float32", "bfloat16")),
)

SECTIONS = (RUN, BACKBONE, DATA, TASK, PROMPT, INFOPROMPT, TRAIN, FLEET, MESH, SCORING, ROSPR, PRETRAIN)
FIELDS: dict[str, Field] = {name: field for section in SECTIONS for name, field in section.named()}
RENAMED = {"fleet.variants": "fleet.presets"}  # fields of former versions


def defaults() -> ml_collections.ConfigDict:
    """All fields with their defaults: Lester et al.'s recipe plus InfoPrompt's terms, on T5 base LM-adapt."""
    groups = {section.name: section.defaults() for section in SECTIONS if section is not RUN}
    return ml_collections.ConfigDict({**RUN.defaults(), **groups}).lock()


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config itself, if every field is known, of its type and in its range.

    Raises:
      UserError: naming the first field that is not, what it holds and what it may hold.
    """
    given = flatten(config.to_dict())
    for field in given:
        if field not in FIELDS:
            raise UserError(f"The config sets {field}, which does not exist{nearest(field, FIELDS)}")
    for name, field in FIELDS.items():
        if name not in given:
            raise UserError(f"The config lacks {name}: start from infoprompt_jax.settings.defaults().")
        field.check(name, given[name])
    if config.prompt.length > config.data.max_input_length:
        raise UserError(
            f"prompt.length={config.prompt.length} is longer than the longest input, data.max_input_length="
            f"{config.data.max_input_length}: choose a shorter prompt."
        )
    if config.job == "train" and config.prompt.length == 0:
        raise UserError("prompt.length=0 leaves nothing to train: choose 1 or more, or job=evaluate.")
    return config


def for_job(config: ml_collections.ConfigDict, job: str) -> ml_collections.ConfigDict:
    """A checked copy of the config that runs this job, for the job's function that is called from Python.

    Raises:
      UserError: as `check`.
    """
    made = config.copy_and_resolve_references()
    made.job = job
    return check(made)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def nearest(field: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown field."""
    if field in RENAMED:
        return f": it is called {RENAMED[field]} now."
    close = difflib.get_close_matches(field, list(known), n=1)
    return f": did you mean {close[0]}?" if close else "; infoprompt_jax/settings.py lists all fields."


def page() -> str:
    """The text of docs/configuration.md."""
    introduction = """\
# Configuration

Written by `python -m infoprompt_jax.settings > docs/configuration.md` from the declarations in
[`infoprompt_jax/settings.py`](../infoprompt_jax/settings.py).

A file in `configs/` sets fields, `config.train.steps = 4000`; the command line overrides them,
`--config.train.steps=100`. An unknown field or a value out of range ends the command with one sentence. The last column
names who else may set a field: members of a fleet, each for itself (`fleet.members`), and runs that are resumed. A
longer run is a run, finished or not, that goes on with a larger number, or with a value where it had none
([training](training.md#longer-runs)). All other fields must have the run's own values.
"""
    return "\n".join([introduction, *(section.page() for section in SECTIONS)])


if __name__ == "__main__":
    print(page(), end="")
