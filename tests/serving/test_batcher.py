"""Images of several requests share a batch, and each request gets its own rows back."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from ppcls.serving.batcher import Batcher
from ppcls.serving.problems import InferenceFailed


class Model:
    """Row sums; the batch that holds a negative number fails; waits for ``gate``."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows) -> np.ndarray:
        assert self.gate.wait(10)
        self.batches.append([float(row[0]) for row in rows])
        if any(row[0] < 0 for row in rows):
            raise RuntimeError("negative")
        return np.stack([row.sum(keepdims=True) for row in rows])


def rows(*numbers: float) -> list[np.ndarray]:
    return [np.array([number, 0.5], np.float32) for number in numbers]


def run(scenario, max_batch=4, max_wait=5.0):
    async def whole():
        model, seen = Model(), []
        batcher = Batcher(model, max_batch, max_wait, lambda images, seconds: seen.append(images))
        result = await scenario(model, batcher)
        await batcher.close()
        assert seen == [len(batch) for batch in model.batches]
        assert batcher.waiting == 0 and batcher.running_for == 0
        return result

    return asyncio.run(asyncio.wait_for(whole(), 30))


def submit(batcher: Batcher, *numbers: float) -> asyncio.Task:
    batcher.expect(len(numbers))
    return asyncio.ensure_future(batcher.submit(rows(*numbers)))


async def occupy(model: Model, batcher: Batcher, *numbers: float) -> asyncio.Task:
    """A batch that stays in the model until the gate is set."""
    model.gate.clear()
    task = submit(batcher, *numbers)
    await asyncio.sleep(0.01)
    assert batcher.running_for > 0 and batcher.waiting == 0
    return task


def test_a_lone_request_does_not_wait():
    async def scenario(model, batcher):
        answer = await submit(batcher, 1, 2)
        assert answer.tolist() == [[1.5], [2.5]]
        assert model.batches == [[1, 2]]

    run(scenario, max_wait=3600)


def test_what_arrives_while_the_model_is_busy_goes_together_in_order():
    async def scenario(model, batcher):
        tasks = [await occupy(model, batcher, 0), *(submit(batcher, number) for number in range(1, 7))]
        await asyncio.sleep(0.01)
        assert batcher.waiting == 6 and batcher.running_for > 0
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [answer.item() for answer in answers] == [number + 0.5 for number in range(7)]
        assert model.batches == [[0], [1, 2, 3, 4], [5, 6]]

    run(scenario)


def test_waits_for_expected_images_but_not_for_ever():
    async def scenario(model, batcher):
        batcher.expect(1)
        await submit(batcher, 1)
        assert model.batches == [[1]]
        batcher.forget(1)

    run(scenario, max_wait=0.05)


def test_starts_when_the_expected_image_comes_or_is_given_up():
    async def scenario(model, batcher):
        batcher.expect(1)
        first = submit(batcher, 1)
        await asyncio.sleep(0.02)
        assert model.batches == []
        await batcher.submit(rows(2))
        await first
        assert model.batches == [[1, 2]]
        batcher.expect(1)
        third = submit(batcher, 3)
        await asyncio.sleep(0.02)
        batcher.forget(1)
        await third
        assert model.batches == [[1, 2], [3]]

    run(scenario, max_wait=3600)


def test_a_large_request_is_spread_over_batches():
    async def scenario(model, batcher):
        answers = await asyncio.gather(submit(batcher, 0, 1, 2, 3, 4, 5), submit(batcher, 6))
        assert answers[0][:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
        assert answers[1].item() == 6.5
        assert model.batches == [[0, 1, 2, 3], [4, 5, 6]]

    run(scenario)


def test_cancelled_requests_leave_the_queue():
    async def scenario(model, batcher):
        first = await occupy(model, batcher, 0)
        second, third = submit(batcher, 1, 2), submit(batcher, 3)
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.sleep(0.02)
        assert batcher.waiting == 1
        model.gate.set()
        assert (await first).item() == 0.5 and (await third).item() == 3.5
        assert model.batches == [[0], [3]]
        with pytest.raises(asyncio.CancelledError):
            await second

    run(scenario)


def test_a_cancelled_request_in_the_model_costs_nobody_else():
    async def scenario(model, batcher):
        first, second = await occupy(model, batcher, 0), submit(batcher, 1)
        first.cancel()
        model.gate.set()
        assert (await second).item() == 1.5

    run(scenario)


def test_an_error_reaches_the_requests_of_its_batch_and_no_other():
    async def scenario(model, batcher):
        tasks = [await occupy(model, batcher, 0)]
        tasks += [submit(batcher, 1, -1, 2), submit(batcher, 3), submit(batcher, 4)]
        await asyncio.sleep(0.02)
        model.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert model.batches == [[0], [1, -1, 2, 3], [4]]
        assert [isinstance(result, InferenceFailed) for result in results] == [False, True, True, False]
        assert "negative" not in str(results[1]) and "negative" in str(results[1].__cause__)

    run(scenario)


def test_large_rows_go_alone(monkeypatch):
    monkeypatch.setattr("ppcls.serving.batcher._BATCH_BYTES", 20)

    async def scenario(model, batcher):
        await asyncio.gather(submit(batcher, 1, 2, 3), submit(batcher, 4))
        assert model.batches == [[1, 2], [3, 4]]  # two rows of 8 bytes fit into 20

    run(scenario)


def test_closing_finishes_what_was_submitted():
    async def scenario(model, batcher):
        tasks = [await occupy(model, batcher, 0), *(submit(batcher, number) for number in range(1, 6))]
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        model.gate.set()
        await closing
        assert all(task.done() and not task.exception() for task in tasks)

    run(scenario)
