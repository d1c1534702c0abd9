"""How a command line of this project ends: an error that a user can fix is a message and status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable

from explorer.errors import ExplorerError
from explorer.memory import is_out_of_memory, out_of_memory


def run_explained(main: Callable[[], None], what: str, *, stands: str = "What was written is kept.") -> None:
    """Run `main`.

    Args:
        main: The command.
        what: Its name, for the message that a device is out of memory.
        stands: Says what is kept after that or after an interrupt.

    Raises:
        SystemExit: With status 1 for an error that a user can fix, with 130 for Ctrl-C.
    """
    try:
        main()
    except ExplorerError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        sys.exit(f"error: {out_of_memory(error, what)} {stands}")
    except KeyboardInterrupt:
        print(f"interrupted. {stands}", file=sys.stderr)
        sys.exit(130)
