"""`python -m app.cli` is `whistlestop`."""

from app.cli import main

main()
