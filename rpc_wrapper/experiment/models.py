"""Make the models that cells ask for, once, and keep them."""

from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.cells import Cell
from rpc_wrapper.experiment.spec import Model
from rpc_wrapper.planner.truncate import truncate_model
from rpc_wrapper.synthetic.shapes import SHAPES, resize
from rpc_wrapper.synthetic.writer import write_model


@dataclass(frozen=True, slots=True)
class Models:
    """Where made models are kept, and the folder that files of models are relative to."""

    folder: Path
    beside: Path

    def path(self, model: Model, cell: Cell) -> Path:
        """Return a cell's model, made now if it is not there; raise ConfigError or GGUFError."""
        whole = self._file(model, cell) if model.file is not None else self._synthetic(model, cell.quant)
        return self._truncated(whole, cell.keep_layers) if cell.keep_layers else whole

    def _file(self, model: Model, cell: Cell) -> Path:
        path = (self.beside / str(model.file).format(quant=cell.quant)).expanduser()
        if not path.is_file():
            raise ConfigError(f"{path} is missing: put the model {cell.model!r} there, or give it a shape")
        return path

    def _synthetic(self, model: Model, quant: str) -> Path:
        layers = f"-{model.layers}-blocks" if model.layers else ""
        vocab = f"-{model.vocab}-vocab" if model.vocab else ""
        path = self.folder / f"{model.shape}{layers}{vocab}-{quant}.gguf"
        if not path.exists():
            part = self._part(path)
            write_model(part, resize(SHAPES[str(model.shape)], model.layers, model.vocab), quant)
            part.replace(path)
        return path

    def _truncated(self, whole: Path, layers: int) -> Path:
        path = self.folder / f"{whole.stem}-first-{layers}.gguf"
        if not path.exists():
            truncate_model(whole, self._part(path), layers, overwrite=True)
            self._part(path).replace(path)
        return path

    def _part(self, path: Path) -> Path:
        """Return where a file grows, so that one of the final name is always whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return path.with_suffix(".making.gguf")
