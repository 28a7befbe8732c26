"""Stacks of recurrent cells, as recurrent autoencoders use them; imports only torch.

Sequences are time-major, `(steps, batch, features)`. In two directions each has a stack of its own, from
the first layer to the last; `nn.GRU(bidirectional=True)` would mix them after every layer. What the stacks
remember is one vector, so that the last state of one can be fed to a linear layer and its answer be the
first state of another: layer by layer, in it direction by direction, and of an LSTM the cell before the
hidden state.

Source: Freitag et al., "auDeep: Unsupervised Learning of Representations from Audio with Deep Recurrent
Neural Networks", JMLR 2018. There a GRU resets its state before the matrix product and has one bias a gate;
torch's resets after it and has two, which is 3·units weights more a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS: dict[str, Callable[[int, int], nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM}
State = tuple[Tensor, ...]
"""Of one layer, each `(batch, units)`: hidden state of a GRU, cell and hidden state of an LSTM."""


@dataclass(frozen=True)
class Cells:
    """How many cells of which kind."""

    kind: str = "gru"
    """``gru`` or ``lstm``."""
    layers: int = 2
    """Of each direction."""
    units: int = 256
    """Of each layer."""
    bidirectional: bool = False
    """Whether a second stack reads the sequence backwards."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"cell is {self.kind!r}; use gru or lstm")
        for name in ("layers", "units"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a whole number from 1")

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of a step's output."""
        return self.directions * self.units

    @property
    def state_size(self) -> int:
        """Length of the vector that holds all that the cells remember."""
        return self.layers * self.directions * self.units * (2 if self.kind == "lstm" else 1)


class Chain(nn.Module):
    """Layers of cells in one direction.

    Of what goes into a layer and of what comes out of it, each value is kept with `keep_prob` while training.
    Between two layers both meet, which is the same as keeping with its square.
    """

    def __init__(self, inputs: int, cells: Cells, keep_prob: float) -> None:
        """Build the layers for `inputs` features a step; ValueError unless 0 < `keep_prob` ≤ 1."""
        super().__init__()
        if not 0 < keep_prob <= 1:
            raise ValueError(f"keep_prob is {keep_prob}; it must lie in (0, 1]")
        sizes = [inputs] + [cells.units] * (cells.layers - 1)
        self.layers = nn.ModuleList(KINDS[cells.kind](size, cells.units) for size in sizes)
        last = [keep_prob**2] * (cells.layers - 1) + [keep_prob]
        self.keep = [keep_prob, *last]
        for layer in self.layers:
            initialise_cells(layer)  # type: ignore[arg-type]

    def forward(self, x: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """A sequence `(steps, batch, inputs)` → outputs `(steps, batch, units)`, each layer's last state."""
        finals: list[State] = []
        x = self._drop(x, 0)
        for place, (layer, state) in enumerate(zip(self.layers, states, strict=True), 1):
            if isinstance(layer, nn.LSTM):
                x, (hidden, cell) = layer(x, (state[1][None].contiguous(), state[0][None].contiguous()))
                finals.append((cell[0], hidden[0]))
            else:
                x, hidden = layer(x, state[0][None].contiguous())
                finals.append((hidden[0],))
            x = self._drop(x, place)
        return x, finals

    def step(self, x: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """One step of `forward`: `(batch, inputs)` → `(batch, units)` and each layer's next state."""
        following: list[State] = []
        x = self._drop(x, 0)
        for place, (layer, state) in enumerate(zip(self.layers, states, strict=True), 1):
            assert isinstance(layer, nn.RNNBase)
            weights = [
                getattr(layer, f"{kind}_l0") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            if isinstance(layer, nn.LSTM):
                x, cell = torch.lstm_cell(x, (state[1], state[0]), *weights)
                following.append((cell, x))
            else:
                x = torch.gru_cell(x, state[0], *weights)
                following.append((x,))
            x = self._drop(x, place)
        return x, following

    def _drop(self, x: Tensor, place: int) -> Tensor:
        drop = 1 - self.keep[place]
        return F.dropout(x, drop, self.training) if drop else x


class Recurrent(nn.Module):
    """Cells that read a sequence, in one direction or in both."""

    def __init__(self, inputs: int, cells: Cells, keep_prob: float = 1.0) -> None:
        """Build the cells for `inputs` features a step."""
        super().__init__()
        self.inputs, self.cells = inputs, cells
        self.chains = nn.ModuleList(Chain(inputs, cells, keep_prob) for _ in range(cells.directions))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a sequence.

        Args:
            x: `(steps, batch, inputs)`.
            state: `(batch, state_size)` before the first step; zeros if not given.

        Returns:
            Outputs `(steps, batch, output_size)`, of both directions side by side, and the state after the
            last step `(batch, state_size)`.
        """
        outputs, finals = [], []
        for way, (chain, states) in enumerate(zip(self.chains, self._apart(x, state), strict=True)):
            output, final = self._read(chain, x.flip(0) if way else x, states, way)
            outputs.append(output.flip(0) if way else output)
            finals.append(final)
        return torch.cat(outputs, dim=2), self._together(finals)

    def _read(
        self, chain: nn.Module, x: Tensor, states: Sequence[State], way: int
    ) -> tuple[Tensor, list[State]]:
        output, final = chain(x, states)
        return output, final

    def _apart(self, x: Tensor, state: Tensor | None) -> list[list[State]]:
        """The vector of all states → direction → layer → state."""
        cells = self.cells
        if state is None:
            state = x.new_zeros(x.shape[1], cells.state_size)
        parts = torch.split(state, cells.units, dim=1)
        of_cell = 2 if cells.kind == "lstm" else 1
        layers = [parts[k : k + of_cell] for k in range(0, len(parts), of_cell)]
        return [layers[way :: cells.directions] for way in range(cells.directions)]

    def _together(self, finals: list[list[State]]) -> Tensor:
        parts = [part for layer in zip(*finals, strict=True) for state in layer for part in state]
        return torch.cat(parts, dim=1)


class FeedingRecurrent(Recurrent):
    """Cells whose output is projected to the size of their input, so that it can be the next step's input.

    Each direction has a projection of its own with a hyperbolic tangent behind it.
    """

    def __init__(self, inputs: int, cells: Cells, keep_prob: float = 1.0, feed_previous: float = 0.0) -> None:
        """Build the cells; `feed_previous` is the probability of a step to hear the one before it instead of
        the sequence, drawn for each step of each example. ValueError unless it lies in [0, 1]."""
        super().__init__(inputs, cells, keep_prob)
        if not 0 <= feed_previous <= 1:
            raise ValueError(f"feed_previous_prob is {feed_previous}; it must lie in [0, 1]")
        self.feed_previous = feed_previous
        self.projections = nn.ModuleList(linear(cells.units, inputs) for _ in range(cells.directions))

    @property
    def output_size(self) -> int:
        """Features of a step's output."""
        return self.cells.directions * self.inputs

    def _read(
        self, chain: nn.Module, x: Tensor, states: Sequence[State], way: int
    ) -> tuple[Tensor, list[State]]:
        assert isinstance(chain, Chain)
        project = self.projections[way]
        # while training steps are drawn; an answer is either all the decoder's own or all led by the target
        share = self.feed_previous if self.training else float(self.feed_previous > 0)
        if not share:
            output, final = chain(x, states)
            return torch.tanh(project(output)), final
        steps, batch, _ = x.shape
        fed = torch.rand(steps, batch, 1, device=x.device) < share
        outputs: list[Tensor] = []
        current = list(states)
        for k in range(steps):
            heard = torch.where(fed[k], outputs[-1], x[k]) if k else x[0]
            output, current = chain.step(heard, current)
            outputs.append(torch.tanh(project(output)))
        return torch.stack(outputs), current


def initialise_cells(layer: nn.RNNBase) -> None:
    """Start a layer as TensorFlow's cells do, on which the published settings rest.

    Weights are Glorot's uniform over a gate block's input and state together; a GRU's reset and update gates
    and an LSTM's forget gate start with a bias of 1, so that a fresh cell remembers.
    """
    units, inputs = layer.hidden_size, layer.input_size
    gru = isinstance(layer, nn.GRU)
    blocks = ((2 * units, 0), (units, 2 * units)) if gru else ((4 * units, 0),)  # torch: r z n, i f g o
    with torch.no_grad():
        for width, first in blocks:
            bound = math.sqrt(6 / (inputs + units + width))
            for name in ("weight_ih_l0", "weight_hh_l0"):
                getattr(layer, name)[first : first + width].uniform_(-bound, bound)
        biases: list[Tensor] = [getattr(layer, name) for name in ("bias_ih_l0", "bias_hh_l0")]
        for bias in biases:
            bias.zero_()
        biases[0][0 if gru else units : 2 * units] = 1.0


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with Glorot's uniform weights and no bias at first."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def without_steps(x: Tensor, noise: float, training: bool) -> Tensor:
    """Zero whole steps of `(steps, batch, features)`, each with the probability `noise`, while training."""
    if not noise or not training:
        return x
    return torch.where(torch.rand(*x.shape[:2], 1, device=x.device) > noise, x, x.new_zeros(()))


def shifted(target: Tensor) -> Tensor:
    """What leads a decoder: at each step the target `(steps, …)` of the step before, at the first zeros."""
    return torch.cat([torch.zeros_like(target[:1]), target[:-1]])


@dataclass(frozen=True)
class Bands:
    """Windows along the frequency axis."""

    width: int
    """Bands in a window."""
    overlap: int
    """Bands that a window shares with the one before."""
    bands: int
    """Of the spectrogram."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.width:
            raise ValueError(
                f"window_overlap is {self.overlap}; it must lie between 0 and window_width {self.width}"
            )
        if self.width > self.bands:
            raise ValueError(
                f"window_width is {self.width}, but the spectrograms have {self.bands} bands; make it smaller"
            )

    @property
    def count(self) -> int:
        """Number of windows; bands above the last whole one are left out of what is heard."""
        return (self.bands - self.width) // (self.width - self.overlap) + 1

    def cut(self, x: Tensor) -> Tensor:
        """`(time, batch, bands)` → a sequence over frequency `(windows, time·batch, width)`."""
        return x.flatten(0, 1).unfold(1, self.width, self.width - self.overlap).transpose(0, 1)


def check_noise(noise: float, name: str = "encoder_noise") -> None:
    """Raise ValueError unless a probability of zeroing steps lies in [0, 1)."""
    if not 0 <= noise < 1:
        raise ValueError(f"{name} is {noise}; it must lie in [0, 1)")
