"""`python -m app`: the API. Applies migrations first."""

import logging
import sys

import uvicorn
from pydantic import ValidationError

from app.settings import Settings, in_words
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
        words = in_words(error) if isinstance(error, ValidationError) else error
        print(f"whistlestop: {words}", file=sys.stderr)
        return 2
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
