"""``python -m largebatch``: the same as the command, for launchers that start modules."""

from .lab.cli import main

raise SystemExit(main())
