"""JobStore: what users ask and what workers write, each call one transaction."""

from app.store.asked import Jobs
from app.store.keys import Keys
from app.store.outbox import Outbox
from app.store.runs import Runs
from app.store.upkeep import Upkeep


class JobStore(Jobs, Runs, Keys, Outbox, Upkeep):
    """Jobs and all that belongs to them, on SQLite or PostgreSQL.

    Every method may raise StoreUnavailable; nothing is written then.
    """
