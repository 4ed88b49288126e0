"""The tests mirror app/ and worker/; tests/e2e/ runs real processes. They read public behaviour only."""
