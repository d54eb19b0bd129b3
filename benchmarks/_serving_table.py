"""Figures of the serving benchmark as text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_RATES = (
    "batch", "predictor alone", "service", "of it", "clients' cores", "of it, without clients", "p50 ms", "p99 ms",
    "processor ms an image, alone", "service",
)  # fmt: skip
_WINDOWS = ("seconds", "images/s", "p50 ms", "p99 ms", "memory")


def title(result: Mapping) -> str:
    """What was served, to whom, where."""
    job, options, machine = result["job"], result["options"], result["machine"]
    backend = next(iter(result["throughput"].values()))["backend"]
    return (
        f"serving: ResNet-{job['depth']}, {job['height']} x {job['width']}, {backend}, {options['threads']} thread(s), "
        f"{options['clients']} clients, JPEG of {result['picture_bytes'] / 1e3:.1f} kB; {machine['processor']}, "
        f"{machine['cores']} cores"
    )


def rates(result: Mapping) -> list[list[str]]:
    """Images/s of predictor and service."""
    return [
        [
            batch, f"{row['raw']:.1f}", f"{row['rate']:.1f}", f"{row['share']:.1%}", f"{row['clients']:.2f}",
            f"{row['share_own']:.1%}", f"{row['p50']:.0f}", f"{row['p99']:.0f}", f"{row['raw_ms']:.1f}",
            f"{row['service_ms']:.1f}",
        ]
        for batch, row in result["throughput"].items()
    ]  # fmt: skip


def windows(soak: Mapping) -> list[list[str]]:
    """The soak, window by window."""
    size = soak["window"]
    return [
        [
            f"{number * size:.0f}-{(number + 1) * size:.0f}", f"{row['rate']:.1f}", f"{row['p50']:.0f}",
            f"{row['p99']:.0f}", f"{row['memory'] / 2**20:.0f} MiB",
        ]
        for number, row in enumerate(soak["windows"])
    ]  # fmt: skip


def remarks(result: Mapping) -> list[str]:
    """Everything beside the tables."""
    lines, soak, over = [], result["soak"], result["overload"]
    if soak:
        lines.append(
            f"Soak of {soak['seconds']:.0f} s: after the first window p99 is at most {soak['p99_spread']:.2f} times "
            f"its median, memory grows by {soak['memory_growth'] / 2**20:.1f} MiB, {soak['lost']} requests lost."
        )
    names = {"200": "results", "503": "refused"}
    counts = ", ".join(f"{count} {names.get(code, f'with code {code}')}" for code, count in over["codes"].items())
    lines += [
        f"Overload, {over['factor']:g} x {over['capacity']:.1f} requests/s for {over['seconds']:.0f} s: {over['sent']} "
        f"sent ({over['sent'] / over['seconds']:.0f}/s; {over['unsent']} not, as all connections were busy), {counts}; "
        f"{over['embedded']} images embedded; {over['lost']} requests lost.",
        f"Meanwhile {over['rate']:.1f} images/s, accepted p50 {over['p50']:.0f} ms, p99 {over['p99']:.0f} ms, refused "
        f"p50 {_ms(over['refused_p50'])}, memory at most {over['peak'] / 2**20:.0f} MiB.",
        f"One client alone, p50: {over['alone_before']:.1f} ms before, {over['alone_after']:.1f} ms afterwards. Memory "
        f"{over['memory_before'] / 2**20:.0f} and {over['memory_after'] / 2**20:.0f} MiB. Waiting: {over['left']}.",
    ]
    if not result["agree"]:
        lines.append("WRONG OR LOST ANSWERS: see the figures.")
    if (result["machine"]["others"] or 0.0) > 0.02 * result["machine"]["cores"]:
        lines.append(
            f"Other processes kept {result['machine']['others']:.1f} cores busy meanwhile: repeat on a quiet machine."
        )
    return lines


def text(result: Mapping) -> str:
    """All tables."""
    lines = [title(result), *_columns(_RATES, rates(result))]
    if result["soak"]:
        lines += ["", *_columns(_WINDOWS, windows(result["soak"]))]
    return "\n".join([*lines, *remarks(result)])


def markdown(result: Mapping) -> str:
    """The same in Markdown."""
    lines = [f"**{title(result)}**", "", *_markdown(_RATES, rates(result))]
    if result["soak"]:
        lines += ["", *_markdown(_WINDOWS, windows(result["soak"]))]
    return "\n".join([*lines, "", *remarks(result)])


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) + 2 for column in zip(head, *rows, strict=True)]
    return ["".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} ms"
