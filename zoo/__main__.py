"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ..."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # Ctrl-C among the imports ends without a traceback

from zoo.commands import main

if __name__ == "__main__":
    sys.exit(main())
