"""Every config field, its default and what it means: the reference page of the configuration.

A file in `configs/` starts from `defaults()`, sets what its run is about and returns the config; the command line
overrides single fields (`--config.train.steps=100`). The config is locked: a field that is not listed here is refused,
in a file as on the command line. Lists are tuples, so that they can be given on the command line: `"(0,1,2)"`.
"""

from __future__ import annotations

import ml_collections

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
    config.job = "train"  # train | evaluate
    config.seed = 0  # initialisation, data order, noise; a fleet's members may have their own

    config.backbone = backbone = ml_collections.ConfigDict()
    backbone.name = "google/t5-base-lm-adapt"  # hub id, local directory (Hugging Face or T5X), or "random" (demo)
    backbone.revision = ""  # hub revision; "" = the default branch
    backbone.dtype = "float32"  # float32 | bfloat16, of weights and activations; softmax, norms, logits stay float32
    backbone.takes_eos = "auto"  # auto | yes | no: whether inputs end in </s>; T0 was trained without
    backbone.remat = "dots"  # none | dots | full: what the backward pass recomputes (memory against time)
    backbone.unroll = 1  # layers per scan iteration; larger compiles longer and may run faster
    backbone.dropout = 0.0  # of the frozen model, in training only
    backbone.allow_pickle = False  # read pytorch_model.bin (torch, weights_only) where there are no safetensors

    config.data = data = ml_collections.ConfigDict()
    data.dir = ""  # files <data set>/<split>.{jsonl,csv,parquet}; "" = TFDS
    data.tfds_dir = ""  # where TFDS keeps prepared data sets; "" = its default
    data.cache_dir = ""  # tokenised arrays and cached features; "" = ~/.cache/infoprompt_jax
    data.max_input_length = 512  # tokens; longer inputs are cut at the end (EOS kept) and counted
    data.max_target_length = 128  # tokens, targets and answer choices
    data.buckets = (32, 64, 128, 256, 512, 1024)  # input lengths that a program is compiled for
    data.threads = 2  # of the input pipeline

    config.task = task = ml_collections.ConfigDict()
    task.name = "super_glue/rte"  # data set; several, separated by commas, make a mixture
    task.template = "all"  # a hard prompt's name, or all: a mixture of the data set's own-task prompts
    task.templates_dir = ""  # promptsource-format YAML; "" = the templates shipped with the package
    task.input = ""  # own data: the input as a jinja template over the row's fields (no YAML needed)
    task.target = ""  # own data: the target; usually {{ answer_choices[label] }}
    task.answer_choices = ""  # own data: "No ||| Yes", or a jinja template; "" = free text
    task.train_split = "train"  # slices are allowed: train[:90%], train[100:200]
    task.eval_split = "validation"  # evaluated every train.eval_every; picks the best prompt
    task.test_split = ""  # evaluated once, at the end, with the best prompt; "" = none
    task.shots = 0  # > 0: train on so many examples, drawn by the member's seed
    task.eval_limit = 0  # > 0: evaluate on the first so many rows of each task
    task.temperature = 1.0  # mixtures: rate = min(rows, cap) ** (1 / temperature)
    task.cap = 0  # mixtures: rows of one task that count; 0 = all
    task.metric = ""  # what picks the best prompt; "" = the task's own (accuracy, matthews, ...)

    config.prompt = prompt = ml_collections.ConfigDict()
    prompt.length = 100  # P, in tokens; 0 with job=evaluate is the backbone alone
    prompt.kind = "static"  # static: one free matrix | instance: generated per example (methods: InfoPrompt)
    prompt.init = "vocabulary"  # uniform | vocabulary | labels | text | a path to a saved prompt
    prompt.text = ""  # for init=text
    prompt.top_k = 5000  # init=vocabulary, labels: sampled from the first so many pieces
    prompt.bottleneck = 32  # kind=instance: width of the generator

    config.infoprompt = info = ml_collections.ConfigDict()
    info.gamma = 0.1  # weight of the head loss, I(prompt; head)
    info.beta = 0.2  # weight of the representation loss, I(prompt; encoded representation)
    info.kappa = 0.1  # weight of the KL term, only when variational
    info.decay = 0.0  # the terms' weight falls as 1 - decay * step / steps
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

    config.train = train = ml_collections.ConfigDict()
    train.steps = 2000
    train.batch_size = 32  # per member and step, over all devices
    train.accumulate = 1  # micro-batches a step is computed in
    train.task_loss = "lm"  # lm | choices | verbalizer
    train.optimizer = "adafactor"  # of the prompt: adafactor (T5X's, no parameter scaling) | adamw
    train.learning_rate = 0.3
    train.critic_learning_rate = 1e-3  # AdamW, for critics, verbalizer and bottleneck
    train.schedule = "constant"  # constant | linear | cosine (to zero at the last step)
    train.warmup = 0.0  # share of the steps
    train.weight_decay = 1e-5
    train.clip_norm = 1.0  # global norm over one member's gradients; 0 = off
    train.eval_every = 200  # steps; 0 = only at the end
    train.eval_batch_size = 64
    train.log_every = 10
    train.save_every = 100  # steps; 0 = only at the end (and when told to stop)
    train.patience = 0  # evaluations without improvement before a member stops; 0 = never
    train.tensorboard = False

    config.fleet = fleet = ml_collections.ConfigDict()
    fleet.seeds = ()  # one member per seed; () = the run's seed
    fleet.variants = ("run",)  # run (the config as it is), plain, head, representation, both: paired per seed
    fleet.members = ()  # or: dicts of dotted per-member fields, {"name": "a", "task.name": "glue/sst2"}

    config.mesh = mesh = ml_collections.ConfigDict()
    mesh.data = -1  # devices along the batch; -1 = all that remain
    mesh.model = 1  # devices that share one copy of the weights

    config.scoring = scoring = ml_collections.ConfigDict()
    scoring.normalize = "none"  # none | tokens | characters: how rank classification divides log-probabilities
    scoring.max_length = 32  # tokens generated for tasks without answer choices
    return config.lock()
