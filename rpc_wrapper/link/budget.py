"""Hold a backend to its memory budget on the wire, where even a foreign worker cannot ignore it.

One budget covers all devices of a backend. Devices take their share of it in the order in which their memory is
asked for, which is the engine's device order, so that the shares never add up to more than the budget.
"""

from collections import Counter

from rpc_wrapper.rpc.messages import AllocBufferReply, DeviceMemoryReply

REFUSAL = AllocBufferReply(remote_ptr=0, remote_size_bytes=0)  # what a worker that is out of memory answers


class Budget:
    """Count what one backend's connections allocate; with ``budget_bytes`` None it only counts.

    A connection is known by any integer of its own: a worker frees what a connection leaves behind.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self._shares: dict[int, int] = {}
        self._used: Counter[int] = Counter()  # device → bytes allocated, or asked for and not answered yet
        self._buffers: dict[int, dict[int, tuple[int, int]]] = {}  # connection → remote_ptr → device, bytes
        self._owned: Counter[int] = Counter()  # connection → bytes of its buffers: every frame asks

    @property
    def allocated_bytes(self) -> dict[int, int]:
        """Return the bytes in use per device, devices in order; a device with none is left out."""
        return {device: used for device, used in sorted(self._used.items()) if used}

    def owned_bytes(self, connection: int) -> int:
        """Return how many bytes one connection has allocated."""
        return self._owned[connection]

    def left_bytes(self, device: int) -> int | None:
        """Return what may still be allocated on a device, or None when there is no budget."""
        if self.budget_bytes is None:
            return None
        left = self.budget_bytes - self._used.total()
        if device in self._shares:
            left = min(left, self._shares[device] - self._used[device])
        return max(left, 0)

    def clamp(self, device: int, memory: DeviceMemoryReply) -> DeviceMemoryReply:
        """Return a device's memory as the budget lets it look; its first call settles the device's share."""
        if self.budget_bytes is None:
            return memory
        if device not in self._shares:
            self._shares[device] = min(memory.total_bytes, self.budget_bytes - sum(self._shares.values()))
        left = self.left_bytes(device) or 0
        return DeviceMemoryReply(min(memory.free_bytes, left), min(memory.total_bytes, self._shares[device]))

    def reserve(self, device: int, size_bytes: int) -> bool:
        """Set aside what an ALLOC_BUFFER asks for; False when it is more than is left."""
        left = self.left_bytes(device)
        if left is not None and size_bytes > left:
            return False
        self._used[device] += size_bytes
        return True

    def settle(self, connection: int, device: int, reserved_bytes: int, reply: AllocBufferReply) -> None:
        """Replace a reservation by what the worker really allocated, which may be nothing."""
        self._used[device] -= reserved_bytes
        if not reply.is_refused:
            self.free(connection, reply.remote_ptr)  # a pointer given twice stands for its last buffer
            self._used[device] += reply.remote_size_bytes
            self._buffers.setdefault(connection, {})[reply.remote_ptr] = (device, reply.remote_size_bytes)
            self._owned[connection] += reply.remote_size_bytes

    def free(self, connection: int, remote_ptr: int) -> None:
        """Take back one buffer; a pointer this connection does not own changes nothing."""
        device, size = self._buffers.get(connection, {}).pop(remote_ptr, (0, 0))
        self._used[device] -= size
        self._owned[connection] -= size

    def release(self, connection: int) -> None:
        """Take back everything a connection still holds: it is gone, so the worker freed it."""
        for device, size in self._buffers.pop(connection, {}).values():
            self._used[device] -= size
        del self._owned[connection]
