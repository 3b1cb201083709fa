"""What the gateway and the agents measure in the same way: a process's load, GPUs, and how figures are written down.

Metric names follow Prometheus's own rules: a prefix of ours (``rpcw_``), base units (seconds, bytes), ``_total`` for
what only grows. Labels come from configuration and fixed tables, never from a client, so their number stays bounded.
"""
