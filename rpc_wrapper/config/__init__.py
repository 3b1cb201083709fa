"""Settings: every knob, its default, where it may be set and what it means.

A *layer* is one place a value can come from. Precedence: CLI > environment > file > template > default.
The environment is read here and nowhere else; the core never sees :class:`Settings`, only what it needs of it.
"""

from rpc_wrapper.config.layers import Loaded, load_settings
from rpc_wrapper.config.llama_args import MappedArgs, from_llama_args
from rpc_wrapper.config.settings import Settings

__all__ = ["Loaded", "MappedArgs", "Settings", "from_llama_args", "load_settings"]
