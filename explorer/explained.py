"""How a command line of this project ends: an error that a user can fix is one sentence and status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable

from explorer.errors import ExplorerError
from explorer.memory import is_out_of_memory, out_of_memory


def run_explained(main: Callable[[], None], what: str, *, stands: str = "What was written stands.") -> None:
    """Run `main`; raises SystemExit for what a user can fix (status 1) and for Ctrl-C (130).

    what: the command in words, for a device that is out of memory. stands: what that and an interrupt leave, in a
    sentence.
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
