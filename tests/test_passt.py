"""PaSST against its published numbers, and patchout against what it promises.

``python tests/test_passt.py`` records the small fixture again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from edgeaudio.complexity import official
from edgeaudio.models.passt import PaSST

FIXTURE = zoo.FIXTURES / "passt.json"
TINY: dict[str, Any] = {
    "input_mels": 48, "input_frames": 66, "stride": (10, 12), "embed_dim": 24, "heads": 3, "depth": 2,
}  # fmt: skip
ROWS, COLUMNS = 4, 5  # its patch grid
SHAPE = (2, 1, 48, 66)
BLOCK = 7_087_872  # parameters of one published block


def tiny(**options: Any) -> PaSST:
    model = zoo.seeded(PaSST(5, **{**TINY, **options}))
    assert isinstance(model, PaSST)
    return model


def weightless(classes: int, **options: Any) -> PaSST:
    """A full-size network without memory for its 86 million weights."""
    with torch.device("meta"):
        return PaSST(classes, **options).eval()


def tokens(model: PaSST, x: Tensor) -> Tensor:
    """What enters the first block."""
    seen: list[Tensor] = []
    handle = model.blocks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("options", "classes", "frames", "params", "macs"),
    [
        ({}, 527, 998, 86_153_758, 127_407_770_880),
        ({"input_frames": 100}, 10, 100, 85_290_260, 9_587_080_704),
        ({}, 10, 100, 85_358_612, 9_587_080_704),  # ten-second embeddings, one-second clips
        ({"depth": 7}, 527, 998, 50_714_398, 74_418_689_280),
        ({"stride": (16, 16)}, 527, 998, 86_122_270, 46_966_590_720),
    ],
)
def test_published_sizes(options: dict[str, Any], classes: int, frames: int, params: int, macs: int) -> None:
    model = weightless(classes, **options)
    assert sum(p.numel() for p in model.parameters()) == params
    assert sum(p.numel() for p in model.blocks[0].parameters()) == BLOCK
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.empty(1, 1, 128, frames, device="meta"))
    assert flops.get_total_flops() // 2 == macs  # attention is seen by the counter


@pytest.mark.parametrize(
    ("classes", "input_frames", "macs"), [(527, 998, 319_945_487), (10, 100, 106_381_834)]
)
def test_official_macs(classes: int, input_frames: int, macs: int) -> None:
    """Counted on one block: the official counter sees each further one as its parameters, once."""
    model = PaSST(classes, input_frames=input_frames, depth=1)
    count = official(model, (1, 1, 128, input_frames))
    assert count.macs + 11 * BLOCK == macs


def test_answers_as_published() -> None:
    entries, recorded = zoo.published_checkpoint("passt_s_10s"), zoo.published_outputs("passt_s_10s")
    model = weightless(527)
    model.load_state_dict(PaSST.renamed(entries), strict=True, assign=True)
    with torch.no_grad():
        embedding = model.embed(torch.from_numpy(recorded["x"]))
        logits = model.classifier(embedding)
    zoo.assert_recorded(embedding, recorded["embedding"])
    zoo.assert_recorded(logits, recorded["logits"])


def test_small_network_answers_as_recorded() -> None:
    x = zoo.seeded_input(SHAPE)
    with torch.no_grad():
        zoo.assert_fixture("logits", tiny()(x), FIXTURE)
        zoo.assert_fixture("embedding", tiny().embed(x), FIXTURE)


def test_published_names_are_understood_and_ours_stay() -> None:
    ours = tiny().state_dict()
    theirs = {key.replace("classifier.", "head."): value for key, value in ours.items()}
    assert {"head.0.weight", "head.1.weight", "head_dist.weight"} <= set(theirs)
    assert PaSST.renamed(theirs).keys() == ours.keys() == PaSST.renamed(ours).keys()


def test_entries_that_depend_on_the_task_are_named() -> None:
    ours = tiny().state_dict()
    other = PaSST(7, **{**TINY, "in_channels": 2, "input_mels": 58, "input_frames": 78}).state_dict()
    differ = {key for key in ours if ours[key].shape != other[key].shape}
    heads = {key for key in ours if key.startswith(PaSST.head)}
    assert differ == {*heads, *PaSST.first_weights, *PaSST.positions}
    assert "device_proxy".startswith(PaSST.foreign)


def test_unused_head_gets_no_gradient_and_all_else_does() -> None:
    model = tiny()
    torch.autograd.backward(model(zoo.seeded_input(SHAPE)).square().sum())
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent == {"head_dist.weight", "head_dist.bias"}


def test_structured_patchout_takes_whole_rows_and_columns_of_all_clips() -> None:
    x = zoo.seeded_input(SHAPE)
    model = tiny(s_patchout_t=2, s_patchout_f=1)
    everything = tokens(model, x)
    model.train()
    torch.manual_seed(3)
    left = tokens(model, x)
    grid = everything[:, 2:].reshape(2, ROWS, COLUMNS, -1)
    places = [
        [torch.equal(left[:, 2 + i], grid[:, row, column]) for i in range(left.shape[1] - 2)]
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    found = torch.tensor(places)  # (place in the grid, token)
    assert left.shape[1] == 2 + (ROWS - 1) * (COLUMNS - 2)
    assert (found.sum(0) == 1).all()  # every token comes from the grid, in both clips from the same place
    order = found.int().argmax(0)
    assert (order.diff() > 0).all()
    kept = found.any(1).reshape(ROWS, COLUMNS)
    assert torch.equal(kept, kept.any(1)[:, None] & kept.any(0)[None])  # whole rows, whole columns
    assert torch.equal(left[:, :2], everything[:, :2])  # the special tokens stay


@pytest.mark.parametrize(
    ("options", "left"),
    [({"s_patchout_f": 6}, 56), ({"u_patchout": 30}, 80), ({"s_patchout_t": 2, "u_patchout": 4}, 82)],
)
def test_patchout_counts_at_one_second(options: dict[str, Any], left: int) -> None:
    small: dict[str, Any] = {"embed_dim": 6, "heads": 1, "depth": 1}
    model = PaSST(10, input_frames=100, **small, **options).eval()
    x = torch.zeros(1, 1, 128, 100)
    assert tokens(model, x).shape[1] == 110
    assert tokens(model.train(), x).shape[1] == left


def test_patchout_follows_torchs_generator() -> None:
    model, x = tiny(u_patchout=9).train(), zoo.seeded_input(SHAPE)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(model(x).detach())
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_short_clip_takes_first_columns_and_any_in_training() -> None:
    model = tiny()
    x = zoo.seeded_input((1, 1, 48, 40))  # three columns of five
    plain = model.patch_embed(x) + model.freq_new_pos_embed
    time = model.time_new_pos_embed
    shifted = [(plain + time[..., i : i + 3]).flatten(2).transpose(1, 2) for i in range(3)]
    torch.testing.assert_close(tokens(model, x)[:, 2:], shifted[0])
    model.train()
    torch.manual_seed(0)
    starts = [
        next(i for i in range(3) if torch.allclose(seen, shifted[i]))
        for seen in (tokens(model, x)[:, 2:] for _ in range(30))
    ]
    assert set(starts) == {0, 1, 2}


def test_of_a_long_clip_the_beginning_is_heard() -> None:
    model, x = tiny(), zoo.seeded_input((1, 1, 48, 200))
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(x[..., :66]))


def test_fewer_mels_are_answered_and_more_refused() -> None:
    model = tiny()
    assert model(zoo.seeded_input((1, 1, 30, 66))).shape == (1, 5)
    with pytest.raises(ValueError, match="5 rows of patches, 4 are known"):
        model(zoo.seeded_input((1, 1, 60, 66)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"heads": 5}, "multiple of the 5 heads"),
        ({"input_mels": 15}, "input_mels is 15"),
        ({"input_frames": 9}, "at least 16"),
        ({"stride": 10}, "write \\[frequency, time\\]"),
        ({"stride": (10, 17)}, "parts of the sound are lost"),
        ({"s_patchout_t": 5}, "s_patchout_t is 5; the patches leave room for 0 to 4"),
        ({"s_patchout_f": -1}, "s_patchout_f is -1"),
        ({"s_patchout_t": 4, "u_patchout": 4}, "u_patchout is 4"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaSST(5, **{**TINY, **options})


def test_patchout_of_too_short_a_clip_is_a_sentence() -> None:
    model = tiny(s_patchout_t=3).train()
    with pytest.raises(ValueError, match="s_patchout_t is 3, but this input leaves only 3"):
        model(zoo.seeded_input((1, 1, 48, 40)))


def test_exports(tmp_path: Path) -> None:
    zoo.assert_exports(tiny(), zoo.seeded_input((2, 1, 48, 52)), tmp_path / "passt.onnx")


if __name__ == "__main__":
    with torch.no_grad():
        noise = zoo.seeded_input(SHAPE)
        recording = {"logits": tiny()(noise).tolist(), "embedding": tiny().embed(noise).tolist()}
    FIXTURE.write_text(json.dumps(recording) + "\n")
