"""The database's versions, oldest first, in `versions/`. Applied by `JobStore.migrate`."""
