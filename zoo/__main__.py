"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ..."""

import sys

from zoo.commands import main

if __name__ == "__main__":
    sys.exit(main())
