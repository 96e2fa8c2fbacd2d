"""`python -m api.cli` is the `kvblend` command."""

import sys

from api.cli.main import main

sys.exit(main())
