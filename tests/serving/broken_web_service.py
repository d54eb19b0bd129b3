"""``web_service.py`` with a part that fails on purpose: what the framework then says is part of the recordings.

python broken_web_service.py {preprocess,postprocess,predictor,slow} <flags of web_service.py>
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "paddleserving"))

import web_service

WORDS = "it's <broken> & so on"


def broken(*_arguments, **_settings):
    raise RuntimeError(WORDS)


def slow(*_arguments, **_settings):
    time.sleep(10)


def main() -> None:
    part = sys.argv.pop(1)
    if part == "preprocess":
        web_service.OperatorCodec.feed = broken
    elif part == "postprocess":
        web_service.OperatorCodec.answer = broken
    else:
        from paddle_serving_app.local_predict import LocalPredictor

        LocalPredictor.predict = slow if part == "slow" else broken
    web_service.main()


if __name__ == "__main__":
    main()
