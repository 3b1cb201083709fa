"""The agent: a small HTTP server beside a backend that says how it is and starts, stops and restarts it."""
