"""Every config field, its default and what it means: the reference page of the configuration.

A file in `configs/` starts from `defaults()`, sets what its run is about and returns the config; the command line
overrides single fields (`--config.train.steps=100`). The config is locked: a field that is not listed here is refused,
in a file as on the command line. Lists are tuples, so that they can be given on the command line: `"(0,1,2)"`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import ml_collections

from infoprompt_jax.errors import UserError

# Fields one member of a fleet may set for itself (`fleet.members`); all others shape the compiled program or the host.
PER_MEMBER = (
    "seed",
    "task.name",
    "task.template",
    "task.shots",
    "task.input",
    "task.target",
    "task.answer_choices",
    "prompt.init",
    "train.learning_rate",
    "train.critic_learning_rate",
    "train.schedule",
    "train.warmup",
    "infoprompt.beta",
    "infoprompt.gamma",
    "infoprompt.kappa",
    "infoprompt.decay",
    "infoprompt.estimator",
)


def defaults() -> ml_collections.ConfigDict:
    """All fields with their defaults: Lester et al.'s recipe plus InfoPrompt's terms, on T5 base LM-adapt."""
    config = ml_collections.ConfigDict()
    config.job = "train"  # train | evaluate | pretrain | rospr_sources | rospr_eval
    config.seed = 0  # initialisation, data order, noise; a fleet's members may have their own
    config.backbone = _backbone()
    config.data = _data()
    config.task = _task()
    config.prompt = _prompt()
    config.infoprompt = _infoprompt()
    config.train = _train()
    config.fleet = _fleet()
    config.mesh = _mesh()
    config.scoring = _scoring()
    config.rospr = _rospr()
    config.pretrain = _pretrain()
    return config.lock()


def _backbone() -> ml_collections.ConfigDict:
    """The frozen model."""
    backbone = ml_collections.ConfigDict()
    backbone.name = "google/t5-base-lm-adapt"  # hub id, directory (Hugging Face or T5X), nano (embedded) or random
    backbone.revision = ""  # hub revision; "" = the default branch
    backbone.dtype = "float32"  # float32 | bfloat16, of weights and activations; softmax, norms, logits stay float32
    backbone.tokenizer = ""  # spiece.model, tokenizer.json or their directory; "" = beside the weights
    backbone.takes_eos = "auto"  # auto | yes | no: whether inputs end in </s>; T0 was trained without
    backbone.remat = "dots"  # none | dots | full: what the backward pass recomputes (memory against time)
    backbone.unroll = 1  # layers per scan iteration; larger compiles longer and may run faster
    backbone.dropout = 0.0  # of the frozen model, in training only
    return backbone


def _data() -> ml_collections.ConfigDict:
    """Where rows come from and how they become arrays."""
    data = ml_collections.ConfigDict()
    data.seed = -1  # draws the shots and the order of training rows; -1 = the seed (of the member)
    data.dir = ""  # files <data set>/<split>.{jsonl,csv,parquet}; "" = TFDS
    data.tfds_dir = ""  # where TFDS keeps prepared data sets; "" = its default
    data.cache_dir = ""  # tokenised arrays; "" = ~/.cache/infoprompt_jax
    data.max_input_length = 512  # tokens; longer inputs are cut at the end (EOS kept) and counted
    data.max_target_length = 128  # tokens, targets and answer choices
    data.buckets = (32, 64, 128, 256, 512, 1024)  # input lengths that a program is compiled for
    data.threads = 2  # of the input pipeline
    return data


def _task() -> ml_collections.ConfigDict:
    """What is trained on and evaluated."""
    task = ml_collections.ConfigDict()
    task.name = "super_glue/rte"  # data set; several, separated by commas, make a mixture
    task.template = "all"  # a hard prompt's name, or all: a mixture of the data set's own-task prompts
    task.templates_dir = ""  # promptsource-format YAML; "" = the templates shipped with the package
    task.input = ""  # own data: the input as a jinja template over the row's fields (no YAML needed)
    task.target = ""  # own data: the target; usually {{ answer_choices[label] }}
    task.answer_choices = ""  # own data: "No ||| Yes", or a jinja template; "" = free text
    task.train_split = "train"  # slices are allowed: train[:90%], train[100:200]
    task.eval_split = "validation"  # evaluated every train.eval_every; picks the best prompt
    task.test_split = ""  # evaluated once, at the end, with the best prompt; "" = none
    task.train_limit = 0  # > 0: of the training split only so many rows, drawn from all of it, are ever tokenised
    task.shots = 0  # > 0: train on so many examples, drawn by data.seed
    task.eval_limit = 0  # > 0: evaluate on the first so many rows of each task
    task.temperature = 1.0  # mixtures: rate = min(rows, cap) ** (1 / temperature)
    task.cap = 0  # mixtures: rows of one task that count; 0 = all
    task.counterpart = False  # where data.dir lacks the data set, train on the generated world's of the same kind
    task.metric = ""  # what picks the best prompt; "" = the task's own (accuracy, matthews, ...)
    return task


def _prompt() -> ml_collections.ConfigDict:
    """What is trained."""
    prompt = ml_collections.ConfigDict()
    prompt.length = 100  # P, in tokens; 0 with job=evaluate is the backbone alone
    prompt.kind = "static"  # static: one free matrix | instance: generated per example (methods: InfoPrompt)
    prompt.init = "vocabulary"  # uniform | vocabulary | labels | text | a path to a saved prompt
    prompt.text = ""  # for init=text
    prompt.top_k = 5000  # init=vocabulary, labels: sampled from the first so many pieces
    prompt.bottleneck = 32  # kind=instance: width of the generator
    return prompt


def _infoprompt() -> ml_collections.ConfigDict:
    """The mutual-information terms; docs/infoprompt.md has the formulas."""
    info = ml_collections.ConfigDict()
    info.gamma = 0.1  # weight of the head loss, I(prompt; head)
    info.beta = 0.2  # weight of the representation loss, I(prompt; encoded representation)
    info.kappa = 0.1  # weight of the KL term, only when variational
    info.decay = 0.0  # 0 to 1: the terms' weight falls as 1 - decay * step / steps
    info.estimator = "infonce"  # infonce | nwj | dv | smile | js
    info.smile_tau = 5.0  # clip of smile
    info.critic = "auto"  # head loss: dot | bilinear | auto (dot if embeddings are tied, else bilinear)
    info.representation = "decoder"  # Z: decoder (its final state at position 0) | mean_encoder
    info.negatives = "posterior"  # posterior: noise around the same example un-prompted | in_batch
    info.negatives_per_example = 0  # K for posterior; 0 = 4 * batch size
    info.noise_scale = 1.0  # standard deviation of the posterior's noise (deterministic)
    info.variational = False  # a trained Gaussian bottleneck instead of fixed noise
    info.latent = 32  # its width
    info.cache_features = True  # un-prompted features once per example instead of in every step
    return info


def _train() -> ml_collections.ConfigDict:
    """The recipe."""
    train = ml_collections.ConfigDict()
    train.steps = 2000
    train.batch_size = 32  # per member and step, over all devices
    train.accumulate = 1  # micro-batches a step is computed in; their means are averaged
    train.task_loss = "lm"  # lm | choices | verbalizer
    train.optimizer = "adafactor"  # of the prompt: adafactor (T5X's, no parameter scaling) | adamw
    train.learning_rate = 0.3
    train.critic_learning_rate = 1e-3  # AdamW, for critics, verbalizer and bottleneck
    train.schedule = "constant"  # constant | linear | cosine (zero right after the last step)
    train.warmup = 0.0  # share of the steps
    train.weight_decay = 1e-5
    train.clip_norm = 1.0  # global norm over one member's gradients; 0 = off
    train.eval_every = 200  # steps; 0 = only at the end
    train.eval_batch_size = 64
    train.log_every = 10
    train.save_every = 100  # steps; 0 = only at the end (and when told to stop)
    train.patience = 0  # evaluations without improvement before a member stops; 0 = never
    train.references = False  # also evaluate the backbone without a prompt, and the most frequent answer
    train.tensorboard = False
    return train


def _fleet() -> ml_collections.ConfigDict:
    """Many members in one run."""
    fleet = ml_collections.ConfigDict()
    fleet.seeds = ()  # one member per seed; () = the run's seed
    fleet.variants = ("run",)  # run (the config as it is), plain, head, representation, both: paired per seed
    fleet.at_once = 0  # members whose activations are in memory together; 0 = all
    fleet.members = ()  # or: dicts of dotted per-member fields, {"name": "a", "task.name": "glue/sst2"}
    return fleet


def _mesh() -> ml_collections.ConfigDict:
    """How devices are used."""
    mesh = ml_collections.ConfigDict()
    mesh.data = -1  # devices along the batch; -1 = all that remain
    mesh.model = 1  # devices that share one copy of the weights
    return mesh


def _scoring() -> ml_collections.ConfigDict:
    """How predictions are made."""
    scoring = ml_collections.ConfigDict()
    scoring.normalize = "none"  # none | tokens | characters: how rank classification divides log-probabilities
    scoring.max_length = 32  # tokens generated for tasks without answer choices
    return scoring


def _rospr() -> ml_collections.ConfigDict:
    """The Source Prompt Library, how prompts are retrieved from it, what is measured; see docs/rospr.md."""
    rospr = ml_collections.ConfigDict()
    rospr.retriever = ""  # T5 whose encoder makes keys and queries: hub id or directory; "" = the backbone itself
    rospr.similarity = ""  # inner_product | cosine; "" = the library's, and of one that is made the paper's, the first
    rospr.instances = 100  # n, training instances that a source prompt is found by
    rospr.group = 64  # source prompts that are trained at once: as many as fit memory
    rospr.library = ""  # job=rospr_eval: the library's directory (<workdir>/library of the job rospr_sources)
    rospr.methods = ("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle")
    rospr.queries = 32  # Q, unlabelled instances of the target that vote
    rospr.query_split = ""  # where they come from; "" = task.eval_split
    rospr.top = 10  # N, nearest keys of a query (all, where fewer are left without the target's own source prompts)
    rospr.interpolate = 3  # N', candidates that are interpolated or ranked by variance
    rospr.eps = 0.01  # added to the variance of answers, in squared fractions
    return rospr


def _pretrain() -> ml_collections.ConfigDict:
    """What job=pretrain makes: a T5 v1.1 of these sizes. Steps, batches and rates are those of `train`."""
    pretrain = ml_collections.ConfigDict()
    pretrain.denoising_phase = 0.25  # share of the steps, the first ones, that are span corruption alone
    pretrain.denoising_share = 0.15  # of the rows of every later batch; the others are hard prompts
    pretrain.lines = 150_000  # of unlabelled text
    pretrain.pieces = 1948  # of the vocabulary; with 100 sentinels, the rows of the embedding
    pretrain.d_model = 128
    pretrain.d_kv = 16  # per head
    pretrain.num_heads = 8
    pretrain.d_ff = 320
    pretrain.num_layers = 4  # of the encoder
    pretrain.num_decoder_layers = 2
    return pretrain


CHOICES = {
    "job": ("train", "evaluate", "pretrain", "rospr_sources", "rospr_eval"),
    "backbone.dtype": ("float32", "bfloat16"),
    "backbone.takes_eos": ("auto", "yes", "no"),
    "backbone.remat": ("none", "dots", "full"),
    "prompt.kind": ("static", "instance"),
    "infoprompt.estimator": ("infonce", "nwj", "dv", "smile", "js"),
    "infoprompt.critic": ("auto", "dot", "bilinear"),
    "infoprompt.representation": ("decoder", "mean_encoder"),
    "infoprompt.negatives": ("posterior", "in_batch"),
    "train.task_loss": ("lm", "choices", "verbalizer"),
    "train.optimizer": ("adafactor", "adamw"),
    "rospr.similarity": ("", "inner_product", "cosine"),
    "train.schedule": ("constant", "linear", "cosine"),
    "scoring.normalize": ("none", "tokens", "characters"),
    "task.metric": ("", "accuracy", "f1", "macro_f1", "matthews", "exact_match"),
}

ELEMENTS = {"fleet.seeds": int, "fleet.variants": str, "fleet.members": dict, "data.buckets": int, "rospr.methods": str}

LEAST = {  # of a tuple: its elements
    "seed": 0,
    "data.seed": -1,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.eval_batch_size": 1,
    "train.accumulate": 1,
    "train.learning_rate": 0,
    "train.critic_learning_rate": 0,
    "train.eval_every": 0,
    "train.log_every": 0,
    "train.save_every": 0,
    "train.patience": 0,
    "train.warmup": 0,
    "train.clip_norm": 0,
    "train.weight_decay": 0,
    "prompt.length": 0,
    "prompt.bottleneck": 1,
    "prompt.top_k": 1,
    **dict.fromkeys(("infoprompt.gamma", "infoprompt.beta", "infoprompt.kappa", "infoprompt.decay"), 0),
    "infoprompt.noise_scale": 0,
    "infoprompt.smile_tau": 0,
    "infoprompt.negatives_per_example": 0,
    "infoprompt.latent": 1,
    "backbone.unroll": 1,
    "data.max_input_length": 2,
    "data.max_target_length": 2,
    "data.threads": 0,
    "data.buckets": 1,
    "fleet.at_once": 0,
    "task.train_limit": 0,
    "task.shots": 0,
    "task.eval_limit": 0,
    "task.cap": 0,
    "task.temperature": 0.1,  # at less, rates overflow
    "scoring.max_length": 1,
    "backbone.dropout": 0,
    "rospr.instances": 1,
    "rospr.group": 1,
    "rospr.queries": 1,
    "rospr.top": 1,
    "rospr.interpolate": 1,
    "rospr.eps": 1e-9,
    "pretrain.denoising_phase": 0,
    "pretrain.denoising_share": 0,
    "pretrain.pieces": 300,  # 256 bytes, 3 control tokens and some letters
    **dict.fromkeys(("pretrain.lines", "pretrain.d_model", "pretrain.d_kv", "pretrain.num_heads", "pretrain.d_ff"), 1),
    **dict.fromkeys(("pretrain.num_layers", "pretrain.num_decoder_layers"), 1),
}

MOST = {
    "seed": 2**32 - 1,
    "data.seed": 2**32 - 1,
    "train.warmup": 1,
    "infoprompt.decay": 1,
    "backbone.dropout": 0.99,
    "pretrain.denoising_phase": 1,
    "pretrain.denoising_share": 0.9,
}


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config itself, if every field is known, of its type and in its range.

    Raises:
      UserError: naming the first field that is not, what it holds and what it may hold.
    """
    known, given = flatten(defaults().to_dict()), flatten(config.to_dict())
    for field in given.keys() - known.keys():
        raise UserError(f"The config sets {field}, which does not exist{nearest(field, known)}")
    for field in known.keys() - given.keys():
        raise UserError(f"The config lacks {field}: start from infoprompt_jax.settings.defaults().")
    for field, value in given.items():
        _check_value(field, value, type(known[field]))
    if config.prompt.length > config.data.max_input_length:
        raise UserError(
            f"prompt.length={config.prompt.length} is longer than the longest input, data.max_input_length="
            f"{config.data.max_input_length}: choose a shorter prompt."
        )
    if config.job == "train" and config.prompt.length == 0:
        raise UserError("prompt.length=0 leaves nothing to train: choose 1 or more, or job=evaluate.")
    return config


def _check_value(field: str, value: Any, kind: type) -> None:
    if not isinstance(value, (float, int) if kind is float else kind):
        raise UserError(f"{field}={value!r} is of type {type(value).__name__}: {kind.__name__} was expected.")
    if field in ELEMENTS and not all(isinstance(element, ELEMENTS[field]) for element in value):
        raise UserError(f"{field}={value!r} was not understood: a tuple of {ELEMENTS[field].__name__} was expected.")
    allowed = CHOICES.get(field)
    if allowed and value not in allowed:
        why = " (T5 overflows in float16)" if value == "float16" else ""
        raise UserError(f"{field}={value!r} is not supported{why}: choose one of {', '.join(allowed).lstrip(', ')}.")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{field}={value} is not a number that can be computed with: choose a finite one.")
    if field in LEAST and min(value if kind is tuple else (value,), default=LEAST[field]) < LEAST[field]:
        raise UserError(f"{field}={value} is out of range: it must be at least {LEAST[field]}.")
    if field in MOST and value > MOST[field]:
        raise UserError(f"{field}={value} is out of range: it must be at most {MOST[field]}.")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def nearest(field: str, known: Iterable[str]) -> str:
    """How an error about an unknown field goes on."""
    close = difflib.get_close_matches(field, list(known), n=1)
    return f": did you mean {close[0]}?" if close else "; infoprompt_jax/settings.py lists all fields."
