"""The service people talk to: specs, the store, artifacts and the HTTP API. Imports no torch."""

__version__ = "0.1.0"
