"""`python -m app`: the API. Applies migrations first."""

import logging
import sys

import uvicorn
from pydantic import ValidationError

from app.settings import Settings
from app.store import StoreUnavailable


def main() -> int:
    """Serve until a signal ends it; 2 where it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from app.main import create_app  # noqa: PLC0415  (a wrong setting is told before the routes are loaded)

    try:
        settings = Settings()
        app = create_app(settings)
    except (StoreUnavailable, ValidationError) as error:
        print(f"whistlestop: {explain(error)}", file=sys.stderr)
        return 2
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)
    return 0


def explain(error: Exception) -> str:
    """A start-up fault in one line for the terminal."""
    if not isinstance(error, ValidationError):
        return str(error)
    wrong = [
        f"WHISTLESTOP_{'_'.join(map(str, problem['loc'])).upper()}={problem['input']!r}: {problem['msg']}"
        for problem in error.errors()
    ]
    return "; ".join(wrong)


if __name__ == "__main__":
    sys.exit(main())
