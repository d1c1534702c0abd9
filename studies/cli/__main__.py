"""`python -m studies.cli`."""

from __future__ import annotations

from studies.cli.app import main

if __name__ == "__main__":
    main()
