"""Every option of every command: names, defaults, limits. Defaults are those of the published AGD reference."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from ppcls.configs.options import Options, option

DEPTHS = {18: 512, 34: 512, 50: 2048, 101: 2048, 152: 2048}
Variant = Literal["plain", "ibn_a", "ibn_b", "ibn_b_all", "se", "se_ibn_a", "se_ibn_b", "se_ibn_b_all", "cbam"]

_DATA, _NET, _OPTIM, _RUN = "data", "network", "optimisation", "run"


class ImageOptions(Options):
    """Picture size and how images are read."""

    data_root: str = option("data", "--data-root", help="folder that holds the data sets", group=_DATA)
    height: int = option(256, "--height", help="input height in pixels", group=_DATA, ge=16)
    width: int = option(128, "--width", help="input width in pixels", group=_DATA, ge=8)
    workers: int = option(
        2, "--workers", "-j", help="decoding threads; 0 decodes in the main thread", group=_DATA, ge=0
    )
    preload: bool = option(True, "--preload", help="keep decoded images in a bounded cache", group=_DATA)
    cache_mb: int = option(2048, "--cache-mb", help="memory limit of that cache in MiB", group=_DATA, ge=1)


class NetOptions(Options):
    """Which network."""

    depth: int = option(50, "--depth", help="ResNet depth: 18, 34, 50, 101 or 152", group=_NET)
    embedding: int | None = option(
        None,
        "-e",
        "--embedding",
        help="embedding size; follows the depth (512 for 18/34, 2048 for the others)",
        group=_NET,
    )
    last_pooling: Literal["avg", "max"] = option(
        "avg", "-lp", "--last-pooling", help="global pooling after the last stage", group=_NET
    )
    last_stride: Literal[1, 2] = option(2, "-ls", "--last-stride", help="stride of the last stage", group=_NET)
    variant: Variant = option("plain", "--variant", help="kind of residual block", group=_NET)
    classifier: Literal["linear", "sphere", "arc", "nonorm_arc"] = option(
        "linear", "--classifier", help="Sphere, Arc and NoNormArc as in the reference", group=_NET
    )
    neck_bias: Literal["train", "frozen"] = option(
        "train",
        "--neck-bias",
        help="train the BNNeck's bias, as the PyTorch reference does, or freeze it",
        group=_NET,
    )
    pretrained: str | None = option(
        None,
        "--pretrained",
        help="ImageNet weights (.pdparams, .pth, .safetensors), or 'none' for a random start; "
        "without the flag the known file names are looked for in checkpoints/",
        group=_NET,
    )

    @field_validator("last_stride", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @model_validator(mode="after")
    def _embedding_fits_depth(self) -> NetOptions:
        check_depth(self.depth, self.embedding)
        return self


class StoredNetOptions(NetOptions):
    """A network that comes from a checkpoint: what is not given is read there."""

    depth: int | None = option(None, "--depth", help="ResNet depth; read from the checkpoint", group=_NET)
    last_pooling: Literal["avg", "max"] | None = option(
        None, "-lp", "--last-pooling", help="global pooling; the training run's, else avg", group=_NET
    )
    last_stride: Literal[1, 2] | None = option(
        None, "-ls", "--last-stride", help="stride of the last stage; the training run's, else 2", group=_NET
    )
    variant: Variant | None = option(
        None, "--variant", help="kind of residual block; the training run's, else plain", group=_NET
    )
    neck_bias: Literal["train", "frozen"] | None = option(
        None, "--neck-bias", help="from now on train or freeze the BNNeck's bias; the training run's choice", group=_NET
    )
    classifier: Literal["linear", "sphere", "arc", "nonorm_arc"] | None = option(
        None, "--classifier", help="kind of classifier; the training run's, else linear", group=_NET
    )
    pretrained: str | None = option(
        None, "--pretrained", help="accepted by every command; here the checkpoint gives all weights", group=_NET
    )


class OptimOptions(Options):
    """Optimiser and learning-rate schedule."""

    batch_size: int = option(128, "-b", "--batch-size", help="images in a batch", group=_OPTIM, ge=2)
    instances: int = option(4, "--instances", help="images per id in a batch (K of P×K)", group=_OPTIM, ge=2)
    epochs: int = option(90, "--epochs", "--epoch", help="epochs to train", group=_OPTIM, ge=1)
    epochs_decay: list[int] = option([61], "--epochs-decay", help="first epochs at a 10× smaller rate", group=_OPTIM)
    warmup: int = option(10, "--warmup", help="epochs of linear warm-up", group=_OPTIM, ge=0)
    optimizer: Literal["SGD", "Adam"] = option(
        "SGD", "--optimizer", help="SGD is Nesterov's, momentum 0.9", group=_OPTIM
    )
    learning_rate: float = option(
        0.01,
        "--learning-rate",
        "--lr",
        help="base rate; neck and classifier train at 10×",
        group=_OPTIM,
        gt=0,
    )
    weight_decay: float = option(5e-4, "--weight-decay", help="L2 on every parameter (SGD)", group=_OPTIM, ge=0)
    padding: int = option(
        10, "--padding", help="zeros around an image before the random crop; 10 suits 256×128", group=_OPTIM, ge=0
    )
    re: float = option(0.5, "--re", help="probability of random erasing", group=_OPTIM, ge=0, le=1)
    re_area: float = option(0.4, "--re-area", help="largest erased share of the image", group=_OPTIM, gt=0.02, le=1)
    peers: int = option(1, "--peers", help="independently augmented views of each image", group=_OPTIM, ge=1)
    amp: Literal["off", "O1", "O2"] = option("off", "--amp", help="mixed precision on a GPU", group=_OPTIM)

    @field_validator("amp", mode="before")
    @classmethod
    def _yaml_off(cls, value: Any) -> Any:
        return "off" if value is False else value  # what YAML makes of the word

    @model_validator(mode="after")
    def _schedule(self) -> OptimOptions:
        if self.epochs_decay != sorted(set(self.epochs_decay)):
            raise ValueError(f"--epochs-decay {self.epochs_decay}: give rising epochs")
        if self.epochs_decay and self.epochs_decay[0] <= self.warmup:
            raise ValueError(
                f"--epochs-decay {self.epochs_decay[0]} must come after the {self.warmup} epochs of --warmup"
            )
        if self.batch_size % self.instances:
            raise ValueError(f"--batch-size {self.batch_size} is not a multiple of --instances {self.instances}")
        return self


class RunOptions(Options):
    """Device, seed, where a run is kept."""

    gpu: list[str] = option(["0"], "-g", "--gpu", help="GPU number; without a GPU the CPU is used", group=_RUN)
    seed: int | None = option(
        None, "-s", "--seed", help="makes the run repeatable; drawn and logged if absent", group=_RUN, ge=0
    )
    logs_dir: str = option("logs", "--logs-dir", help="run folder", group=_RUN)
    resume: str = option(
        "",
        "--resume",
        help="go on with a stopped run: of --logs-dir, or of the folder given",
        group=_RUN,
        const="auto",
    )
    evaluate: int = option(10, "--evaluate", help="evaluate every N epochs; 0 never", group=_RUN, ge=0)
    save_freq: int = option(1000, "--save-freq", help="keep checkpoint-epochN every N epochs", group=_RUN, ge=1)
    save_minutes: float = option(
        10, "--save-minutes", help="write the resume state inside an epoch so often; 0 never", group=_RUN, ge=0
    )
    print_freq: int = option(1, "--print-freq", help="log every N iterations", group=_RUN, ge=1)
    profile: int = option(
        0, "--profile", help="write a chrome trace of N iterations to the run folder", group=_RUN, ge=0
    )


class TrainOptions(ImageOptions, NetOptions, OptimOptions, RunOptions):
    """``tools/main.py``: task 1."""

    dataset: str = option(
        "msmt17", "--dataset", help="market, duke, msmt17, cuhk03, folder:PATH, csv:PATH, or a+b", group=_DATA
    )


class FinetuneOptions(StoredNetOptions, TrainOptions):
    """``tools/main_finetune.py``: the lower bound, training on new data alone."""

    dataset: str = option("market", "--dataset", help="the new data set (as tools/main.py)", group=_DATA)
    batch_size: int = option(64, "-b", "--batch-size", help="images in a batch of each kind", group=_OPTIM, ge=2)
    epochs: int = option(80, "--epochs", "--epoch", help="epochs to train", group=_OPTIM, ge=1)
    epochs_decay: list[int] = option([41], "--epochs-decay", help="first epochs at a 10× smaller rate", group=_OPTIM)
    warmup: int = option(0, "--warmup", help="epochs of linear warm-up", group=_OPTIM, ge=0)
    save_freq: int = option(100, "--save-freq", help="keep checkpoint-epochN every N epochs", group=_RUN, ge=1)
    previous: str = option(
        "logs/r50/baselines/msmt17",
        "--previous",
        help="run folder or checkpoint of the previous task",
        group="previous task",
    )


class IncrementalOptions(FinetuneOptions):
    """``tools/main_incremental.py``: learn new data, keep the old with dreamed images."""

    inversion_dir: str = option(
        "data/generations_r50_msmt17",
        "--inversion-dir",
        help="folder of dreamed images",
        group="previous task",
    )
    exemplars: int = option(40, "--exemplars", help="dreamed images per old id", group="previous task", ge=1)
    algo_config: str = option(
        "",
        "--algo-config",
        help="algorithm: a YAML file, or the name of one in ppcls/configs",
        group="previous task",
    )
    algo: dict[str, Any] | None = option(
        None,
        "--algo",
        help="keys that override the algorithm's file (use -o algo.distillation.factor=4)",
        group="previous task",
    )


class AugmentedOptions(IncrementalOptions):
    """``tools/main_incrementalX.py``: augmented distillation over several views."""

    peers: int = option(2, "--peers", help="independently augmented views of each image", group=_OPTIM, ge=1)
    algo_config: str = option(
        "inverXion",
        "--algo-config",
        help="algorithm: a YAML file, or the name of one in ppcls/configs",
        group="previous task",
    )


class InversionOptions(StoredNetOptions):
    """``tools/inversion.py``: DeepInversion."""

    gpu: list[str] = option(["0"], "-g", "--gpu", help="GPU number; without a GPU the CPU is used", group=_RUN)
    seed: int = option(0, "-s", "--seed", help="the same seed gives the same images", group=_RUN)
    teacher: str = option(
        "logs/r34/baselines/msmt17",
        "--teacher",
        help="run folder or checkpoint to dream of",
        group="what to dream",
    )
    student: str | None = option(
        None, "--student", help="second checkpoint, for adaptive inversion", group="what to dream"
    )
    generation_dir: str = option("generations", "--generation-dir", help="where the images go", group="what to dream")
    shots: int = option(10, "--shots", help="images per id", group="what to dream", ge=1)
    iters: int | None = option(
        None,
        "--iters",
        help="at most so many batches; as many as --shots needs if absent",
        group="what to dream",
        ge=1,
    )
    bs: int = option(64, "--bs", help="images optimised together", group="what to dream", ge=1)
    height: int = option(256, "--height", help="image height in pixels", group="what to dream", ge=16)
    width: int = option(128, "--width", help="image width in pixels", group="what to dream", ge=8)
    resume: str | None = option(
        None,
        "--resume",
        help="folder to go on with; images already in it count towards --shots, whoever made them",
        group="what to dream",
    )
    num_shards: int = option(1, "--num-shards", help="split the work into so many parts", group=_RUN, ge=1)
    shard: int = option(0, "--shard", help="which part this process does, from 0", group=_RUN, ge=0)
    save_minutes: float = option(
        10, "--save-minutes", help="keep the state of an unfinished batch so often; 0 never", group=_RUN, ge=0
    )
    steps: tuple[int, int] = option(
        (2000, 1000), "--steps", help="optimisation steps at half and at full resolution", group=_OPTIM
    )
    lr: float = option(0.2, "--lr", help="Adam's rate", group=_OPTIM, gt=0)
    r_feature: float = option(
        0.01, "--r_feature", "--r-feature", help="weight of the batch-norm statistics", group=_OPTIM, ge=0
    )
    first_bn_multiplier: float = option(
        10.0,
        "--first_bn_multiplier",
        "--first-bn-multiplier",
        help="extra weight of the first layer",
        group=_OPTIM,
        ge=0,
    )
    tv_l1: float = option(0.0, "--tv_l1", "--tv-l1", help="weight of the L1 total variation", group=_OPTIM, ge=0)
    tv_l2: float = option(1e-4, "--tv_l2", "--tv-l2", help="weight of the L2 total variation", group=_OPTIM, ge=0)
    l2: float = option(1e-5, "--l2", help="weight of the image's L2 norm", group=_OPTIM, ge=0)
    main_loss_multiplier: float = option(
        1.0,
        "--main_loss_multiplier",
        "--main-loss-multiplier",
        help="weight of the cross-entropy",
        group=_OPTIM,
        ge=0,
    )
    adi_scale: float = option(
        0.0, "--adi_scale", "--adi-scale", help="weight of the student's disagreement", group=_OPTIM, ge=0
    )
    warmup: int | None = option(
        None,
        "--warmup",
        help="steps of linear warm-up of each phase; a tenth, at most 100, if absent",
        group=_OPTIM,
        ge=0,
    )
    jpeg_quality: int = option(75, "--jpeg-quality", help="of the saved images", group="what to dream", ge=1, le=95)
    verifier: str | None = option(
        None,
        "--verifier",
        help="checkpoint whose accuracy on the images is reported besides the teacher's",
        group="what to dream",
    )

    @field_validator("steps")
    @classmethod
    def _some_steps(cls, steps: tuple[int, int]) -> tuple[int, int]:
        if steps[0] < 0 or steps[1] < 1:
            raise ValueError("give N1 ≥ 0 steps at half and N2 ≥ 1 steps at full resolution")
        return steps

    @model_validator(mode="after")
    def _consistent(self) -> InversionOptions:
        if self.shard >= self.num_shards:
            raise ValueError(f"--shard {self.shard} must be below --num-shards {self.num_shards}")
        if (self.student is None) != (self.adi_scale == 0):
            raise ValueError("--student and --adi_scale go together: give both or none")
        return self


def check_depth(depth: int | None, embedding: int | None) -> None:
    """Raise ``ValueError`` with the right value where depth or embedding size is impossible."""
    if depth is None:
        return
    if depth not in DEPTHS:
        raise ValueError(f"--depth {depth}: choose one of {', '.join(map(str, DEPTHS))}")
    if embedding is not None and embedding != DEPTHS[depth]:
        raise ValueError(f"--embedding {embedding} contradicts --depth {depth}, whose embedding is {DEPTHS[depth]}")
