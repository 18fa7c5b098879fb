"""The config fields of a recipe: the prompt, its loss, its training and its fleet, RoSPr, and pretraining.

Each field is declared once, as `Field(name, default, meaning, ...)`; `fields.py` says what the rest means.
"""

from __future__ import annotations

from infoprompt_jax import estimator_names
from infoprompt_jax.fields import (
    MOST_BATCH,
    MOST_RATE,
    MOST_ROWS,
    MOST_SEED,
    MOST_STEPS,
    MOST_TEXT,
    MOST_TOKENS,
    MOST_WEIGHT,
    MOST_WIDTH,
    Field,
    Section,
)

PROMPT = Section(
    "prompt",
    "The soft prompt, which is trained.",
    Field(
        "length", 100, "length P, in tokens; 0 with job=evaluate evaluates the backbone alone", between=(0, MOST_TOKENS)
    ),
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
    Field("text", "", "words that init=text starts from", longest=MOST_TEXT),
    Field(
        "top_k",
        5000,
        "number of the first pieces that init=vocabulary and labels sample from, and infoprompt.vocabulary_negatives",
        between=(1, MOST_ROWS),
    ),
    Field("bottleneck", 32, "width of the generator of kind=instance", between=(1, MOST_WIDTH)),
)

INFOPROMPT = Section(
    "infoprompt",
    "The mutual-information terms, off by default; docs/infoprompt.md has the formulas and the evidence.",
    Field(
        "gamma",
        0.0,
        "weight of the head term, I(prompt; head); the released code has 0.1",
        between=(0, MOST_WEIGHT),
        member=True,
    ),
    Field(
        "beta",
        0.0,
        "weight of the representation term, I(prompt; encoded representation); the released code has 0.2",
        between=(0, MOST_WEIGHT),
        member=True,
    ),
    Field("kappa", 0.1, "weight of the KL term of the variational bottleneck", between=(0, MOST_WEIGHT), member=True),
    Field("decay", 0.0, "linear decay of the terms' weights, by 1 - decay * step / steps", between=(0, 1), member=True),
    Field(
        "estimator",
        "infonce",
        "estimator of mutual information",
        choices=estimator_names.NAMES,
        registered=True,
        member=True,
    ),
    Field("smile_tau", 5.0, "clipping threshold of estimator=smile", between=(0, MOST_WEIGHT)),
    Field(
        "head",
        "released_code",
        "pairs of the head term: the prompt and all label words (released_code); the prompt and the row's answer "
        "(answer); the prompted representation and the row's answer (conditional)",
        choices=("released_code", "answer", "conditional"),
    ),
    Field(
        "head_steps",
        0,
        "number of steps on the head term alone, before training: they find the prompt's start",
        between=(0, MOST_STEPS),
        member=True,
    ),
    Field(
        "vocabulary_negatives",
        64,
        "number of pieces, sampled with replacement, whose head rows are negatives of head=answer and conditional",
        between=(0, MOST_ROWS),
    ),
    Field(
        "critic",
        "auto",
        "map from head rows to embeddings in the head term: none (dot) or trained (bilinear); auto = dot if embeddings "
        "are tied, or if head=conditional reads the decoder",
        choices=("auto", "dot", "bilinear"),
    ),
    Field(
        "score",
        "product",
        "how critics score two vectors: product / sqrt(D) as the released code, or free of their scale",
        choices=("product", "cosine", "layer_norm"),
    ),
    Field(
        "temperature",
        0.5,
        "divisor of the scores of score=cosine and layer_norm; at 0.1, some terms saturate",
        between=(0.01, MOST_WEIGHT),
        member=True,
    ),
    Field("learn_temperature", False, "whether each term trains a factor of its temperature"),
    Field(
        "representation",
        "decoder",
        "representation Z: the decoder's final state at position 0, or the mean of the encoder's states",
        choices=("decoder", "mean_encoder"),
    ),
    Field(
        "negatives",
        "posterior",
        "negatives of the representation term: noise around the row without a prompt (posterior), the rows without "
        "one, the batch's other rows, those with other answers (labels), or other prompts (shuffled)",
        choices=("posterior", "unprompted", "in_batch", "labels", "shuffled"),
    ),
    Field(
        "negatives_per_example",
        0,
        "number K of negatives=posterior, and of shuffled static prompts; 0 = 4 * batch size",
        between=(0, MOST_BATCH),
    ),
    Field(
        "noise",
        "absolute",
        "unit of noise_scale: 1, or the deviation of the features without a prompt over the task's rows (relative)",
        choices=("absolute", "relative"),
    ),
    Field(
        "noise_scale",
        1.0,
        "standard deviation of the posterior's noise, unless infoprompt.variational",
        between=(0, MOST_WEIGHT),
    ),
    Field("variational", False, "whether a trained Gaussian bottleneck replaces the fixed noise"),
    Field("latent", 32, "width of the variational bottleneck", between=(1, MOST_WIDTH)),
    Field(
        "placebo",
        False,
        "whether the terms' gradients are turned to other coordinates of the prompt: a control of the same size",
    ),
    Field("cache_features", True, "whether features without a prompt are computed once per example, not in every step"),
)

TRAIN = Section(
    "train",
    "The recipe.",
    Field("steps", 2000, "number of optimiser steps", between=(1, MOST_STEPS), grows=True),
    Field("batch_size", 32, "rows per member and step, over all devices", between=(1, MOST_BATCH)),
    Field("accumulate", 1, "micro-batches per step; target tokens count as in one batch", between=(1, MOST_BATCH)),
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
    Field("learning_rate", 0.3, "learning rate of the prompt", between=(0, MOST_RATE), member=True),
    Field(
        "critic_learning_rate",
        1e-3,
        "AdamW's learning rate for critics, generator, verbalizer and bottleneck",
        between=(0, MOST_RATE),
        member=True,
    ),
    Field(
        "schedule",
        "constant",
        "schedule of both learning rates; linear and cosine reach zero right after the last step",
        choices=("constant", "linear", "cosine"),
        member=True,
    ),
    Field("warmup", 0.0, "share of the steps that warm up the learning rates", between=(0, 1), member=True),
    Field(
        "weight_decay",
        1e-5,
        "decay per step (Adafactor) or times the learning rate (AdamW); none on critics",
        between=(0, 1),
    ),
    Field("clip_norm", 1.0, "largest global norm of a member's gradients; 0 = no clipping", between=(0, MOST_WEIGHT)),
    Field("clip_apart", False, "whether the gradients of the information terms' critics are clipped by themselves"),
    Field("eval_every", 200, "steps between evaluations; 0 = only at the end", between=(0, MOST_STEPS)),
    Field(
        "eval_batch_size",
        64,
        "rows per member in an evaluation batch, over all devices",
        between=(1, MOST_BATCH),
        resume=True,
    ),
    Field("log_every", 10, "steps between records in the log; 0 = never", between=(0, MOST_STEPS), resume=True),
    Field(
        "save_every",
        100,
        "steps between checkpoints; 0 = only at the end or a stop",
        between=(0, MOST_STEPS),
        resume=True,
    ),
    Field(
        "patience", 0, "evaluations without improvement after which a member stops; 0 = never", between=(0, MOST_STEPS)
    ),
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
    Field(
        "seeds",
        (),
        "seeds, with one member for each; () = the run's seed",
        between=(0, MOST_SEED),
        distinct=True,
        of=int,
    ),
    Field(
        "presets",
        ("run",),
        "sets of InfoPrompt's terms that are on, paired by seed; run = the terms of the config",
        choices=("run", "both", "plain", "head", "representation"),
        of=str,
        distinct=True,
    ),
    Field(
        "at_once",
        0,
        "number of members whose activations are in memory together; 0 = as many as a quarter of it holds",
        between=(0, MOST_BATCH),
        resume=True,
    ),
    Field(
        "over",
        "auto",
        "what the devices share out: rows of each batch, whole members, or auto = members where they divide evenly",
        choices=("auto", "rows", "members"),
        resume=True,
    ),
    Field("members", (), 'members as dicts of their fields: `{"name": "a", "task.name": "glue/sst2"}`', of=dict),
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
    Field(
        "instances",
        100,
        "number n of a source prompt's training instances whose encodings are its keys",
        between=(1, MOST_ROWS),
    ),
    Field(
        "group",
        64,
        "number of source prompts that are trained as one fleet",
        between=(1, MOST_BATCH),
    ),
    Field("library", "", "directory of the library to evaluate: `<workdir>/library` of job=rospr_sources", resume=True),
    Field(
        "methods",
        ("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle"),
        "methods to compare",
        choices=("none", "rospr", "inter", "var", "inter_var", "per_query", "oracle"),
        of=str,
        distinct=True,
    ),
    Field("queries", 32, "number Q of unlabelled instances of the evaluation task that vote", between=(1, MOST_ROWS)),
    Field("query_split", "", 'split that the queries come from; "" = task.eval_split'),
    Field(
        "top", 10, "number N of nearest keys of a query; all, if fewer belong to other tasks", between=(1, MOST_ROWS)
    ),
    Field(
        "interpolate", 3, "number N' of candidates that are interpolated or ranked by variance", between=(1, MOST_ROWS)
    ),
    Field("eps", 0.01, "constant added to the variance of answers, in squared fractions", between=(1e-9, MOST_WEIGHT)),
)

PRETRAIN = Section(
    "pretrain",
    "What job=pretrain makes: a T5 v1.1 of these sizes. Steps, batches and rates are those of `train`.",
    Field("denoising_phase", 0.25, "share of the steps, the first ones, with only span corruption", between=(0, 1)),
    Field(
        "denoising_share",
        0.15,
        "share of span corruption in later batches; the other rows are templates'",
        between=(0, 0.9),
    ),
    Field(
        "start_from",
        "",
        'T5 of these sizes whose weights and vocabulary a run starts with, as backbone.name; "" = random weights',
    ),
    Field("corpus", "", 'folder of text and prompted rows to train on; "" = the generated world\'s'),
    Field("lines", 150_000, "number of lines of the generated world's text", between=(1, 10_000_000)),
    Field(
        "minutes",
        0.0,
        "time limit, anew for a resumed run; train.steps becomes what fits into it, by measured speed; 0 = none",
        between=(0, 1_000_000),
    ),
    Field(
        "measurements",
        0,
        "how often the loss and accuracies are measured on the corpus's held-out part",
        between=(0, 1_000_000),
    ),
    Field("cased", False, "whether the vocabulary keeps upper case"),
    # 256 bytes, 3 control tokens and some letters are the least.
    Field(
        "pieces",
        1948,
        "number of vocabulary pieces; with 100 sentinels, the embedding's rows",
        between=(300, 1_000_000),
    ),
    Field("d_model", 128, "width of the model", between=(1, MOST_WIDTH)),
    Field("d_kv", 16, "width of an attention head", between=(1, MOST_WIDTH)),
    Field("num_heads", 8, "number of attention heads", between=(1, 1024)),
    Field("d_ff", 320, "width of the feed-forward layers", between=(1, 4 * MOST_WIDTH)),
    Field("num_layers", 4, "number of the encoder's layers", between=(1, 1024)),
    Field("num_decoder_layers", 2, "number of the decoder's layers", between=(1, 1024)),
    Field("tied", False, "whether the LM head is the embedding matrix"),
    Field("dtype", "float32", "type of the computation and of the result", choices=("float32", "bfloat16")),
)
