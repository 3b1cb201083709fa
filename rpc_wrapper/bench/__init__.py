"""Measure any llama-server endpoint, ours or another, and compare targets within one interleaved run.

The words: a *target* is a base URL under test; a *workload* says what is asked of it; a *round* is one workload done
once by one target; a *repeat* is one round of every target, in ABBA order; an *answer* is one request's tokens, each
with the time it arrived. The first target is the baseline that the others are compared with.

``workload``, ``stream``, ``stats``, ``chart`` and ``report`` are arithmetic; ``driver`` talks HTTP, ``watch`` follows
processes, ``environment`` looks at the machine, ``cluster`` starts a cluster of our own to measure, ``lifetimes``
starts and breaks one, ``draw`` makes pictures.
"""
