"""The library face of exporting: keywords instead of an options object."""

from __future__ import annotations

from typing import Any

from ppcls.configs.export import ExportOptions
from ppcls.configs.exported import ExportedModel
from ppcls.configs.options import validate
from ppcls.export import job


def export_model(**options: Any) -> ExportedModel:
    """Checkpoint → inference model, checked against the network: what ``tools/export_model.py`` does.

    Args:
        options: fields of :class:`~ppcls.configs.export.ExportOptions`, the command's flags with ``_`` for ``-``.

    Returns:
        The sidecar that was written, with the figures of the check.

    Raises:
        ParityError: the exported model does not answer as the network; nothing was written.
        UserError: an unknown option, a wrong value, or anything that the command would report.
    """
    return job.export_model(validate(ExportOptions, options, "export_model()"))
