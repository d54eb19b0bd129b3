"""What every command shares: tuning before paddle, a parser, one-line errors, exit statuses."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from ppcls.utils.errors import UserError
from ppcls.utils.logger import log_to_console
from ppcls.utils.tuning import apply_cpu_tuning, import_paddle_quietly

EXIT_OK, EXIT_PROBLEMS, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def run(
    make_parser: Callable[[], argparse.ArgumentParser],
    main: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
    uses_paddle: bool = True,
) -> None:
    """Parse, tune the processor, call ``main(args)`` and leave with its status.

    A :class:`UserError` becomes ``error: <message>`` on standard error and exit status 2; Ctrl-C and SIGTERM become
    status 130 after the clean-up of every open file. Anything else is our defect and keeps its stack trace.
    """
    args = make_parser().parse_args(argv)
    log_to_console()
    apply_cpu_tuning()
    if uses_paddle:
        import_paddle_quietly()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = main(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; training goes on with --resume, other commands when started again", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        status = EXIT_PROBLEMS
    except OSError as error:  # the system refused: permissions, a full disk, too many open files
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        status = EXIT_USAGE
    sys.exit(status or EXIT_OK)


def _interrupt(_signal: int, _frame) -> None:
    raise KeyboardInterrupt
