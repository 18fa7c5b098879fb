"""The config fields of a run: the job, the backbone, the data and its tasks, the devices, and how predictions are made.

Each field is declared once, as `Field(name, default, meaning, ...)`; `fields.py` says what the rest means.
"""

from __future__ import annotations

from infoprompt_jax import metric_names
from infoprompt_jax.fields import MOST_DEVICES, MOST_ROWS, MOST_SEED, MOST_TEXT, MOST_TOKENS, Field, Section

RUN = Section(
    "",
    "What runs.",
    Field(
        "job",
        "train",
        "job that the command runs",
        choices=("train", "evaluate", "predict", "pretrain", "rospr_sources", "rospr_eval"),
    ),
    Field("seed", 0, "random seed of initialisation, data order and noise", between=(0, MOST_SEED), member=True),
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
        "what the backward pass computes again: attention by XLA (dots), wide products (narrow), everything (full)",
        choices=("none", "dots", "narrow", "full"),
        resume=True,
    ),
    Field(
        "unroll",
        1,
        "layers per scan iteration; with more, compilation is slower and steps may be faster",
        between=(1, 1024),
    ),
    Field(
        "attention",
        "xla",
        "what computes attention to the encoder's positions: XLA, or on an NVIDIA GPU in bfloat16 cuDNN's kernel; "
        "XLA does for generated tokens, and where prompt and input have an odd number of tokens together",
        choices=("xla", "cudnn"),
    ),
    Field("dropout", 0.0, "dropout rate of the frozen model, in training only", between=(0, 0.99)),
)

DATA = Section(
    "data",
    "Where rows come from and how they become arrays; see docs/data.md.",
    Field(
        "seed",
        -1,
        "seed of the shots and the order of training rows; -1 = the member's seed",
        also=(-1,),
        between=(0, MOST_SEED),
    ),
    Field("dir", "", 'directory of the files `<data set>/<split>.<suffix>`, see docs/data.md; "" = TFDS', resume=True),
    Field("file", "", "file of rows to predict with job=predict (docs/predict.md), or - for standard input"),
    Field("tfds_dir", "", 'directory of the data sets that TFDS has prepared; "" = its default', resume=True),
    Field("cache_dir", "", 'directory of tokenised rows and programs; "" = ~/.cache/infoprompt_jax', resume=True),
    Field(
        "max_input_length",
        512,
        "most tokens of an input; the rest is cut off, EOS kept, and counted",
        between=(2, MOST_TOKENS),
    ),
    Field("max_target_length", 128, "most tokens of a target or an answer choice", between=(2, MOST_TOKENS)),
    Field(
        "buckets",
        (32, 64, 96, 128, 192, 256, 384, 512, 1024),
        "input lengths that programs are compiled for",
        between=(1, MOST_TOKENS),
        ascending=True,
        of=int,
    ),
    Field("threads", 2, "threads of the input pipeline", between=(0, 256), resume=True),
)

TASK = Section(
    "task",
    "What is trained on and evaluated: data sets and their templates.",
    Field(
        "name",
        "super_glue/rte",
        "data set, or `seqio:<task or mixture>`; several, by commas, make a mixture",
        member=True,
        longest=MOST_TEXT,
    ),
    Field("module", "", "Python module that registers the tasks of `seqio:` with seqio; it is imported"),
    Field("template", "all", "name of a template; all = a mixture of the original task's templates", member=True),
    Field(
        "templates_dir",
        "",
        'directory of templates in the YAML of promptsource; "" = those of the package',
        resume=True,
    ),
    Field(
        "input",
        "",
        "input of your own template: jinja over the fields of a row; no YAML is needed",
        member=True,
        longest=MOST_TEXT,
    ),
    Field(
        "target",
        "",
        "target of your own template, usually `{{ answer_choices[label] }}`",
        member=True,
        longest=MOST_TEXT,
    ),
    Field(
        "answer_choices",
        "",
        'choices of your own template: `No ||| Yes`, or jinja; "" = free text',
        member=True,
        longest=MOST_TEXT,
    ),
    Field("train_split", "train", "split to train on; slices are allowed: train[:90%], train[100:200]"),
    Field("eval_split", "validation", "split that selects the best prompt, evaluated every train.eval_every steps"),
    Field("test_split", "", 'split that is evaluated once, at the end, with the best prompt; "" = none', grows=True),
    Field(
        "train_limit",
        0,
        "number of training rows that are tokenised, drawn from the whole split; 0 = all",
        between=(0, MOST_ROWS),
    ),
    Field(
        "shots", 0, "number of examples to train on, drawn by data.seed; 0 = all", between=(0, MOST_ROWS), member=True
    ),
    Field(
        "eval_limit",
        0,
        "number of rows of each task that are evaluated, the first ones; 0 = all",
        between=(0, MOST_ROWS),
    ),
    # With less, rates overflow.
    Field(
        "temperature",
        1.0,
        "temperature of a mixture: rate = min(rows, cap) ** (1 / temperature)",
        between=(0.1, 1_000_000),
    ),
    Field("cap", 0, "most rows of a task that count for its rate in a mixture; 0 = all", between=(0, MOST_ROWS)),
    Field("counterpart", False, "whether the generated world replaces a data set that data.dir lacks"),
    Field(
        "metric",
        "",
        'metric that selects the best prompt; "" = the default of the data set',
        choices=metric_names.NAMES,
        registered=True,
    ),
)

MESH = Section(
    "mesh",
    "How devices are used; see docs/sharding.md.",
    Field(
        "data",
        -1,
        "devices that split the batch; -1 = all that remain",
        also=(-1,),
        between=(1, MOST_DEVICES),
        resume=True,
    ),
    Field(
        "fsdp", 1, "devices that split the batch and one copy of the weights", between=(1, MOST_DEVICES), resume=True
    ),
    Field(
        "model",
        1,
        "devices that split the products with one copy of the weights",
        between=(1, MOST_DEVICES),
        resume=True,
    ),
    Field(
        "slices",
        -1,
        "TPU slices that mesh.data spans; -1 = as the devices report",
        also=(-1,),
        between=(1, MOST_DEVICES),
        resume=True,
    ),
    Field("coordinator", "", 'address of process 0 as host:port, of a run on several hosts; "" = none', resume=True),
    Field(
        "processes",
        -1,
        "number of processes; -1 = as SLURM or Cloud TPU starts them, else one",
        also=(-1,),
        between=(1, MOST_DEVICES),
        resume=True,
    ),
    Field(
        "process",
        -1,
        "number of this process, from 0; -1 = as SLURM or Cloud TPU numbers it",
        also=(-1,),
        between=(0, MOST_DEVICES - 1),
        resume=True,
    ),
    Field("wait", 300, "most seconds to wait at the start for the other processes", between=(1, 86_400), resume=True),
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
    Field(
        "max_length", 32, "most tokens that are generated for tasks without answer choices", between=(1, MOST_TOKENS)
    ),
)
