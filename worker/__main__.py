"""`python -m worker`: one worker. Ends cleanly on SIGTERM and SIGINT."""

import sys

from worker.main import main

if __name__ == "__main__":
    sys.exit(main())
