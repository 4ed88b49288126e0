"""`python -m app`: the API. Applies migrations first."""

import gc
import sys

import uvicorn
from pydantic import ValidationError

from app import logs
from app.settings import Settings, in_words
from app.store import StoreUnavailable
from app.webhooks import BadSecret

_GOODBYE_SECONDS = 5  # for calls under way, live listeners among them


def main() -> int:
    """Serve until a signal ends it; 2 where it cannot start."""
    try:
        settings = Settings()
        logs.configure(settings.log_format)
        from app.main import create_app  # noqa: PLC0415  (a wrong setting is told before the routes are loaded)

        app = create_app(settings)
    except (StoreUnavailable, BadSecret, ValidationError) as error:
        words = in_words(error) if isinstance(error, ValidationError) else error
        print(f"whistlestop: {words}", file=sys.stderr)
        return 2
    except OSError as error:
        words = f"The data folder cannot be used: {error.filename}: {error.strerror}."
        print(f"whistlestop: {words} Set WHISTLESTOP_DATA_DIR to a folder that you may write to.", file=sys.stderr)
        return 2
    # What has been made so far stays: it need not be looked through for cycles, a tenth of a second at a time.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
