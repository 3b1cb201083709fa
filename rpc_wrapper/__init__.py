"""Serve one GGUF over several machines with stock llama.cpp, and keep it up.

The words used everywhere: the *engine* is the pinned llama.cpp; a *backend* is one ``ggml-rpc-server`` at an
*endpoint*; an *agent* is the small HTTP server beside it; a *link* is our relay to it; a *profile* is what a GGUF
says; a *plan* says which device holds which blocks; a *group* is one llama-server and the backends it uses; the
*journal* remembers what each request has delivered; the *gateway* is the HTTP front.
"""

from importlib.metadata import version

__version__ = version("rpc-wrapper")
