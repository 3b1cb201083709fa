"""Reads llama-server's log: what it really placed where, and how far it is.

Pure. The lines are those of llama-model.cpp, llama-kv-cache.cpp, llama-context.cpp, ggml-rpc.cpp and tools/server.
A buffer of a backend is called ``RPC0[host:port]``: device 0 *of that endpoint*, which is not the ``RPC0`` of
``--device``. Devices are named here by their label, as :class:`rpc_wrapper.devices.Device` writes it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from rpc_wrapper.engine.failure import Failure, classify

__all__ = ["DeviceBuffers", "Failure", "LoadLog", "Phase", "classify", "device_label", "worker_devices"]

HOST = "CPU"  # label of the server's own memory

_BUFFER = re.compile(
    r"(?P<name>[\w-]+(?:\[[^\]]+\])?(?:\(\))?)\s+(?P<kind>model|KV|RS|compute|output) buffer size ="
    r"\s+(?P<mib>[\d.]+) MiB"
)
_REMOTE = re.compile(r"RPC(?P<index>\d+)\[(?P<endpoint>[^\]]+)\]")
_SLOT = re.compile(r"load_tensors: layer\s+(?P<slot>\d+) assigned to device (?P<device>\w+)")
_LISTED = re.compile(r"common_param:\s+- (?P<name>\w+)\s*: (?P<text>\S+)")
_USED = re.compile(r"using device (?P<name>\w+) \(")
_OUTPUT = "offloading output layer to GPU"
_OFFLOADED = re.compile(r"offloaded (?P<done>\d+)/(?P<all>\d+) layers to GPU")
_CACHE = re.compile(r"size =\s+[\d.]+ MiB \(\s*\d+ cells,\s*(?P<layers>\d+) layers")
_CONTEXT = re.compile(r"n_ctx_slot = (?P<tokens>\d+)")
_LISTENING = re.compile(r"(?:server is )?listening on (?:\S+)")
_WORKER_DEVICE = re.compile(r"^  (?P<name>\w+): .*\(\d+ MiB, \d+ MiB free\)$")


class Phase(StrEnum):
    """How far a start is, in order."""

    STARTING = "starting"
    READING = "reading the model"
    LOADING = "loading tensors"
    RESERVING = "reserving memory"
    WARMING_UP = "warming up"
    LISTENING = "listening"


_PHASES = (  # a text that only appears in that phase; the latest phase seen counts
    (Phase.READING, "load_model: loading model"),
    (Phase.LOADING, "loading model tensors"),
    (Phase.RESERVING, "constructing llama_context"),
    (Phase.WARMING_UP, "warming up the model"),
)


@dataclass(slots=True)
class DeviceBuffers:
    """What one device holds, in bytes as printed (two decimals of a MiB); ``kv_blocks`` have their KV cache there."""

    model_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0
    kv_blocks: int = 0

    @property
    def total_bytes(self) -> int:
        """Return all of it."""
        return self.model_bytes + self.kv_bytes + self.compute_bytes + self.output_bytes


_KINDS = {
    "model": "model_bytes",
    "KV": "kv_bytes",
    "RS": "kv_bytes",
    "compute": "compute_bytes",
    "output": "output_bytes",
}


@dataclass(slots=True)
class LoadLog:
    """Collects what one start of llama-server said; feed it every line."""

    buffers: dict[str, DeviceBuffers] = field(default_factory=dict)
    offloaded: tuple[int, int] | None = None
    pipeline_parallel: bool = False
    tensor_parallel: bool = False
    ctx_per_slot: int | None = None
    phase: Phase = Phase.STARTING
    n_lines: int = 0
    _slots: dict[int, str] = field(default_factory=dict)
    _labels: dict[str, str] = field(default_factory=dict)
    _used: list[str] = field(default_factory=list)
    _output_is_offloaded: bool = False
    _cache_bytes: dict[str, int] = field(default_factory=dict)

    def feed(self, line: str) -> None:
        """Take in one line; lines that say nothing about the load are ignored."""
        if self.is_listening:  # what follows is about requests
            return
        self.n_lines += 1
        if (match := _BUFFER.search(line)) is not None:
            self._add_buffer(match)
        elif (match := _CACHE.search(line)) is not None:
            self._close_cache(int(match["layers"]))
        elif (match := _SLOT.search(line)) is not None:
            self._slots[int(match["slot"])] = match["device"]
        elif (match := _OFFLOADED.search(line)) is not None:
            self.offloaded = int(match["done"]), int(match["all"])
        elif (match := _CONTEXT.search(line)) is not None:
            self.ctx_per_slot = int(match["tokens"])
        else:
            self._name_device(line)
        self.pipeline_parallel |= "pipeline parallelism enabled" in line
        self._output_is_offloaded |= _OUTPUT in line
        self._follow(line)

    @property
    def is_listening(self) -> bool:
        """Tell whether the start is over."""
        return self.phase is Phase.LISTENING

    @property
    def progress(self) -> str:
        """Return how far it is, for people."""
        return self.phase.value

    @property
    def placement(self) -> dict[int, str]:
        """Return the engine's device name (``RPC1``) of every slot, 0 to n, n being the output.

        At ``-lv 5`` the engine says so. Below, it follows from what each device holds, as slots are handed out in
        ``--device`` order, the host's own first (llama-model.cpp, load_tensors). Empty when that does not add up:
        in tensor mode, and for architectures that have blocks without a KV cache.
        """
        if self._slots:
            return dict(sorted(self._slots.items()))
        counts = self.blocks()
        if self.offloaded is None or sum(counts.values()) != self.offloaded[1] - 1:
            return {}
        names = (HOST, *self._used)
        slots = [name for name in names for _ in range(counts.get(self._labels.get(name, name), 0))]
        return dict(enumerate((*slots, self._output_device()))) if len(slots) == self.offloaded[1] - 1 else {}

    def blocks(self) -> dict[str, int]:
        """Return how many blocks each device holds, told by the KV cache, without devices that hold none.

        With contiguous placement in ``--device`` order the counts are the placement. Empty in tensor mode.
        """
        return {label: found.kv_blocks for label, found in self.buffers.items() if found.kv_blocks}

    def _output_device(self) -> str:
        holders = [name for name in self._used if self._weights_bytes(name)]
        return holders[-1] if self._output_is_offloaded and holders else HOST

    def _weights_bytes(self, name: str) -> int:
        found = self.buffers.get(self._labels.get(name, name))
        return found.model_bytes if found is not None else 0

    def _name_device(self, line: str) -> None:
        """Learn the labels of ``RPC0``, ``RPC1`` and so on, and the order in which ``--device`` uses them."""
        if (match := _LISTED.search(line)) is not None and match["name"].startswith("RPC"):
            earlier = sum(label.split("#")[0] == match["text"] for label in self._labels.values())
            self._labels[match["name"]] = f"{match['text']}#{earlier}" if earlier else match["text"]
        elif (match := _USED.search(line)) is not None:
            self._used.append(match["name"])

    def _add_buffer(self, match: re.Match[str]) -> None:
        label = device_label(match["name"])
        self.tensor_parallel |= match["name"].startswith("Meta")
        found = self.buffers.setdefault(label, DeviceBuffers())
        size_bytes = round(float(match["mib"]) * 1024 * 1024)
        name = _KINDS[match["kind"]]
        setattr(found, name, getattr(found, name) + size_bytes)
        if match["kind"] == "KV":
            self._cache_bytes[label] = self._cache_bytes.get(label, 0) + size_bytes

    def _close_cache(self, layers: int) -> None:
        """Share the blocks of one cache out: in one cache every block takes the same bytes."""
        all_bytes = sum(self._cache_bytes.values())
        for label, size_bytes in self._cache_bytes.items():
            if not label.startswith("Meta"):
                self.buffers[label].kv_blocks += round(layers * size_bytes / all_bytes)
        self._cache_bytes.clear()

    def _follow(self, line: str) -> None:
        if _LISTENING.search(line):
            self.phase = Phase.LISTENING
            return
        for phase, text in _PHASES:
            if text in line:
                self.phase = phase


def device_label(buffer: str) -> str:
    """Return whose buffer it is: ``RPC1[h:1]`` is ``h:1#1``, ``CPU_Mapped`` and ``CUDA_Host`` are the host's."""
    if (match := _REMOTE.fullmatch(buffer)) is not None:
        index = int(match["index"])
        return match["endpoint"] if index == 0 else f"{match['endpoint']}#{index}"
    return HOST if buffer.startswith(HOST) or buffer.endswith("_Host") else buffer


def worker_devices(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the device names a worker listed when it started."""
    return tuple(match["name"] for line in lines if (match := _WORKER_DEVICE.match(line)))
