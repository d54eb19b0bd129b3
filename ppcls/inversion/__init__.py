"""DeepInversion: images dreamed out of a frozen network, in place of the training data it was made with."""

from ppcls.inversion.archive import Archive, ImageRecord, list_images, read_manifests
from ppcls.inversion.config import DreamConfig
from ppcls.inversion.contact_sheet import write_contact_sheet
from ppcls.inversion.job import DreamReport, Progress, dream
from ppcls.inversion.quality import measure_quality
from ppcls.inversion.schedule import plan_batches
from ppcls.inversion.synthesizer import DreamedBatch, Synthesizer, frozen

__all__ = [
    "Archive",
    "DreamConfig",
    "DreamReport",
    "DreamedBatch",
    "ImageRecord",
    "Progress",
    "Synthesizer",
    "dream",
    "frozen",
    "list_images",
    "measure_quality",
    "plan_batches",
    "read_manifests",
    "write_contact_sheet",
]
