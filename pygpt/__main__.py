"""`python -m pygpt` is `pygpt`."""

import sys

from pygpt.cli.main import main

sys.exit(main())
