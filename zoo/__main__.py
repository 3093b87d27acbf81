"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ..."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # So that Ctrl-C during the imports below ends the program without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from zoo.commands import main

if __name__ == "__main__":
    sys.exit(main())
