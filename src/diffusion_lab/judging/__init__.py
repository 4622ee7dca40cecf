"""Metrics put to the test: real images made worse in known steps, and which metric notices."""
