"""Autoencoders against parameter counts by formula, a float64 GRU in NumPy, and what each option must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.config import ModelSpec
from edgeaudio.errors import RecipeError
from edgeaudio.features.autoencoders import AUTOENCODERS, build, train_defaults
from edgeaudio.models.conv_autoencoder import ConvAutoencoder
from edgeaudio.models.joint_autoencoder import JointAutoencoder
from edgeaudio.models.layers import Autoencoder
from edgeaudio.models.recurrent import (
    Bands,
    Cells,
    Chain,
    FeedingRecurrent,
    Recurrent,
    shifted,
    without_steps,
)
from edgeaudio.models.recurrent_autoencoder import FrequencyAutoencoder, TimeAutoencoder

Array = NDArray[np.float64]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def gru(inputs: int, units: int) -> int:
    """Weights of a GRU with one bias a gate."""
    return 3 * (units * (inputs + units) + units)


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def sounds(batch: int = 3, frames: int = 10, bands: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, frames, bands, generator=generator) * 2 - 1


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────


def test_the_published_t_rae_has_1024_features_and_its_count_of_weights() -> None:
    model = TimeAutoencoder(124, 128, layers=2, units=256, bidirectional_decoder=True)
    stack = gru(128, 256) + gru(256, 256)
    by_formula = 3 * stack + linear(512, 1024) + linear(512, 128)
    assert by_formula == 2_659_968
    second_biases = 6 * 3 * 256  # of six layers
    assert parameters(model) == by_formula + second_biases
    assert model.encode(torch.zeros(2, 124, 128)).shape == (2, 1024)


def test_a_t_rae_in_one_direction_has_a_projection_more() -> None:
    model = TimeAutoencoder(50, 20, layers=1, units=8)
    assert parameters(model) == 2 * (gru(20, 8) + 24) + linear(8, 8) + linear(8, 20) + linear(20, 20)


def test_f_rae_counts() -> None:
    model = FrequencyAutoencoder(50, 128, layers=1, units=16)
    assert model.windows.count == 13  # (128 − 32) // 8 + 1
    expected = 2 * (gru(32, 16) + 48) + linear(16, 16) + linear(16, 32) + linear(13 * 32, 128)
    assert parameters(model) == expected


def test_ft_rae_counts() -> None:
    model = JointAutoencoder(50, 128, f_units=8, t_units=12, t_layers=1, t_bidirectional_decoder=True)
    encoders = gru(32, 8) + 24 + gru(8, 12) + 36
    t_decoder = 2 * (gru(8, 12) + 36 + linear(12, 8))
    f_decoder = gru(32, 8) + 24 + linear(8, 32)
    rest = linear(12, 24) + linear(16, 8) + linear(13 * 32, 128)
    assert parameters(model) == encoders + t_decoder + f_decoder + rest


@pytest.mark.parametrize(("frames", "features"), [(51, 240), (31, 80), (16, 80)])
def test_conv_ae_counts_are_those_of_deep_audio_features(frames: int, features: int) -> None:
    model = ConvAutoencoder(frames, 128)
    assert parameters(model) == 2_181_899
    assert model.encode(torch.zeros(1, frames, 128)).shape == (1, features)
    given, target = model(torch.zeros(2, frames, 128))
    assert given.shape == target.shape == (2, frames, 128)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("decoder", [False, True])
def test_shapes(cell: str, encoder: bool, decoder: bool) -> None:
    x = sounds()
    ways = {"bidirectional_encoder": encoder, "bidirectional_decoder": decoder}
    size = 2 * 4 * (2 if decoder else 1) * (2 if cell == "lstm" else 1)
    over_time = TimeAutoencoder(10, 40, layers=2, units=4, cell=cell, **ways)
    over_frequency = FrequencyAutoencoder(10, 40, layers=2, units=4, cell=cell, **ways)
    joint = JointAutoencoder(
        10, 40, t_units=4, f_units=3, cell=cell,
        **{f"{axis}_{name}": way for axis in "tf" for name, way in ways.items()},
    )  # fmt: skip
    assert over_time.encode(x).shape == joint.encode(x).shape == (3, size)
    assert over_frequency.encode(x).shape == (3, 10, size)
    for model in (over_time, over_frequency, joint):
        given, target = model(x)
        assert given.shape == target.shape == x.shape
        given.sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.dim() > 1)


def test_targets_are_turned_round() -> None:
    x = torch.arange(2 * 16 * 40, dtype=torch.float32).reshape(2, 16, 40) / 1e4
    for cls, expected in (
        (TimeAutoencoder, x.numpy()[:, ::-1]),
        (FrequencyAutoencoder, x.numpy()[:, :, ::-1]),
        (JointAutoencoder, x.numpy()[:, ::-1, ::-1]),
        (ConvAutoencoder, x.numpy()),
    ):
        np.testing.assert_array_equal(cls(16, 40).eval()(x)[1].numpy(), expected)


def test_a_decoder_is_led_by_the_step_before() -> None:
    target = torch.arange(1.0, 7).reshape(3, 2, 1)
    assert shifted(target).flatten().tolist() == [0, 0, 1, 2, 3, 4]


def test_windows_lie_along_frequency() -> None:
    x = torch.arange(2 * 3 * 11).reshape(2, 3, 11).float()  # time, batch, bands
    windows = Bands(4, 1, 11).cut(x)
    assert windows.shape == (3, 6, 4)
    assert windows[1, 4].tolist() == x[1, 1, 3:7].tolist()  # row 4 is frame 1 of sound 1


# ── against other code ───────────────────────────────────────────────────────────────────────────


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def numpy_gru(x: Array, weights: dict[str, Array], state: Array) -> tuple[Array, Array]:
    """`(steps, batch, inputs)` → outputs and last state, in float64."""
    outputs = []
    for step in x:
        from_input = step @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        from_state = state @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        (ir, iz, i_n), (hr, hz, hn) = np.split(from_input, 3, 1), np.split(from_state, 3, 1)
        update = sigmoid(iz + hz)
        state = (1 - update) * np.tanh(i_n + sigmoid(ir + hr) * hn) + update * state
        outputs.append(state)
    return np.stack(outputs), state


def numpy_lstm(x: Array, weights: dict[str, Array], state: tuple[Array, Array]) -> tuple[Array, ...]:
    outputs, (cell, hidden) = [], state
    for step in x:
        gates = step @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        gates = gates + hidden @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        i, f, g, o = np.split(gates, 4, 1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs), cell, hidden


def weights_of(layer: nn.Module) -> dict[str, Array]:
    return {name: p.detach().double().numpy() for name, p in layer.named_parameters()}


def numpy_linear(layer: nn.Linear, x: Array) -> Array:
    weights = weights_of(layer)
    return np.asarray(x @ weights["weight"].T + weights["bias"])


def test_codes_and_reconstruction_equal_a_float64_gru() -> None:
    model = TimeAutoencoder(9, 12, layers=2, units=6, bidirectional_encoder=True).eval()
    x = sounds(4, 9, 12)
    heard = x.double().numpy().transpose(1, 0, 2)
    finals = []
    zero = np.zeros((4, 6))
    for chain, sequence in zip(model.encoder.chains, (heard, heard[::-1]), strict=True):
        of_way = []
        for layer in chain.layers:  # type: ignore[union-attr]
            sequence, final = numpy_gru(sequence, weights_of(layer), zero)
            of_way.append(final)
        finals.append(of_way)
    # the state: layer by layer, in it direction by direction
    state = np.concatenate([finals[0][0], finals[1][0], finals[0][1], finals[1][1]], axis=1)
    code = np.tanh(numpy_linear(model.code, state))
    np.testing.assert_allclose(model.encode(x).detach().numpy(), code, atol=1e-6)

    target = heard[::-1]
    led = np.concatenate([np.zeros_like(target[:1]), target[:-1]])
    (chain,) = model.decoder.chains
    for k, layer in enumerate(chain.layers):  # type: ignore[union-attr]
        led, _ = numpy_gru(led, weights_of(layer), code[:, 6 * k : 6 * k + 6])
    projected = np.tanh(numpy_linear(model.decoder.projections[0], led))  # type: ignore[arg-type, index]
    given = np.tanh(numpy_linear(model.output, projected)).transpose(1, 0, 2)
    np.testing.assert_allclose(model(x)[0].detach().numpy(), given, atol=1e-6)


def test_an_lstm_starts_from_and_leaves_cell_and_hidden_state() -> None:
    cells = Cells("lstm", layers=1, units=5, bidirectional=True)
    recurrent = Recurrent(3, cells).eval()
    x, state = sounds(2, 3, 3).transpose(0, 1), sounds(2, 1, 20)[:, 0]
    output, final = recurrent(x, state)
    parts = state.double().numpy().reshape(2, 2, 2, 5)  # batch, direction, (cell, hidden), units
    outs, ends = [], []
    for way, chain in enumerate(recurrent.chains):
        sequence = x.double().numpy()[:: -1 if way else 1]
        out, cell, hidden = numpy_lstm(
            sequence, weights_of(chain.layers[0]), (parts[:, way, 0], parts[:, way, 1])  # type: ignore[index, union-attr]
        )  # fmt: skip
        outs.append(out[:: -1 if way else 1])
        ends += [cell, hidden]
    np.testing.assert_allclose(output.detach().numpy(), np.concatenate(outs, axis=2), atol=1e-6)
    np.testing.assert_allclose(final.detach().numpy(), np.concatenate(ends, axis=1), atol=1e-6)


def test_a_state_fed_back_goes_to_the_cells_it_came_from() -> None:
    cells = Cells("lstm", layers=2, units=4, bidirectional=False)
    recurrent = Recurrent(3, cells).eval()
    x = sounds(2, 8, 3).transpose(0, 1)
    _, whole = recurrent(x)
    _, half = recurrent(x[:5])
    torch.testing.assert_close(recurrent(x[5:], half)[1], whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_step_by_step_is_the_same_as_at_once(kind: str) -> None:
    cells = Cells(kind, layers=2, units=4)
    chain = Chain(3, cells, 1.0)
    x = sounds(2, 6, 3).transpose(0, 1)
    states = [tuple(torch.zeros(2, 4) for _ in range(1 if kind == "gru" else 2)) for _ in range(2)]
    at_once, final = chain(x, states)
    outputs = []
    for step in x:
        output, states = chain.step(step, states)  # type: ignore[operator]
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), at_once, atol=1e-6, rtol=0)
    torch.testing.assert_close(states[1][0], final[1][0], atol=1e-6, rtol=0)


# ── what options do ──────────────────────────────────────────────────────────────────────────────


def test_a_decoder_that_feeds_itself_hears_nothing_of_the_target() -> None:
    decoder = FeedingRecurrent(3, Cells("gru", 1, 4), feed_previous=1.0)
    state = sounds(2, 1, 4)[:, 0]
    x, other = sounds(2, 6, 3).transpose(0, 1), -sounds(2, 6, 3).transpose(0, 1)
    x[0] = other[0] = 0  # the first step has nothing before it
    for training in (False, True):
        decoder.train(training)
        torch.testing.assert_close(decoder(x, state)[0], decoder(other, state)[0])
    # by hand: each step hears the last one's projection
    heard, current, outputs = torch.zeros(2, 3), [(state,)], []
    for _ in range(6):
        output, current = decoder.chains[0].step(heard, current)  # type: ignore[operator]
        heard = torch.tanh(decoder.projections[0](output))
        outputs.append(heard)
    torch.testing.assert_close(decoder(x, state)[0], torch.stack(outputs))


def test_a_decoder_that_never_feeds_itself_hears_the_target_alone() -> None:
    led = FeedingRecurrent(3, Cells("gru", 1, 4), feed_previous=0.0)
    drawn = FeedingRecurrent(3, Cells("gru", 1, 4), feed_previous=1e-9).train()  # steps, none of them fed
    drawn.load_state_dict(led.state_dict())
    x, state = sounds(2, 6, 3).transpose(0, 1), sounds(2, 1, 4)[:, 0]
    torch.testing.assert_close(drawn(x, state)[0], led(x, state)[0], atol=1e-6, rtol=0)


def test_the_drawn_share_of_steps_is_fed() -> None:
    decoder = FeedingRecurrent(1, Cells("gru", 1, 1), feed_previous=0.25).train()
    torch.manual_seed(0)
    x = torch.full((200, 20, 1), 5.0)
    heard: list[Tensor] = []
    step = decoder.chains[0].step
    decoder.chains[0].step = lambda x, states: heard.append(x) or step(x, states)  # type: ignore[assignment, func-returns-value, operator]
    decoder(x)
    share = float((torch.stack(heard[1:]) != 5.0).float().mean())
    assert share == pytest.approx(0.25, abs=0.02)  # 4 standard deviations


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (TimeAutoencoder, {"keep_prob": 0.5}),
        (TimeAutoencoder, {"keep_prob": 1.0, "encoder_noise": 0.5}),
        (FrequencyAutoencoder, {"keep_prob": 1.0, "encoder_noise": 0.5}),
        (JointAutoencoder, {"keep_prob": 1.0, "f_encoder_noise": 0.5}),
        (JointAutoencoder, {"keep_prob": 1.0, "t_encoder_noise": 0.5}),
        (JointAutoencoder, {"keep_prob": 0.5}),
    ],
)
def test_noise_and_dropout_act_while_training_only(
    cls: Callable[..., Autoencoder], options: dict[str, Any]
) -> None:
    model, x = cls(16, 40, **options), sounds(2, 16, 40)
    model.eval()
    assert torch.equal(model.encode(x), model.encode(x))
    model.train()
    assert not torch.allclose(model.encode(x), model.encode(x))


def test_noise_zeroes_whole_steps_of_single_examples() -> None:
    torch.manual_seed(0)
    kept = (without_steps(torch.ones(100, 30, 5), 0.3, True) != 0).float()
    assert torch.equal(kept.min(dim=2).values, kept.max(dim=2).values)
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.035)  # 4 standard deviations
    assert 0 < float(kept[:, 0, 0].mean()) < 1
    assert 0 < float(kept[0, :, 0].mean()) < 1


def test_between_two_layers_values_are_dropped_twice() -> None:
    chain = Chain(3, Cells("gru", 3, 4), 0.8)
    assert chain.keep == pytest.approx([0.8, 0.64, 0.64, 0.8])
    torch.manual_seed(0)
    chain.train()
    kept = chain._drop(torch.ones(400, 100), 1)
    assert sorted(set(kept.flatten().tolist())) == pytest.approx([0, 1 / 0.64])
    assert float((kept > 0).float().mean()) == pytest.approx(0.64, abs=0.01)


def test_a_fresh_cell_remembers_as_tensorflows() -> None:
    layer = Chain(8, Cells("gru", 1, 16), 1.0).layers[0]
    assert isinstance(layer, nn.GRU)
    assert layer.bias_ih_l0.tolist() == [1.0] * 32 + [0.0] * 16
    gates, candidate = layer.weight_hh_l0[:32], layer.weight_hh_l0[32:]
    for block, bound in ((gates, (6 / (24 + 32)) ** 0.5), (candidate, (6 / (24 + 16)) ** 0.5)):
        assert 0.9 * bound < float(block.detach().abs().max()) <= bound
    lstm = Chain(8, Cells("lstm", 1, 16), 1.0).layers[0]
    assert lstm.bias_ih_l0.tolist() == [0.0] * 16 + [1.0] * 16 + [0.0] * 32  # type: ignore[union-attr, operator]


# ── wrong options ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("t-rea", {}, "did you mean 't-rae'"),
        ("t-rae", {"unit": 3}, "did you mean 'units'"),
        ("t-rae", {"units": 0}, "units is 0"),
        ("t-rae", {"units": 3.5}, "must be of type int"),
        ("t-rae", {"cell": "rnn"}, "use gru or lstm"),
        ("t-rae", {"keep_prob": 0}, r"must lie in \(0, 1\]"),
        ("t-rae", {"encoder_noise": 1.0}, "encoder_noise is 1.0"),
        ("t-rae", {"bidirectional_decoder": True, "feed_previous_prob": 0.5}, "can't feed itself"),
        ("f-rae", {"window_overlap": 32}, "window_overlap is 32"),
        ("f-rae", {"window_width": 200}, "have 128 bands"),
        ("ft-rae", {"t_feed_previous_prob": 2.0}, "feed_previous_prob is 2.0"),
        ("conv-ae", {"kernel": 4}, "must be odd"),
        ("conv-ae", {"first_channels": 0}, "first_channels is 0"),
    ],
)
def test_impossible_options_are_one_sentence(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        build(ModelSpec(name, options), 50, 128)


def test_too_small_for_the_convolutions() -> None:
    with pytest.raises(RecipeError, match="too small"):
        build(ModelSpec("conv-ae"), 12, 128)


def test_each_autoencoder_has_a_training() -> None:
    for name in AUTOENCODERS:
        assert train_defaults(name)["epochs"] == 10
    assert train_defaults("t-rae")["gradient_clip_value"] == 2.0
    assert train_defaults("conv-ae")["optimizer"] == "adamw"
