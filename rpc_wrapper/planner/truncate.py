"""Cut a model short after its first K blocks: an early exit as a file of its own, or a draft model.

The result depends on the model and K alone, so whatever way of splitting the first K blocks leads here, the file is
the same byte for byte. What is kept: all tensors outside the blocks, and blocks 0..K-1.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter

from rpc_wrapper.errors import GGUFError, PlanError
from rpc_wrapper.planner.profile import ModelProfile, model_files, read_profile

_BLOCK = re.compile(r"blk\.(\d+)\.")
_DROPPED = ("GGUF.", "split.", "general.architecture")  # the writer makes its own; the result is one file


def truncate_model(source: Path, target: Path, n_layer: int, *, overwrite: bool = False) -> ModelProfile:
    """Write the first ``n_layer`` blocks of a model to a new file and return its profile.

    Raises PlanError for an impossible ``n_layer`` or an existing target, GGUFError for a bad model. The target appears
    only when it is complete.
    """
    profile = read_profile(source)
    if not 1 <= n_layer <= profile.n_layer:
        raise PlanError(f"--layers is {n_layer}, the model has {profile.n_layer} blocks: use 1 to {profile.n_layer}")
    if target.exists() and (not overwrite or target.resolve() in {each.resolve() for each in model_files(source)}):
        raise PlanError(f"{target} exists already: choose another file")
    part = target.with_name(target.name + ".part")
    try:
        _write(part, [GGUFReader(path) for path in model_files(source)], profile, n_layer)
        part.replace(target)
    except OSError as error:
        raise GGUFError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return read_profile(target)


def _write(path: Path, readers: list[GGUFReader], profile: ModelProfile, n_layer: int) -> None:
    writer = GGUFWriter(path, profile.architecture)
    try:
        writer.data_alignment = readers[0].alignment
        for key, (value, kind, item_kind) in _metadata(readers[0], profile, n_layer).items():
            writer.add_key_value(key, value, kind, item_kind)
        tensors = [tensor for tensor in _tensors(readers) if _is_kept(tensor.name, n_layer)]
        for tensor in tensors:
            data = tensor.data
            writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor.data)
    finally:
        writer.close()


def _metadata(reader: GGUFReader, profile: ModelProfile, n_layer: int) -> dict[str, tuple[Any, Any, Any]]:
    """Return every key to write, with its type: lists of one entry per block are cut too."""
    kept = {}
    prefix = f"{profile.architecture}."
    for key, field in reader.fields.items():
        if key.startswith(_DROPPED):
            continue
        value, kind, item_kind = field.contents(), field.types[0], field.types[-1]
        if key == f"{prefix}block_count":
            value = n_layer
        elif key == f"{prefix}nextn_predict_layers":
            value = 0  # those are the last blocks, which are gone
        elif kind is GGUFValueType.ARRAY and key.startswith(prefix) and len(value) == profile.n_layer:
            value = value[:n_layer]
        kept[key] = (value, kind, item_kind if kind is GGUFValueType.ARRAY else None)
    return kept


def _tensors(readers: Iterable[GGUFReader]) -> Iterable[Any]:
    return (tensor for reader in readers for tensor in reader.tensors)


def _is_kept(name: str, n_layer: int) -> bool:
    match = _BLOCK.match(name)
    return match is None or int(match[1]) < n_layer
