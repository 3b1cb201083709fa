"""Get a GGUF: a short catalogue of models that are known to the byte, and a download that can be broken off."""

from rpc_wrapper.pull.catalogue import CATALOGUE, Entry, Source, resolve
from rpc_wrapper.pull.download import Download, Progress

__all__ = ["CATALOGUE", "Download", "Entry", "Progress", "Source", "resolve"]
