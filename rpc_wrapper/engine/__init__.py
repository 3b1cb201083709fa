"""What we know of llama.cpp's programs: where they are, what they accept, what they print, how to ask them.

- ``binaries`` finds the programs, their version and their RPC protocol
- ``flags`` the flags a program accepts, read from its ``--help``
- ``args`` the argv and the environment of a child, from typed options
- ``memory_flags`` what a user's own engine flags change about memory
- ``loadlog`` what llama-server says while it loads; ``failure`` why a child died
- ``client`` llama-server over HTTP
- ``machine`` this machine: CPU quota, memory limit, CPU features
- ``selftest`` proves that the engine can compute here
- ``checkup`` turns all of that into findings with advice
"""
