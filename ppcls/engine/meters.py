"""Running averages as the published logs print them."""

from __future__ import annotations

from dataclasses import dataclass, field

_LARGEST = 1024.0
_MEMORY = 0.9


@dataclass
class Meter:
    """An exponential average (0.9) that starts at the first value; values are clipped at 1024; never reset."""

    value: float = 0.0
    average: float | None = None

    def update(self, value: float) -> None:
        """Take in one more value."""
        self.value = min(float(value), _LARGEST)
        old = self.value if self.average is None else self.average
        self.average = _MEMORY * old + (1.0 - _MEMORY) * self.value

    def __str__(self) -> str:
        return f"{self.average or 0.0:.4f}/{self.value:.4f}"


@dataclass
class Meters:
    """Meters by name, in the order they were first seen."""

    by_name: dict[str, Meter] = field(default_factory=dict)

    def update(self, **values: float) -> None:
        """Update several meters."""
        for name, value in values.items():
            self.by_name.setdefault(name, Meter()).update(value)

    def __getitem__(self, name: str) -> Meter:
        return self.by_name[name]

    def state_dict(self) -> dict[str, float]:
        """Averages by name."""
        return {name: meter.average for name, meter in self.by_name.items() if meter.average is not None}

    def load_state_dict(self, averages: dict[str, float]) -> None:
        """Take back :meth:`state_dict`."""
        self.by_name = {name: Meter(average, average) for name, average in averages.items()}
