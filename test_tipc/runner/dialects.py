"""The known shapes of a configuration file: which line holds what, and how its key may be spelled.

The position of a line is the schema, as everywhere in TIPC; the key names are checked against it. Two dialects are
read: the 32 lines of the reproduction template, with argparse flags as keys, and PaddleClas' 52 lines, with
``-o Global.x``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TEMPLATE, CLAS = "template", "PaddleClas"

_NULL = ("null",)


@dataclass(frozen=True)
class Slot:
    """One line: the name it has in the code, and its accepted keys (none: a separator; a banner's title)."""

    field: str
    keys: tuple[str, ...] = ()

    @property
    def is_separator(self) -> bool:
        return self.field == "##"

    @property
    def is_banner(self) -> bool:
        return self.field == "banner"

    def fits(self, text: str) -> bool:
        """Whether a line may stand here."""
        if self.is_banner:
            return banner_title(text) in self.keys
        if self.is_separator:
            return re.fullmatch("#+", text) is not None
        key, colon, _ = text.partition(":")
        return bool(colon) and key.strip() in self.keys

    def __str__(self) -> str:
        if self.is_banner:
            return f"the banner ====={self.keys[0]}====="
        return "a line of ##" if self.is_separator else " or ".join(f"'{key}:'" for key in self.keys)


def banner_title(text: str) -> str | None:
    """``"====train_params===="`` → ``"train_params"``; None for another line."""
    match = re.fullmatch(r"=+\s*(\w+)\s*=+", text)
    return match[1] if match else None


@dataclass(frozen=True)
class Layout:
    """All lines of one kind of file in one dialect."""

    kind: str
    dialect: str
    slots: tuple[Slot, ...]


def _banner(title: str) -> Slot:
    return Slot("banner", (title,))


def _flag(field: str, *names: str) -> Slot:
    """A flag of the template: dashes and underscores are one, and ``null`` leaves it out."""
    spellings = [f"--{name}" for name in names] + [f"--{name.replace('-', '_')}" for name in names]
    return Slot(field, (*dict.fromkeys(spellings), *_NULL))


def _key(field: str, *names: str) -> Slot:
    """An override of PaddleClas' dialect, with or without its section."""
    return Slot(field, tuple(f"-o {section}{name}" for name in names for section in ("Global.", "")) + _NULL)


_RULE = Slot("##")
_SPARE = Slot("spare", _NULL)
_HEAD = (Slot("model_name", ("model_name",)), Slot("python", ("python",)))

TRAIN_TEMPLATE = Layout(
    "train_params",
    TEMPLATE,
    (
        _banner("train_params"),
        *_HEAD,
        Slot("gpu_list", ("gpu_list",)),
        Slot("device", ("use-gpu", "use_gpu", "--use-gpu", "--use_gpu", *_NULL)),
        _flag("epochs", "epochs", "epoch"),
        _flag("save", "output-dir", "logs-dir"),
        _flag("batch_size", "batch-size"),
        _flag("pretrained", "pretrained"),
        Slot("train_model_name", ("train_model_name",)),
        _flag("data", "data-path", "data-root", "data-dir"),
        _RULE,
        Slot("trainer", ("trainer",)),
        Slot("norm_train", ("norm_train",)),
        _RULE,
        _banner("eval_params"),
        Slot("eval", ("eval",)),
        _RULE,
        _banner("infer_params"),
        _flag("save_inference", "save-inference-dir"),
        _flag("weights", "pretrained", "ckpt"),
        Slot("norm_export", ("norm_export",)),
        _RULE,
        Slot("infer_model", ("train_model",)),
        Slot("infer_export", ("infer_export",)),
        _RULE,
        Slot("inference", ("inference",)),
        _flag("use_gpu", "use-gpu"),
        _flag("infer_batch_size", "batch-size"),
        _flag("model_dir", "model-dir"),
        _flag("images", "img-path", "images", "infer-imgs", "input"),
        _flag("benchmark", "benchmark"),
    ),
)

TRAIN_CLAS = Layout(
    "train_params",
    CLAS,
    (
        _banner("train_params"),
        *_HEAD,
        Slot("gpu_list", ("gpu_list",)),
        _key("device", "device"),
        _key("autocast", "auto_cast", "amp"),
        _key("epochs", "epochs"),
        _key("save", "output_dir", "logs_dir"),
        Slot("batch_size", ("-o DataLoader.Train.sampler.batch_size", "-o batch_size", *_NULL)),
        _key("pretrained", "pretrained_model", "pretrained"),
        Slot("train_model_name", ("train_model_name",)),
        Slot("train_infer_img_dir", ("train_infer_img_dir", *_NULL)),
        _SPARE,
        _RULE,
        Slot("trainer", ("trainer",)),
        Slot("norm_train", ("norm_train",)),
        Slot("pact_train", ("pact_train",)),
        Slot("fpgm_train", ("fpgm_train",)),
        Slot("distill_train", ("distill_train",)),
        Slot("to_static_train", ("to_static_train", *_NULL)),
        _SPARE,
        _RULE,
        _banner("eval_params"),
        Slot("eval", ("eval",)),
        _SPARE,
        _RULE,
        _banner("infer_params"),
        _key("save_inference", "save_inference_dir"),
        _key("weights", "pretrained_model", "ckpt"),
        Slot("norm_export", ("norm_export",)),
        Slot("pact_export", ("quant_export", "pact_export")),
        Slot("fpgm_export", ("fpgm_export",)),
        Slot("distill_export", ("distill_export",)),
        Slot("kl_quant", ("kl_quant", *_NULL)),
        Slot("export2", ("export2", *_NULL)),
        Slot("model_url", ("pretrained_model_url", "inference_model_url", *_NULL)),
        Slot("infer_model", ("infer_model",)),
        Slot("infer_export", ("infer_export",)),
        Slot("infer_quant", ("infer_quant",)),
        Slot("inference", ("inference",)),
        _key("use_gpu", "use_gpu"),
        _key("mkldnn", "enable_mkldnn"),
        _key("threads", "cpu_num_threads", "cpu_threads"),
        _key("infer_batch_size", "batch_size"),
        _key("tensorrt", "use_tensorrt"),
        _key("precision", "use_fp16", "precision"),
        _key("model_dir", "rec_inference_model_dir", "inference_model_dir", "model_dir"),
        _key("images", "infer_imgs", "img_path", "images", "input"),
        _key("save_log", "save_log_path"),
        _key("benchmark", "benchmark"),
        _SPARE,
        _SPARE,
    ),
)

_SERVED = (
    _flag("dirname", "dirname"),
    _flag("model_filename", "model_filename"),
    _flag("params_filename", "params_filename"),
    _flag("serving_server", "serving_server"),
    _flag("serving_client", "serving_client"),
    Slot("serving_dir", ("serving_dir",)),
    Slot("web_service", ("web_service",)),
)
_TRANSLATE = Slot("trans_model", ("trans_model",))

SERVING_TEMPLATE = Layout(
    "serving_params",
    TEMPLATE,
    (
        _banner("serving_params"),
        *_HEAD,
        _TRANSLATE,
        *_SERVED,
        Slot("use_gpu", ("--opt op.reid.local_service_conf.devices", "--use-gpu", "--use_gpu", *_NULL)),
        Slot("client", ("pipline", "pipeline")),
        _flag("images", "image-dir", "image", "images"),
    ),
)

SERVING_CLAS = Layout(
    "serving_params",
    CLAS,
    (
        _banner("serving_params"),
        *_HEAD,
        Slot("model_url", ("inference_model_url", *_NULL)),
        _TRANSLATE,
        *_SERVED,
        _flag("use_gpu", "use-gpu"),
        Slot("client", ("pipline", "pipeline")),
    ),
)

_CONVERT = (
    Slot("convert", ("2onnx",)),
    _flag("model", "model_dir", "ckpt"),
    _flag("model_filename", "model_filename"),
    _flag("params_filename", "params_filename"),
    _flag("save_file", "save_file", "save-inference-dir"),
    _flag("opset", "opset_version", "opset"),
    _flag("checker", "enable_onnx_checker"),
)

ONNX_TEMPLATE = Layout(
    "paddle2onnx_params",
    TEMPLATE,
    (
        _banner("paddle2onnx_params"),
        *_HEAD,
        *_CONVERT,
        Slot("inference", ("inference",)),
        _flag("onnx_file", "onnx_file", "model-dir"),
        _flag("images", "img-path", "images", "infer-imgs", "input"),
    ),
)

ONNX_CLAS = Layout(
    "paddle2onnx_params",
    CLAS,
    (
        _banner("paddle2onnx_params"),
        *_HEAD,
        *_CONVERT,
        Slot("model_url", ("inference_model_url", *_NULL)),
        Slot("inference", ("inference",)),
        Slot("use_onnx", ("Global.use_onnx", "use_onnx", *_NULL)),
        Slot("onnx_file", ("Global.rec_inference_model_dir", "Global.inference_model_dir", "model_dir", *_NULL)),
        Slot("use_gpu", ("Global.use_gpu", "use_gpu", *_NULL)),
        Slot("infer_config", ("-c", *_NULL)),
    ),
)

LAYOUTS = (TRAIN_TEMPLATE, TRAIN_CLAS, SERVING_TEMPLATE, SERVING_CLAS, ONNX_TEMPLATE, ONNX_CLAS)
