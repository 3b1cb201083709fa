"""Models by name, each with its exact size and SHA-256. Pure."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from rpc_wrapper.errors import ConfigError

HUB = "https://huggingface.co"
OVERHEAD = 1.2  # KV cache of a few slots at 4096 tokens and compute buffers, on top of the weights
BASE_BYTES = 512 * 1024 * 1024  # programs and HTTP front

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file is, what it is to be called here, and what it must be, as far as that is known."""

    url: str
    file: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue; ``revision`` is a commit of its repository, or a branch."""

    name: str
    repository: str
    path: str
    size_bytes: int
    sha256: str
    revision: str = "main"
    file: str = ""

    @property
    def ram_bytes(self) -> int:
        """Return about how much memory all machines together need to serve it."""
        return int(self.size_bytes * OVERHEAD) + BASE_BYTES

    def source(self, hub: str = HUB) -> Source:
        """Return where it is on a hub with the usual addresses."""
        url = f"{hub.rstrip('/')}/{self.repository}/resolve/{self.revision}/{self.path}"
        return Source(url, self.file or self.path, self.size_bytes, self.sha256)


CATALOGUE = (
    Entry(
        "qwen2.5-0.5b",
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        491_400_032,
        "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db",
        revision="9217f5db79a29953eb74d5343926648285ec7e67",
    ),
    Entry(
        "tinyllama-1.1b",
        "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF",
        "tinyllama-1.1b-chat-v1.0.Q4_0.gguf",
        637_699_456,
        "da3087fb14aede55fde6eb81a0e55e886810e43509ec82ecdc7aa5d62a03b556",
        revision="52e7645ba7c309695bec7ac98f4f005b139cf465",
        file="TinyLlama-1.1B-q4_0.gguf",  # what APP_MODEL names by default
    ),
    Entry(
        "llama-3.2-1b",
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        807_694_464,
        "6f85a640a97cf2bf5b8e764087b1e83da0fdb51d7c9fab7d0fece9385611df83",
    ),
    Entry(
        "llama-3.2-3b",
        "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
        2_019_377_696,
        "6c1a2b41161032677be168d354123594c0e6e67d2b9227c84f296ad037c728ff",
    ),
    Entry(
        "llama-3.1-8b",
        "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
        "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
        4_920_739_232,
        "7b064f5842bf9532c91456deda288a1b672397a54fa729aa665952863033557c",
        revision="bf5b95e96dac0462e2a09145ec66cae9a3f12067",
    ),
)


def resolve(wanted: str, *, hub: str = HUB, sha256: str | None = None) -> Source:
    """Return the source of a catalogue name or of a URL; ``sha256`` overrides what the catalogue says.

    Raises ConfigError for an unknown name, a URL that names no GGUF file, or a digest that is none.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256 := sha256.lower()):
        raise ConfigError(f"--sha256 {sha256} has {len(sha256)} characters: a SHA-256 is 64 hexadecimal digits")
    if "://" in wanted:
        return Source(wanted, _file_of(wanted), None, sha256)
    entry = next((entry for entry in CATALOGUE if entry.name == wanted.lower()), None)
    if entry is None:
        raise ConfigError(
            f"{wanted} is neither a URL nor in the catalogue{_nearest(wanted)}: see rpc-wrapper pull --list"
        )
    known = entry.source(hub)
    return Source(known.url, known.file, known.size_bytes, sha256 or known.sha256)


def _file_of(url: str) -> str:
    """Return the file name at the end of a URL's path."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{url} is no URL ({error}): copy the address of the file itself") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url} is not an http or https URL: copy the address of the file itself")
    name = PurePosixPath(unquote(parts.path)).name
    if not name.lower().endswith(".gguf"):
        raise ConfigError(
            f"{url} ends in {name or 'no file'!r}, not in a .gguf file: copy the address of the file itself"
        )
    return name


def _nearest(wanted: str) -> str:
    close = get_close_matches(wanted.lower(), [entry.name for entry in CATALOGUE], n=1, cutoff=0.4)
    return f" (did you mean {close[0]}?)" if close else ""
