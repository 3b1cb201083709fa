"""Download one file over HTTP: resumed where it broke off, checked, and only then given its name.

A partial file's name holds what identifies the content (its SHA-256, else its ETag), so that the rest of one file is
never appended to the beginning of another.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from rpc_wrapper.devices import MIB
from rpc_wrapper.errors import ConfigError, GGUFError, TransportError
from rpc_wrapper.pull.catalogue import Source

MAGIC = b"GGUF"
TIMEOUT = httpx.Timeout(30.0)

Progress = Callable[[int, int | None], None]
"""Is told how many bytes are there, and of how many in all, if that is known."""

_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of a file."""

    size_bytes: int | None
    validator: str | None
    sha256: str | None
    can_resume: bool

    @classmethod
    def of(cls, response: httpx.Response) -> "Facts":
        """Read the headers; a hub gives the digest in X-Linked-ETag of its redirect."""
        size = response.headers.get("content-length")
        linked = (one.headers.get("x-linked-etag", "") for one in (*response.history, response))
        digests = (match[1] for match in map(_SHA256.fullmatch, linked) if match)
        etag = response.headers.get("etag", "")
        return cls(
            size_bytes=int(size) if size and "content-encoding" not in response.headers else None,
            validator=etag if etag and not etag.startswith("W/") else response.headers.get("last-modified"),
            sha256=next(digests, None),
            can_resume=response.headers.get("accept-ranges") == "bytes",
        )


class Download:
    """One file on its way; ``token`` is sent to the host of ``source`` and nowhere else, not even after a redirect."""

    def __init__(self, source: Source, target: Path, *, token: str | None = None, progress: Progress | None = None):
        self.source = source
        self.target = target
        self._progress: Progress = progress or (lambda done, total: None)
        self._headers = {"accept-encoding": "identity"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def is_done(self) -> bool:
        """Tell whether the file is there already, to the byte."""
        return self.target.is_file() and self.source.sha256 is not None and _digest(self.target) == self.source.sha256

    def run(self, *, overwrite: bool = False) -> None:
        """Download, check, and put the file in its place; one that is there already, to the byte, is kept.

        Raises ConfigError when another one is there and may not be overwritten or the folder does not take it,
        TransportError when the server refuses or breaks off without having sent anything more, GGUFError when what
        came is not it.
        """
        try:
            with httpx.Client(headers=self._headers, follow_redirects=True, timeout=TIMEOUT) as client:
                facts = self._ask(client)
                if overwrite or not self._is_kept(facts):
                    self._get(client, facts)
        except OSError as error:
            raise ConfigError(
                f"{self.target} cannot be written ({error.strerror}): make that possible or choose another --output-dir"
            ) from error

    def _ask(self, client: httpx.Client) -> Facts:
        """Open the file only to read the headers: the digest decides which partial file is ours."""
        try:
            with self._open(client, 0) as response:
                return Facts.of(response)
        except httpx.TransportError as error:
            raise TransportError(f"{self._host} hung up or fell silent ({error}): run the same again") from error

    def _is_kept(self, facts: Facts) -> bool:
        """Tell whether the file is there; refuse to touch one that is not it, or need not be."""
        if not self.target.exists():
            return False
        expected = self.source.sha256 or facts.sha256
        if expected and _digest(self.target) == expected:
            return True
        why = "is another file" if expected else "may be another file (its SHA-256 is not known)"
        raise ConfigError(f"{self.target} exists and {why}: give --force to replace it")

    def _get(self, client: httpx.Client, facts: Facts) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        part = self._part(facts)
        self._check_space(part, facts)
        self._fetch(client, facts, part)
        self._check(part, facts)
        part.replace(self.target)

    def _part(self, facts: Facts) -> Path:
        identity = self.source.sha256 or facts.sha256 or facts.validator or ""
        tag = hashlib.sha256(identity.encode()).hexdigest()[:12]
        part = self.target.with_name(f".{self.target.name}.{tag}.part")
        if not identity or not facts.can_resume:
            part.unlink(missing_ok=True)
        return part

    def _check_space(self, part: Path, facts: Facts) -> None:
        missing = (self.source.size_bytes or facts.size_bytes or 0) - _size(part)
        free = shutil.disk_usage(part.parent).free
        if missing > free:
            raise ConfigError(
                f"{part.parent} has {free // MIB} MiB free, {self.source.file} needs {missing // MIB} MiB more:"
                " make room or choose another --output-dir"
            )

    def _fetch(self, client: httpx.Client, facts: Facts, part: Path) -> None:
        """Fetch the rest, again after each interruption, as long as each attempt brings something."""
        total = self.source.size_bytes or facts.size_bytes
        while total is None or _size(part) < total:
            before = _size(part)
            try:
                self._append(client, part, total)
            except httpx.TransportError as error:
                if _size(part) <= before or not facts.can_resume:
                    raise TransportError(
                        f"{self._host} broke off after {before} bytes: run the same again ({error})"
                    ) from error
            else:
                return

    def _append(self, client: httpx.Client, part: Path, total: int | None) -> None:
        offset = _size(part)
        with self._open(client, offset) as response, part.open("ab") as file:
            if _start(response) != offset:  # the server sends all of it again
                file.truncate(0)
                offset = 0
            for chunk in response.iter_bytes():
                if not offset and not chunk.startswith(MAGIC[: len(chunk)]):
                    raise GGUFError(f"{self._host} sent something that is no GGUF: copy the address of the file itself")
                file.write(chunk)
                offset += len(chunk)
                self._progress(offset, total)

    @contextmanager
    def _open(self, client: httpx.Client, offset: int) -> Iterator[httpx.Response]:
        headers = {"range": f"bytes={offset}-"} if offset else {}
        try:
            stream = client.stream("GET", self.source.url, headers=headers)
            with stream as response:
                self._refuse(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.TooManyRedirects) as error:
            raise TransportError(f"{self._host} cannot be reached: {error}") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigError(f"{self.source.url} is no address ({error}): copy that of the file itself") from error

    def _refuse(self, response: httpx.Response) -> None:
        match response.status_code:
            case 200 | 206:
                return
            case 401 | 403:
                why = "it wants a token, or another one: set HF_TOKEN"
            case 404:
                why = "there is no such file: check the address"
            case 416:
                why = "the partial file is longer than the file: remove it"
            case _:
                why = "try again later"
        raise TransportError(f"{self._host} answered {response.status_code}: {why}")

    def _check(self, part: Path, facts: Facts) -> None:
        total = self.source.size_bytes or facts.size_bytes
        if total is not None and _size(part) != total:
            raise TransportError(f"{_size(part)} of {total} bytes came from {self._host}: run the same again")
        expected = self.source.sha256 or facts.sha256
        if expected and (found := _digest(part)) != expected:
            part.unlink()
            raise GGUFError(f"the SHA-256 is {found[:12]}..., not {expected[:12]}...: removed; download it again")

    @property
    def _host(self) -> str:
        return httpx.URL(self.source.url).host


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _start(response: httpx.Response) -> int:
    """Return which byte a reply starts with."""
    match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
    return int(match[1]) if response.status_code == 206 and match else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
