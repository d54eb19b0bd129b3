"""A trunk that stands still while the new head settles.

He et al., "FastReID: A PyTorch Toolbox for General Instance Re-identification", 2020 (backbone freeze): 1000
iterations there.
"""

from __future__ import annotations

from collections.abc import Iterable

import paddle


class FrozenStart:
    """Holds parameters for the first ``iterations`` steps.

    Call :meth:`set` before the forward pass of every step. What is frozen depends on the step's number alone, so a
    resumed run needs no state. Parameters that were frozen before stay frozen after. Held parameters get no gradient,
    so no optimiser moves or decays them. (Running statistics are the caller's: keep the trunk in evaluation mode
    while :meth:`holds`.)
    """

    def __init__(self, parameters: Iterable[paddle.Tensor], iterations: int = 1000):
        if iterations < 0:
            raise ValueError(f"a frozen start of {iterations} iterations; give 0 or more")
        self.parameters = [parameter for parameter in parameters if not parameter.stop_gradient]
        self.iterations = iterations

    def holds(self, iteration: int) -> bool:
        """Whether the 0-based ``iteration`` belongs to the frozen start."""
        return iteration < self.iterations

    def set(self, iteration: int) -> None:
        """Freeze or release the parameters for this iteration."""
        held = self.holds(iteration)
        for parameter in self.parameters:
            if parameter.stop_gradient != held:
                parameter.stop_gradient = held
                if held:
                    parameter.clear_gradient()
