"""Whole training jobs: options in, a finished run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppcls.arch.pretrained import default_pretrained_path, load_pretrained, missing_weights_message
from ppcls.arch.reid_net import ReIDNet, build_net
from ppcls.configs.algo import load_algo
from ppcls.configs.schema import FinetuneOptions, ImageOptions, IncrementalOptions, InversionOptions, TrainOptions
from ppcls.data.dataset import ReIDData, open_dataset, train_labels
from ppcls.data.dreamed import open_dreamed
from ppcls.data.loader import ImageCache, PairedStreams, TrainLoader
from ppcls.data.sample import Sample
from ppcls.data.transform import TrainTransform
from ppcls.engine.checkpoint import CHECKPOINT, find_checkpoint, load_stored
from ppcls.engine.device import select_device
from ppcls.engine.distributed import join_group
from ppcls.engine.evaluator import evaluate, require_matches
from ppcls.engine.hooks import CheckpointHook, EvaluateHook, LogHook, ProfileHook, VisualDLHook
from ppcls.engine.run_folder import STATE, RunFolder, draw_seed
from ppcls.engine.trainer import Hook, Trainer
from ppcls.method import Method, Supervised, build_method, streams_of
from ppcls.optimizer import build_optimizer, warmup_multistep
from ppcls.retrieval.extractor import FeatureExtractor
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest, digest_file
from ppcls.utils.logger import bold, get_logger
from ppcls.utils.seeding import numpy_legacy_rng
from ppcls.utils.tuning import apply_cpu_tuning


def train(options: TrainOptions) -> RunFolder:
    """Task 1: a network from ImageNet weights (or from scratch) on one data set."""
    job = _Job(options.model_copy())
    options = job.options
    data = job.open_data()
    net = build_net(
        depth=options.depth,
        num_classes=data.num_train_ids,
        last_stride=options.last_stride,
        pooling=options.last_pooling,
        neck_bias=options.neck_bias,
        variant=options.variant,
        classifier=options.classifier,
        seed=options.seed,
    )
    note = "" if job.resuming else start_weights(net, options, data)
    streams = {"new": job.stream("new", data.train)}
    return job.run(Supervised(net, options.peers), data, streams, _arch(options), note)


def finetune(options: FinetuneOptions) -> RunFolder:
    """The lower bound: go on from a previous network with new data alone."""
    job = _Job(options.model_copy())
    options = job.options
    data = job.open_data()
    net, _, arch = _grown(options, data)
    return job.run(Supervised(net, options.peers), data, {"new": job.stream("new", data.train)}, arch)


def increment(options: IncrementalOptions, allowed: tuple[str, ...] | None = None) -> RunFolder:
    """Learn a new data set and keep the old knowledge by the algorithm of ``options.algo_config``.

    Args:
        allowed: the method names that the calling command runs; None for all.

    Raises:
        UserError: a configuration this command does not run (the message names the one that does), too few ids or
            dreamed images, a dreamed id that the previous network does not have.
    """
    algo = load_algo(options.algo_config, options.algo)
    if allowed is not None and algo.method_name not in allowed:
        raise UserError(
            f"--algo-config {options.algo_config} selects the method '{algo.method_name}', which this command does not "
            "run; use tools/main_incremental.py"
        )
    job = _Job(options.model_copy())
    options = job.options
    data = job.open_data()
    net, previous, arch = _grown(options, data)
    streams = {"new": job.stream("new", data.train)}
    if "dreamed" in streams_of(algo):
        streams["dreamed"] = job.stream("dreamed", _dreamed(options, previous), labels=None)
    note = ""
    if algo.distillation.cross_factor is not None and options.peers == 1:
        note = "augmented distillation with one view has nothing to cross; give --peers 2 for what the paper does"
    return job.run(build_method(net, previous.freeze(), algo, options.peers), data, streams, arch, note)


class _Job:
    """What every training command does around its own network and method."""

    def __init__(self, options: TrainOptions) -> None:
        self.device = select_device(options.gpu)
        self.group = join_group()
        self.options = options
        self.folder = RunFolder(options.logs_dir)
        self._source: RunFolder | None = None
        self.resuming = self._find_run() if options.resume else False
        self._choose_seed()
        self._cache = ImageCache(options.cache_mb * 2**20) if options.preload else None

    def open_data(self) -> ReIDData:
        """The new data set; its test part only if it will be evaluated."""
        splits = ("train", "query", "gallery") if self.options.evaluate else ("train",)
        data = open_dataset(self.options.dataset, self.options.data_root, splits)
        if self.options.evaluate:
            require_matches(data)
        return data

    def stream(self, name: str, samples: list[Sample], labels: Mapping[int, int] | None = None) -> TrainLoader:
        """P×K batches of ``samples``; dreamed ids are labels already."""
        options = self.options
        own = {sample.pid: sample.pid for sample in samples} if name == "dreamed" else train_labels(samples)
        return TrainLoader(
            samples,
            labels or own,
            TrainTransform(options.height, options.width, options.re, options.re_area, options.padding),
            options.batch_size,
            options.instances,
            views=options.peers,
            seed=options.seed,
            workers=options.workers,
            cache=self._cache,
            rank=self.group.rank,
            world_size=self.group.world_size,
            name=name,
        )

    def run(
        self,
        method: Method,
        data: ReIDData,
        streams: dict[str, TrainLoader],
        arch: Mapping[str, Any],
        note: str = "",
    ) -> RunFolder:
        """Train to the end, or from where a stopped run was; ``note`` is logged first."""
        options, inputs = self.options, self._inputs(streams)
        trainer = Trainer(
            method,
            PairedStreams(("new", streams.pop("new")), streams),
            build_optimizer(method.parameter_groups(), options.optimizer, options.learning_rate, options.weight_decay),
            lambda epoch: warmup_multistep(epoch, options.learning_rate, options.warmup, options.epochs_decay),
            options.epochs,
            self._hooks(data, arch) if self.group.is_main else (),
            self._mixed_precision(),
            self.group,
        )
        if self.group.is_main:
            self._open_folder(inputs)
        self.group.wait()
        try:
            if self.resuming:
                self._restore(trainer)
            if note:
                get_logger().info("%s", note)
            get_logger().info("%s", data.banner())
            trainer.train()
        finally:
            self.folder.close()
        return self.folder

    def _find_run(self) -> bool:
        """Whether there is a run to go on with; ``--resume`` in an empty folder starts one (safe to type always)."""
        if self.options.resume == "auto":
            return self.folder.has_state
        source = Path(self.options.resume)
        if source.name in (STATE, CHECKPOINT):
            source = source.parent
        run = RunFolder(source)
        if not run.has_state:
            raise UserError(f"--resume {self.options.resume}: no run folder with a {STATE} to go on from")
        self._source = None if source.resolve() == self.folder.path.resolve() else run
        return True

    def _choose_seed(self) -> None:
        """Rank 0 decides; a continued run keeps its own."""
        if self.options.seed is None:
            run = self._source or self.folder
            stored = run.stored_options().get("seed") if self.resuming else None
            self.options.seed = self.group.broadcast_int(draw_seed() if stored is None else stored)

    def _inputs(self, streams: Mapping[str, TrainLoader]) -> dict[str, str]:
        """Digests of what the run reads, so that it is not continued with something else."""
        names = {
            name: digest("\n".join(Path(sample.path).name for sample in loader.samples).encode())
            for name, loader in streams.items()
        }
        previous = getattr(self.options, "previous", None)
        return {**names, **({"previous": digest_file(find_checkpoint(previous))} if previous else {})}

    def _open_folder(self, inputs: Mapping[str, str]) -> None:
        options = self.options.model_dump()
        if self._source:
            self._source.check(options, inputs)
            self.folder.take_over(self._source)
        if self.resuming:
            self.folder.go_on(options, inputs)
        else:
            self.folder.start(options, inputs)
        logger = get_logger()
        logger.info("%s", apply_cpu_tuning())
        logger.info("%s", " ".join(f"{key}={value}" for key, value in options.items()))
        logger.info("seed %d, device %s, run folder %s", self.options.seed, self.device, self.folder.path)

    def _restore(self, trainer: Trainer) -> None:
        state = self.folder.load_state()
        trainer.load_state_dict(state, str(self.folder.path))
        if self.group.is_main:
            self.folder.forget_after(trainer.epoch, trainer.iteration)
        get_logger().info("resumed at epoch %d, iteration %d", trainer.epoch, trainer.iteration)

    def _hooks(self, data: ReIDData, arch: Mapping[str, Any]) -> list[Hook]:
        options, folder = self.options, self.folder
        hooks: list[Hook] = [
            LogHook(folder, options.print_freq),
            CheckpointHook(folder, arch, options.save_freq, options.save_minutes),
        ]
        if options.evaluate:
            hooks.append(EvaluateHook(folder, options.evaluate, lambda net: self._evaluate(net, data)))
        if options.profile:
            hooks.append(ProfileHook(folder, options.profile))
        return [*hooks, VisualDLHook(folder)]

    def _evaluate(self, net: ReIDNet, data: ReIDData) -> list[dict[str, Any]]:
        extractor = FeatureExtractor(net, self.options.height, self.options.width, workers=self.options.workers)
        return [result.as_dict() for result in evaluate(extractor, data)]

    def _mixed_precision(self) -> str:
        if self.options.amp != "off" and self.device == "cpu":
            get_logger().warning("--amp %s has no effect on a CPU: training in float32", self.options.amp)
            return "off"
        return self.options.amp


def start_weights(net: ReIDNet, options: TrainOptions, data: ReIDData) -> str:
    """ImageNet weights as asked for; a random start only if that was asked for, or on synthetic data. Returns a note.

    Raises:
        UserError: no weights file and no ``--pretrained none``.
    """
    if options.pretrained == "none":
        return "random initialisation, as --pretrained none asks for"
    path = options.pretrained or default_pretrained_path(options.depth, options.variant)
    if path:
        return str(load_pretrained(net, path))
    advice = missing_weights_message(options.depth, options.variant)
    if not all((folder / "lite.json").is_file() for folder in {Path(image.path).parents[1] for image in data.train}):
        raise UserError(advice)
    return bold(f"{advice}. Synthetic data: going on from random weights")


def _arch(options: TrainOptions) -> dict[str, Any]:
    return {
        "depth": options.depth,
        "last_stride": options.last_stride,
        "pooling": options.last_pooling,
        "neck_bias": options.neck_bias,
        "variant": options.variant,
        "classifier": options.classifier,
        "height": options.height,
        "width": options.width,
    }


def _grown(options: FinetuneOptions, data: ReIDData) -> tuple[ReIDNet, ReIDNet, dict[str, Any]]:
    """(student with the new classes in front, previous network, architecture)."""
    loaded = load_stored(options.previous, options)
    inherit(options, loaded.arch)
    previous = loaded.net
    if not previous.num_classes:
        raise UserError(f"{loaded.path} has no classifier; --previous must be a training run's checkpoint")
    net = previous.copy()
    net.expand(data.num_train_ids, numpy_legacy_rng(options.seed, "expand", previous.num_classes))
    return net, previous, {**loaded.arch, "height": options.height, "width": options.width}


def inherit(options: ImageOptions | InversionOptions, arch: Mapping[str, Any]) -> None:
    """Resolve what was not typed: the network is the checkpoint's, and so is the input size."""
    for key, value in arch.items():
        name = {"pooling": "last_pooling"}.get(key, key)
        if name in ("height", "width") and (name in options.model_fields_set or not value):
            continue
        setattr(options, name, value)


def _dreamed(options: IncrementalOptions, previous: ReIDNet) -> list[Sample]:
    samples = open_dreamed(options.inversion_dir, options.exemplars)
    unknown = [sample for sample in samples if sample.pid >= previous.num_classes]
    if unknown:
        raise UserError(
            f"{unknown[0].path}: id {unknown[0].pid}, but --previous knows {previous.num_classes} ids; "
            "these images were dreamed by another network"
        )
    return samples
