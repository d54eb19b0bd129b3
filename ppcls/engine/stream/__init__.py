"""Lifelong streams: plan the stages, keep a ledger of what is done, run them, report."""

from ppcls.engine.stream.report import StreamReport
from ppcls.engine.stream.run import run_stream, show_plan

__all__ = ["StreamReport", "run_stream", "show_plan"]
