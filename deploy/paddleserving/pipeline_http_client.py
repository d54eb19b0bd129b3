"""Image files → embeddings, by asking a pipeline service over HTTP: Paddle Serving's or deploy/serving's.

Example: python deploy/paddleserving/pipeline_http_client.py --url http://127.0.0.1:18080/reid/prediction \
    --image query/ --output embeddings.npz
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.paddle_serving import ClientOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), ClientOptions)


def main(args: argparse.Namespace) -> int:
    options = resolve(ClientOptions, args)
    from ppcls.serving.client_job import embed_files

    return embed_files(options)


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
