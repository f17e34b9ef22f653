"""Capture and splice at any layer, and nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fact.networks.layers import (
    LayerError,
    capture,
    find_layer,
    from_positions,
    grid_shape,
    layer_names,
    run_until,
    splice,
    to_positions,
)
from tests.fact import tiny


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def encoded(network, count=2):
    return network.encode(tiny.images(count))


def test_names_are_all_parts_but_the_whole_and_containers_that_are_never_called():
    module = nn.Sequential(nn.Linear(2, 2), nn.Module())
    module[1].parts = nn.ModuleList([nn.ReLU()])
    assert layer_names(module) == ("0", "1", "1.parts.0")


def test_an_unknown_layer_names_the_nearest():
    with pytest.raises(
        LayerError, match=r"unknown layer 'features.9'; did you mean 'features\.\d'"
    ):
        find_layer(tiny.convnet().module, "features.9")


def test_the_whole_network_is_no_layer():
    with pytest.raises(LayerError, match="unknown layer ''"):
        find_layer(tiny.convnet().module, "")


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 6, 3), (2, 3)])
def test_positions_and_back_are_the_same(shape):
    output = torch.randn(shape)
    positions = to_positions(output)
    assert positions.shape[2] == 3
    assert torch.equal(from_positions(positions, like=output), output)


def test_positions_of_a_map_go_row_by_row():
    output = torch.randn(2, 3, 4, 5)
    positions = to_positions(output)
    for row in range(4):
        for column in range(5):
            assert torch.equal(positions[:, row * 5 + column], output[:, :, row, column])


def test_a_volume_is_refused():
    with pytest.raises(LayerError, match="expected"):
        to_positions(torch.zeros(1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((1, 3, 4, 5), (4, 5)), ((1, 9, 3), (3, 3)), ((1, 7, 3), (7, 1)), ((1, 3), (1, 1))],
)
def test_the_grid_of_maps_tokens_and_vectors(shape, grid):
    assert grid_shape(torch.zeros(shape)) == grid


def test_capture_sees_what_the_layer_puts_out():
    network = tiny.convnet()
    images = encoded(network)
    with capture(network.module, "features.1") as captured:
        network.module(images)
    expected = network.module.features[1](network.module.features[0](images))
    assert torch.equal(captured.output, expected)
    assert captured.positions.shape == (2, 16, 6)
    assert captured.grid == (4, 4)
    rows, columns = captured.cells(np.array([0, 3, 4, 15]))
    np.testing.assert_array_equal(rows, [0, 0, 1, 3])
    np.testing.assert_array_equal(columns, [0, 3, 0, 3])


class Twice(nn.Module):
    """A ReLU that is called twice, and what follows it."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)
        self.passed = 0

    def forward(self, x):
        hidden = self.relu(1 - self.relu(self.first(x)))
        self.passed += 1
        return self.last(hidden)


def test_a_pass_ends_at_the_last_call_of_the_layer():
    torch.manual_seed(0)
    network = Twice()
    for number, layer in enumerate(["relu", "first", "last", "first", "relu"]):
        x = torch.randn(4, 3)
        with capture(network, layer) as captured:
            network(x)
        network.passed = 0
        found = run_until(network, layer, x)
        assert torch.equal(found.output, captured.output)
        assert network.passed == (number < 3)  # of each layer one whole pass is seen
    with pytest.raises(LayerError, match="unknown layer 'relo'; did you mean 'relu'"):
        run_until(network, "relo", x)
    assert hooks(network) == 0


def test_capture_sees_tokens():
    network = tiny.vit()
    with capture(network.module, "0.transformer.encoder_1") as captured:
        network.module(encoded(network))
    assert captured.positions is captured.output
    assert captured.output.shape == (2, 4, 8)
    assert captured.grid == (2, 2)


def test_a_captured_leaf_has_the_gradient_of_what_follows():
    network = tiny.convnet()
    network.module.requires_grad_(False)
    with capture(network.module, "features.1", leaf=True) as captured:
        logits = network.logits(encoded(network))
    (gradient,) = torch.autograd.grad(logits.sum(), captured.output)
    assert captured.output.is_leaf
    assert gradient.abs().sum() > 0


def test_a_layer_that_was_not_reached_says_so():
    with (
        capture(tiny.convnet().module, "features.1") as captured,
        pytest.raises(LayerError, match=r"'features\.1' was not reached"),
    ):
        captured.output  # noqa: B018


@pytest.mark.parametrize(
    ("build", "layer"), [(tiny.convnet, "features.1"), (tiny.vit, "0.transformer.encoder_0")]
)
def test_a_splice_of_the_same_changes_nothing(build, layer):
    network = build()
    images = encoded(network)
    before = network.module(images)
    with splice(network.module, layer, lambda positions: positions) as captured:
        assert torch.equal(network.module(images), before)
    assert captured.output.shape[0] == 2


def test_a_splice_replaces_what_follows_sees():
    network = tiny.convnet()
    module, images = network.module, encoded(network)
    replacement = torch.randn(2, 16, 6, dtype=torch.float64)
    with splice(module, "features.1", lambda _: replacement) as captured:
        output = module(images)
    as_map = replacement.transpose(1, 2).reshape(2, 6, 4, 4).contiguous()
    expected = module.logit_layer(module.classifier(module.features[2](as_map)).mean((2, 3)))
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    assert torch.equal(captured.output, module.features[1](module.features[0](images)))


def test_a_replacement_of_another_shape_is_refused():
    network = tiny.convnet()
    with (
        splice(network.module, "features.1", lambda positions: positions[:, :5]),
        pytest.raises(LayerError, match=r"\(2, 5, 6\); expected \(2, 16, 6\)"),
    ):
        network.module(encoded(network))


@pytest.mark.parametrize("context", [capture, lambda m, n: splice(m, n, lambda x: x)])
def test_hooks_are_gone_after_an_exception(context):
    module = tiny.convnet().module
    before = hooks(module)

    def fail_inside():
        with context(module, "features.1"):
            assert hooks(module) == before + 1
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert hooks(module) == before


def test_hooks_are_gone_after_a_layer_that_fails():
    network = tiny.convnet()
    with pytest.raises(LayerError), splice(network.module, "features.1", lambda x: x[:1]):
        network.module(encoded(network))
    assert hooks(network.module) == 0


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize("context", [capture, lambda m, n: splice(m, n, lambda x: x)])
def test_a_layer_with_two_outputs_is_refused(context):
    module = nn.Sequential(Pair())
    message = "'0' puts out a tuple; expected one tensor"
    with context(module, "0"), pytest.raises(LayerError, match=message):
        module(torch.zeros(1, 2))
