# Copyright 2026 the lednet_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Tests of the segmenter, against the same steps done plainly."""

from collections.abc import Callable
from dataclasses import replace
import gc
from pathlib import Path
from typing import Any
import weakref

import cv2
from lednet_ros.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from lednet_ros.inference.backends.base import ConfigurationError, Wanted
from lednet_ros.inference.backends.torch_eager import TorchBackend
from lednet_ros.inference.encodings import Frame, FrameError
from lednet_ros.inference.options import Crop, find_region, SegmenterOptions
from lednet_ros.inference.segmenter import Segmenter
from lednet_ros.labels import LabelMapError, UNLABELED
from lednet_ros.models import build_network, load_network
from lednet_ros.synthetic import StreetScene
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
import yaml

Pixels = NDArray[np.uint8]
MakeWeights = Callable[..., dict[str, Tensor]]
EAGER: dict[str, Any] = {'device': 'cpu', 'backend': 'torch_eager'}
WINNER = 'decoder.apn.branch1.1.conv.1.bias'


def make_frame(height: int, width: int, seed: int = 0) -> Pixels:
    """Return colored blocks with noise, so that different classes win in different places."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 206, (4, 6, 3), np.uint8)
    frame = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
    return frame + rng.integers(0, 50, frame.shape, np.uint8)


def segment_plainly(
    checkpoint: Checkpoint, frame: Pixels, size: tuple[int, int] | None = None
) -> tuple[Pixels, NDArray[np.float64], NDArray[np.bool_]]:
    """
    Segment an RGB frame step by step, in float64.

    Gives the labels, the confidence (0..255) and where the winner is clear enough that rounding
    in float32 can't change it.
    """
    height, width = checkpoint.input_size
    network = load_network(checkpoint, 'test').double().eval()
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    image = (small / 255 - checkpoint.mean) / checkpoint.std
    with torch.inference_mode():
        scores = network.scores(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))
        full = torch.nn.functional.interpolate(
            scores[:, :checkpoint.label_map.num_classes],
            size=size or frame.shape[:2],
            mode='bilinear',
            align_corners=True,
        )[0]
    best = full.topk(2, dim=0).values
    return (
        full.argmax(dim=0).numpy().astype(np.uint8),
        255 * full.softmax(dim=0).amax(dim=0).numpy(),
        (best[0] - best[1] > 1e-3).numpy(),
    )


@pytest.fixture
def segmenter(small_content: Checkpoint) -> Segmenter:
    return Segmenter(small_content, **EAGER)


# --- Crop -----------------------------------------------------------------------------------


@pytest.mark.parametrize('output_size', [None, (60, 52)])
@pytest.mark.parametrize(
    ('crop', 'backend'),
    [
        ((0.25, 0.1, 0.0, 0.0), 'torch_eager'),
        pytest.param((0.25, 0.1, 0.0, 0.0), 'openvino', marks=pytest.mark.slow),
        ((0.0, 0.2, 0.25, 0.3), 'torch_eager'),
        ((0.0, 0.2, 0.25, 0.3), 'openvino'),
    ],
)
def test_what_is_cropped_is_not_seen_and_not_labeled(
    small_content: Checkpoint, crop: Crop, output_size: tuple[int, int] | None, backend: str
) -> None:
    if backend == 'openvino':
        pytest.importorskip('openvino')
    content = replace(small_content, input_size=(128, 192))
    segmenter = Segmenter(
        content, device='cpu', backend=backend, precision='fp32', crop=crop,
        output_size=output_size, overlay_alpha=1.0,
    )
    frames = [make_frame(120, 160), make_frame(97, 131, 1)]
    result = segmenter.segment(frames, color=True)
    assert result.confidence is not None
    assert result.overlay is not None
    assert result.color is not None
    for index, frame in enumerate(frames):
        rows, columns = find_region(crop, frame.shape[:2])
        size = output_size or frame.shape[:2]
        inside = find_region(crop, size)
        height, width = (part.stop - part.start for part in inside)
        part = Segmenter(
            content, device='cpu', backend=backend, precision='fp32', overlay_alpha=1.0,
            input_size=segmenter.input_size, output_size=(height, width),
        ).segment(np.ascontiguousarray(frame[rows, columns]))
        assert part.confidence is not None
        outside = np.ones(size, bool)
        outside[inside] = False
        assert outside.any()
        labels = result.labels[index]
        assert labels.shape == size
        # Alone and in a batch, networks round differently.
        assert (labels[inside] == part.labels[0]).mean() > 0.999
        difference = result.confidence[index][inside].astype(int) - part.confidence[0]
        assert np.abs(difference).max() <= 1
        assert (labels[outside] == UNLABELED).all()
        assert not result.confidence[index][outside].any()
        assert not result.color[index][outside].any()
        shown = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(result.overlay[index][outside], shown[outside])
        palette = segmenter.label_map.palette
        np.testing.assert_array_equal(result.overlay[index][~outside], palette[labels[~outside]])
    # Without a crop, as for comparing backends, the whole frame is labeled; then again a part.
    with segmenter.plain():
        assert UNLABELED not in segmenter.segment(frames).labels[0]
    np.testing.assert_array_equal(
        segmenter.segment(frames).labels[0] == UNLABELED, result.labels[0] == UNLABELED
    )


def test_the_network_takes_a_view_of_the_frame(small_content: Checkpoint) -> None:
    seen: list[Pixels] = []

    class Backend(TorchBackend):
        def run(self, frames: Any, *others: Any) -> None:
            seen.extend(frame.pixels for frame in frames)
            super().run(frames, *others)

    options = SegmenterOptions(**EAGER, precision='fp32', crop=(0.5, 0, 0, 0), input_size=(64, 96))
    network = load_network(small_content, 'test')
    segmenter = Segmenter(
        small_content, options, backend=lambda: Backend(network, small_content, options)
    )
    frame = make_frame(128, 192)
    segmenter.segment(frame)
    assert np.shares_memory(seen[0], frame)
    np.testing.assert_array_equal(seen[0], frame[64:])


# --- Merged classes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('backend', 'precision', 'tolerance', 'agreement'),
    [
        ('torch_eager', 'fp32', 1e-5, 0.999),
        ('torch_eager', 'bf16', 0.2, 0.97),
        ('openvino', 'fp32', 1e-4, 0.999),
        ('openvino', 'int8', 0.5, 0.9),
    ],
)
def test_probabilities_of_merged_classes_are_added(
    merged: Path, backend: str, precision: str, tolerance: float, agreement: float
) -> None:
    if backend == 'openvino':
        pytest.importorskip('openvino')
    content = replace(load_checkpoint('lednet'), input_size=(96, 128))
    frame = StreetScene(160, 120, seed=5).render(1.0)[0]
    network = load_network(content, 'test').double().eval()
    small = cv2.resize(frame, (128, 96), interpolation=cv2.INTER_LINEAR)
    image = ((small / 255 - content.mean) / content.std).transpose(2, 0, 1)[None].copy()
    with torch.inference_mode():
        probabilities = network.scores(torch.from_numpy(image)).softmax(dim=1)[0]
    groups = [3, 4], [8], [9, 10], [0, 1, 2, 5, 6, 7]
    expected = torch.stack([probabilities[group].sum(dim=0) for group in groups])
    segmenter = Segmenter(
        content, device='cpu', backend=backend, precision=precision, classes=str(merged)
    )
    result = segmenter.segment(frame)
    found = torch.from_numpy(segmenter.last_logits()[0]).permute(2, 0, 1).softmax(dim=0)
    assert (found - expected).abs().max() < tolerance
    full = torch.nn.functional.interpolate(
        expected.log()[None], size=frame.shape[:2], mode='bilinear', align_corners=True
    )[0].softmax(dim=0)
    best, winner = (array.numpy() for array in full.max(dim=0))
    labels = np.array([7, 0, 200, UNLABELED], np.uint8)[winner]
    labels[(labels == 200) & (best < 0.6)] = UNLABELED
    assert (result.labels[0] == labels).mean() > agreement
    assert set(np.unique(labels)) == {0, 7, 200, UNLABELED}
    assert result.confidence is not None
    assert np.abs(result.confidence[0] - 255 * best).mean() < 255 * tolerance + 1
    # Summed at the full resolution, they are nearly the same.
    at_full_size = torch.nn.functional.interpolate(
        probabilities.log()[None], size=frame.shape[:2], mode='bilinear', align_corners=True
    )[0].softmax(dim=0)
    sums = torch.stack([at_full_size[group].sum(dim=0) for group in groups])
    assert (sums.argmax(dim=0).numpy() == winner).mean() > 0.98


def test_results_have_names_ids_and_colors_of_merged_classes(
    small_content: Checkpoint, merged: Path
) -> None:
    segmenter = Segmenter(small_content, **EAGER, classes=str(merged), overlay_alpha=1.0)
    assert segmenter.label_map.names == ('ground', 'car', 'people')
    frame = make_frame(64, 96)
    result = segmenter.segment(frame, color=True)
    labels = result.labels[0].copy()
    assert result.overlay is not None
    assert result.color is not None
    for label, number in (((1, 2, 3), 7), ((64, 0, 128), 0), ((0, 0, 0), UNLABELED)):
        assert (result.color[0][labels == number] == label).all()
    left_out = labels == UNLABELED
    np.testing.assert_array_equal(result.overlay[0][left_out], frame[left_out])
    np.testing.assert_array_equal(result.overlay[0][~left_out], result.color[0][~left_out])
    # Where a class has a threshold of its own, it replaces that of all.
    segmenter.update(min_confidence=1.0, overlay_classes=('ground',))
    again = segmenter.segment(frame).labels[0]
    assert 0 not in again
    assert (again == 200).any()
    np.testing.assert_array_equal(again == 200, labels == 200)
    with pytest.raises(LabelMapError, match=r"unknown class 'road'.*ground, car, people"):
        segmenter.update(overlay_classes=('road',))


@pytest.mark.parametrize('order', [1, -1])
def test_classes_that_are_only_renumbered_cost_nothing(
    small_content: Checkpoint, tmp_path: Path, order: int
) -> None:
    entries = [
        {'id': 20 + index, 'name': name}
        for index, name in enumerate(small_content.label_map.names)
    ][::order]
    path = tmp_path / 'renumbered.yaml'
    path.write_text(yaml.safe_dump({'classes': entries}), encoding='utf-8')
    segmenter = Segmenter(small_content, **EAGER, classes=str(path))
    frame = make_frame(64, 96)
    labels = segmenter.segment(frame).labels[0]
    np.testing.assert_array_equal(
        labels, Segmenter(small_content, **EAGER).segment(frame).labels[0] + 20
    )
    network = load_network(small_content, 'test', groups=segmenter.label_map.groups)
    assert isinstance(network.merge, torch.nn.Identity) == (order == 1)


# --- Results --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('frame_size', 'output_size'),
    [
        ((64, 96), None),
        ((128, 192), None),
        ((97, 65), None),
        ((33, 211), None),
        ((1, 1), None),
        ((97, 65), (51, 77)),
        ((97, 65), (1, 1)),
    ],
)
def test_results_equal_the_plain_steps(
    small_content: Checkpoint, frame_size: tuple[int, int], output_size: tuple[int, int] | None
) -> None:
    frame = make_frame(*frame_size)
    segmenter = Segmenter(small_content, **EAGER, output_size=output_size)
    result = segmenter.segment(frame)
    labels, confidence, clear = segment_plainly(small_content, frame, output_size)
    assert result.confidence is not None
    assert result.overlay is not None
    assert result.labels[0].shape == labels.shape
    assert result.labels[0].dtype == result.confidence[0].dtype == np.uint8
    np.testing.assert_array_equal(result.labels[0][clear], labels[clear])
    assert clear.mean() > 0.99
    assert np.abs(result.confidence[0] - confidence).max() < 2
    assert result.overlay[0].shape == (*labels.shape, 3)
    if labels.size > 1000:
        assert len(np.unique(labels)) > 5


@pytest.mark.parametrize('network', ['lednet', 'lednet_heavy'])
def test_other_input_sizes(
    small_content: Checkpoint, make_weights: MakeWeights, network: str
) -> None:
    content = replace(
        small_content,
        network=network,
        state_dict=make_weights(build_network(network, 11), 0, 6.0),
        input_size=(77, 131),
    )
    frame = make_frame(60, 80)
    labels, _, clear = segment_plainly(content, frame)
    own = Segmenter(content, **EAGER)
    asked = Segmenter(
        replace(content, input_size=(64, 64)), **EAGER, input_size=(77, 131)
    )
    assert own.input_size == asked.input_size == (77, 131)
    for segmenter in (own, asked):
        np.testing.assert_array_equal(segmenter.segment(frame).labels[0][clear], labels[clear])


def test_weights_of_half_precision_run_in_full_precision(
    small_content: Checkpoint, tmp_path: Path
) -> None:
    half = {
        key: value.half() if value.is_floating_point() else value
        for key, value in small_content.state_dict.items()
    }
    path = tmp_path / 'half.safetensors'
    save_checkpoint(replace(small_content, state_dict=half), path)
    segmenter = Segmenter.from_checkpoint(path, **EAGER)
    assert segmenter.precision == 'fp32'
    frame = make_frame(64, 96)
    labels, _, clear = segment_plainly(replace(small_content, state_dict=half), frame)
    np.testing.assert_array_equal(segmenter.segment(frame).labels[0][clear], labels[clear])


def test_color_orders_give_the_same_labels(segmenter: Segmenter) -> None:
    frame = make_frame(97, 65)
    plain = segmenter.segment([frame], color=True)
    assert plain.overlay is not None
    assert plain.color is not None
    labels, overlay, color = (x[0].copy() for x in (plain.labels, plain.overlay, plain.color))
    for pixels, order in ((frame, 'rgb'), (np.ascontiguousarray(frame[..., ::-1]), 'bgr')):
        result = segmenter.segment([Frame(pixels, order)], color=True)
        assert result.overlay is not None
        assert result.color is not None
        np.testing.assert_array_equal(result.labels[0], labels)
        ordered = result.overlay[0] if order == 'rgb' else result.overlay[0][..., ::-1]
        np.testing.assert_array_equal(ordered, overlay)
        np.testing.assert_array_equal(result.color[0], color)
    # The other order must matter, or the test shows nothing.
    assert (segmenter.segment([Frame(frame, 'bgr')]).labels[0] != labels).any()


def test_overlay_and_color_follow_from_the_labels(segmenter: Segmenter) -> None:
    frame = make_frame(64, 96)
    segmenter.overlay_alpha = 0.25
    result = segmenter.segment(frame, color=True)
    assert result.overlay is not None
    assert result.color is not None
    colors = segmenter.label_map.palette[result.labels[0]]
    np.testing.assert_array_equal(result.color[0], colors)
    assert np.abs(result.overlay[0] - (0.75 * frame + 0.25 * colors)).max() <= 0.501


def test_batch_of_different_frames_equals_single_frames(segmenter: Segmenter) -> None:
    frames: list[Pixels | Frame] = [
        make_frame(64, 96, 1),
        Frame(make_frame(97, 65, 2), 'bgr'),
        make_frame(33, 47, 3),
        Frame(make_frame(64, 96, 4), 'rgb'),
    ]
    single = [
        (result.labels[0].copy(), result.overlay[0].copy())
        for result in (segmenter.segment([frame]) for frame in frames)
        if result.overlay is not None
    ]
    batch = segmenter.segment(frames)
    assert batch.overlay is not None
    assert len(batch.labels) == len(batch.overlay) == 4
    for (labels, overlay), found, found_overlay in zip(
        single, batch.labels, batch.overlay, strict=True
    ):
        assert found.shape == labels.shape
        # Convolutions of another batch size may round near ties differently.
        assert (found == labels).mean() > 0.998
        assert (found_overlay == overlay).mean() > 0.998


def test_batch_may_shrink_and_grow(segmenter: Segmenter) -> None:
    frames = [make_frame(64, 96, seed) for seed in range(3)]
    expected = [x.copy() for x in segmenter.segment(frames).labels]
    for count in (1, 2, 3):
        result = segmenter.segment(frames[:count])
        assert len(result.labels) == count
        for found, labels in zip(result.labels, expected, strict=False):
            assert (found == labels).mean() > 0.998


def test_array_of_four_dimensions_is_a_batch(segmenter: Segmenter) -> None:
    frames = np.stack([make_frame(64, 96, seed) for seed in range(2)])
    expected = [x.copy() for x in segmenter.segment(list(frames)).labels]
    for found, labels in zip(segmenter.segment(frames).labels, expected, strict=True):
        np.testing.assert_array_equal(found, labels)


def test_views_match_their_copies(segmenter: Segmenter) -> None:
    wide = make_frame(64, 128)
    wide.flags.writeable = False
    for view in (wide[:, 7:103], wide[::-1, :96], wide[:, :96, ::-1], wide[::2, ::2]):
        found = segmenter.segment(view)
        assert found.overlay is not None
        labels, overlay = found.labels[0].copy(), found.overlay[0].copy()
        expected = segmenter.segment(view.copy())
        assert expected.overlay is not None
        np.testing.assert_array_equal(labels, expected.labels[0])
        np.testing.assert_array_equal(overlay, expected.overlay[0])


def test_only_requested_results_are_returned(segmenter: Segmenter) -> None:
    frame = make_frame(64, 96)
    result = segmenter.segment(frame, confidence=False, overlay=False)
    assert (result.confidence, result.overlay, result.color) == (None, None, None)
    labels = result.labels[0].copy()
    everything = segmenter.segment(frame, confidence=True, overlay=True, color=True)
    assert everything.confidence is not None
    assert everything.overlay is not None
    assert everything.color is not None
    np.testing.assert_array_equal(everything.labels[0], labels)


def test_uncertain_pixels_are_unlabeled_and_show_the_frame(segmenter: Segmenter) -> None:
    frame = make_frame(64, 96)
    before = segmenter.segment(frame)
    assert before.confidence is not None
    labels, confidence = before.labels[0].copy(), before.confidence[0].copy()
    segmenter.min_confidence = 0.8
    result = segmenter.segment(frame, color=True)
    assert result.overlay is not None
    assert result.color is not None
    unlabeled = result.labels[0] == UNLABELED
    assert unlabeled[confidence < 203].all()
    assert not unlabeled[confidence > 205].any()
    assert 0.01 < unlabeled.mean() < 0.99
    np.testing.assert_array_equal(result.labels[0][~unlabeled], labels[~unlabeled])
    np.testing.assert_array_equal(result.overlay[0][unlabeled], frame[unlabeled])
    assert not result.color[0][unlabeled].any()
    segmenter.min_confidence = 0.0
    np.testing.assert_array_equal(segmenter.segment(frame).labels[0], labels)


def test_shown_classes(segmenter: Segmenter) -> None:
    frame = make_frame(64, 96)
    segmenter.overlay_alpha = 1.0
    labels = segmenter.segment(frame).labels[0].copy()
    shown = segmenter.label_map.names[int(np.bincount(labels.ravel()).argmax())]
    segmenter.show_classes([shown])
    result = segmenter.segment(frame)
    assert result.overlay is not None
    np.testing.assert_array_equal(result.labels[0], labels)
    drawn = labels == segmenter.label_map.id_of(shown)
    assert 0 < drawn.mean() < 1
    np.testing.assert_array_equal(result.overlay[0][~drawn], frame[~drawn])
    np.testing.assert_array_equal(
        result.overlay[0][drawn], segmenter.label_map.palette[labels[drawn]]
    )
    with pytest.raises(LabelMapError, match="unknown class 'unicorn'"):
        segmenter.show_classes(['car', 'unicorn'])
    segmenter.show_classes([])
    everything = segmenter.segment(frame).overlay
    assert everything is not None
    np.testing.assert_array_equal(everything[0], segmenter.label_map.palette[labels])


def test_the_authors_ignore_output_never_wins(
    make_weights: MakeWeights, tmp_path: Path
) -> None:
    weights = make_weights(build_network('lednet', 20), 0, 6.0)
    # Output 19 wins every pixel by far.
    weights[WINNER][19] = 1000
    path = tmp_path / 'authors.pth'
    torch.save(weights, path)
    segmenter = Segmenter.from_checkpoint(path, **EAGER, input_size=(64, 96))
    assert segmenter.label_map.num_classes == 19
    frame = make_frame(64, 96)
    result = segmenter.segment(frame)
    assert result.labels[0].max() < 19
    network = build_network('lednet', 20).eval()
    network.load_state_dict(weights)
    with torch.inference_mode():
        scores = network(torch.from_numpy(frame.transpose(2, 0, 1)[None] / 255).float())[0]
    assert (scores.argmax(dim=0) == 19).all()
    expected = scores[:19].argmax(dim=0).numpy()
    assert (result.labels[0] == expected).mean() > 0.998
    assert len(np.unique(expected)) > 5
    # Nor does it take a fraction of the probability.
    assert result.confidence is not None
    assert result.confidence[0].max() > 100


@pytest.mark.parametrize(('precision', 'share'), [('bf16', 0.75), ('fp16', 0.95)])
def test_lower_precision(small_content: Checkpoint, precision: str, share: float) -> None:
    frame = make_frame(64, 96)
    labels, _, _ = segment_plainly(small_content, frame)
    segmenter = Segmenter(small_content, **EAGER, precision=precision)
    result = segmenter.segment(frame)
    assert segmenter.precision == precision
    assert (result.labels[0] == labels).mean() > share


# --- Buffers --------------------------------------------------------------------------------


def test_results_are_views_of_buffers_that_are_reused(segmenter: Segmenter) -> None:
    frames = [make_frame(64, 96), make_frame(97, 65)]

    def arrays() -> list[Pixels]:
        result = segmenter.segment(frames, color=True)
        assert result.confidence is not None
        assert result.overlay is not None
        assert result.color is not None
        return [*result.labels, *result.confidence, *result.overlay, *result.color]

    first, second = arrays(), arrays()
    for one, two in zip(first, second, strict=True):
        assert np.shares_memory(one, two)
        assert one.flags.c_contiguous
    for index, one in enumerate(first):
        assert not any(np.shares_memory(one, other) for other in first[index + 1:])


def test_run_returns_one_result_per_frame_in_the_same_buffers(segmenter: Segmenter) -> None:
    frames = [Frame(make_frame(64, 96), 'rgb'), Frame(make_frame(97, 65), 'bgr')]
    expected = segmenter.segment(frames, color=True)
    outputs = segmenter.run(frames, Wanted(confidence=True, overlay=True, color=True))
    assert [output.size for output in outputs] == [(64, 96), (97, 65)]
    for name in ('labels', 'confidence', 'overlay', 'color'):
        for output, array in zip(outputs, getattr(expected, name), strict=True):
            assert np.shares_memory(output.array(name), array)
            output.array(name).fill(7)
    wanted = Wanted(confidence=True, overlay=True)
    assert (segmenter.run(frames, wanted)[0].array('overlay') == 7).all(), 'not drawn yet'
    segmenter.draw(frames, outputs, wanted)
    assert (outputs[0].array('overlay') != 7).any()
    assert (outputs[0].array('color') == 7).all(), 'not wanted'
    with pytest.raises(FrameError, match='the batch is empty'):
        segmenter.run([], Wanted())


def test_frames_of_another_size_get_other_buffers(segmenter: Segmenter) -> None:
    first = segmenter.segment(make_frame(64, 96)).labels[0]
    second = segmenter.segment(make_frame(97, 65)).labels[0]
    assert second.shape == (97, 65)
    assert not np.shares_memory(first, second)


def test_warm_up_allocates_all_buffers(
    small_content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter(small_content, **EAGER)
    segmenter.warm_up((97, 65), batch_size=2)

    def fail(*_: object, **__: object) -> None:
        pytest.fail('allocates after warm-up')

    monkeypatch.setattr('lednet_ros.inference.segmenter.Outputs', fail)
    for outputs in segmenter._outputs:
        assert set(outputs((97, 65))._tensors) == {'labels', 'confidence', 'overlay'}
    assert len(segmenter.segment([make_frame(97, 65)] * 2).labels) == 2
    with pytest.raises(pytest.fail.Exception, match='allocates'):
        segmenter.segment([make_frame(97, 65)] * 3)


def test_frames_are_not_changed(segmenter: Segmenter) -> None:
    frame = make_frame(64, 96)
    before = frame.copy()
    segmenter.segment([Frame(frame, 'bgr')], color=True)
    np.testing.assert_array_equal(frame, before)


# --- What is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('frames', 'message'),
    [
        ([], 'the batch is empty'),
        ([np.zeros((64, 96), np.uint8)], r'frame 0 is uint8 \(64, 96\)'),
        ([np.zeros((64, 96, 4), np.uint8)], r'frame 0 is uint8 \(64, 96, 4\)'),
        ([make_frame(64, 96), np.zeros((64, 96, 3), np.float32)], 'frame 1 is float32'),
        ([np.zeros((0, 96, 3), np.uint8)], r'frame 0 is uint8 \(0, 96, 3\).*not empty'),
        (np.zeros((64, 96), np.uint8), r'frame 0 is uint8 \(96,\)'),
    ],
)
def test_frames_that_cannot_be_used_are_named(
    segmenter: Segmenter, frames: Any, message: str
) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        segmenter.segment(frames)
    assert caught.value.reason == 'size'
    assert segmenter.segment(make_frame(64, 96)).labels[0].shape == (64, 96)


@pytest.mark.parametrize(
    ('setting', 'value', 'message'),
    [
        ('device', 'gpu', "device is 'gpu'; allowed: auto, cpu, cuda, cuda:N"),
        ('device', 'meta', "device is 'meta'; allowed"),
        ('device', '', "device is ''; allowed"),
        ('device', 'cuda:99', "device is 'cuda:99', but . CUDA devices are there"),
        ('precision', 'int8', "precision is 'int8'; allowed with .*: auto, fp32, fp16, bf16"),
        ('input_size', (63, 96), r'input_size is 63x96 .*must be 64 to 8192'),
        ('input_size', (64, 8193), r'input_size is 64x8193 .*must be 64 to 8192'),
        ('input_size', (0, 0), r'input_size is 0x0'),
        ('output_size', (0, 96), r'output_size is 0x96 .*must be 1 to 8192'),
        ('output_size', (-4, 96), r'output_size is -4x96'),
        ('output_size', (64, 10_000), r'output_size is 64x10000'),
    ],
)
def test_settings_that_cannot_work_are_named(
    small_content: Checkpoint, setting: str, value: Any, message: str
) -> None:
    arguments = EAGER | {setting: value}
    with pytest.raises(ConfigurationError, match=message):
        Segmenter(small_content, **arguments)


def test_small_input_size_of_a_checkpoint_is_refused(small_content: Checkpoint) -> None:
    with pytest.raises(ConfigurationError, match='input_size is 32x96'):
        Segmenter(replace(small_content, input_size=(32, 96)), **EAGER)


def test_checkpoint_that_does_not_fit_names_the_file(
    small_content: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('lednet_ros.inference.tuning.rank', lambda *_: pytest.fail('tried it'))
    path = tmp_path / 'wrong.safetensors'
    save_checkpoint(replace(small_content, network='lednet_heavy'), path)
    with pytest.raises(CheckpointError, match=r'wrong\.safetensors: weights do not fit'):
        Segmenter.from_checkpoint(path, device='cpu', backend='auto')
    save_checkpoint(replace(small_content, network='unet'), path)
    with pytest.raises(CheckpointError, match=r"wrong\.safetensors: unknown network 'unet'"):
        Segmenter.from_checkpoint(path, device='cpu')
    with pytest.raises(CheckpointError, match=r'nothing\.safetensors is not a file'):
        Segmenter.from_checkpoint(tmp_path / 'nothing.safetensors', device='cpu')


def test_from_checkpoint_reports_backend_and_precision(small_checkpoint: Path) -> None:
    segmenter = Segmenter.from_checkpoint(small_checkpoint, **EAGER)
    assert segmenter.network_name == 'lednet'
    assert segmenter.label_map.name == 'camvid'
    assert segmenter.device == torch.device('cpu')
    assert segmenter.backend == 'torch_eager'
    assert segmenter.precision == 'fp32'
    assert segmenter.input_size == (64, 96)
    assert segmenter.output_size is None
    network = build_network('lednet', 11)
    assert segmenter.num_parameters == sum(p.numel() for p in network.parameters())


def test_colors_for_the_color_blind(small_content: Checkpoint) -> None:
    frame = make_frame(64, 96)
    plain, other = (
        Segmenter(small_content, palette=palette, **EAGER)
        for palette in ('label_map', 'color_blind')
    )
    labels = plain.segment(frame).labels[0]
    result = other.segment(frame, color=True)
    np.testing.assert_array_equal(result.labels[0], labels)
    assert result.color is not None
    expected = small_content.label_map.for_color_blind().palette[labels]
    np.testing.assert_array_equal(result.color[0], expected)
    with pytest.raises(ConfigurationError, match="palette is 'sepia'; allowed: label_map, color"):
        Segmenter(small_content, palette='sepia', **EAGER)


# --- CUDA -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize(('precision', 'share'), [('fp32', 0.95), ('auto', 0.9), ('bf16', 0.75)])
def test_cuda_equals_the_plain_steps(
    small_content: Checkpoint, precision: str, share: float
) -> None:
    segmenter = Segmenter(small_content, device='cuda', precision=precision)
    frames = [make_frame(64, 96), make_frame(97, 65), make_frame(360, 480)]
    for _ in range(2):
        result = segmenter.segment(frames)
        assert result.confidence is not None
        for frame, labels in zip(frames, result.labels, strict=True):
            expected, _, _ = segment_plainly(small_content, frame)
            assert (labels == expected).mean() > share


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_allocates_nothing_after_warm_up(small_content: Checkpoint) -> None:
    segmenter = Segmenter(small_content, device='cuda')
    segmenter.warm_up((97, 65))
    first = segmenter.segment(make_frame(97, 65)).labels[0]
    reserved = torch.cuda.memory_reserved()
    for seed in range(5):
        second = segmenter.segment(make_frame(97, 65, seed)).labels[0]
    assert np.shares_memory(first, second)
    assert torch.cuda.memory_reserved() == reserved


def test_a_restart_takes_a_fresh_backend(small_content: Checkpoint) -> None:
    made: list[weakref.ref[Any]] = []

    class Constant:
        """Returns the number of its instance as the label everywhere."""

        draws = False

        def __init__(self) -> None:
            # The memory of one that has failed is given back before the next one is made.
            assert all(reference() is None for reference in made)
            made.append(weakref.ref(self))
            self.number = len(made)

        def run(self, frames: Any, outputs: Any, wanted: Any, style: Any) -> None:
            for output in outputs:
                output.array('labels').fill(self.number)

    segmenter = Segmenter(small_content, backend=Constant, device='cpu')
    frame = np.zeros((8, 8, 3), np.uint8)
    for number in (1, 2, 3):
        labels = segmenter.segment([frame], confidence=False, overlay=False).labels[0]
        assert (labels == number).all()
        if number < 3:
            segmenter.restart()


@pytest.mark.parametrize('backend', ['torch_eager', 'openvino'])
def test_a_restart_changes_no_result(small_content: Checkpoint, backend: str) -> None:
    if backend == 'openvino':
        pytest.importorskip('openvino')
    segmenter = Segmenter(small_content, backend=backend, device='cpu')
    segmenter.overlay_alpha = 0.3
    frame = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    before = segmenter.segment([frame])
    before_arrays = [before.labels[0].copy(), before.overlay[0].copy()]
    segmenter.restart()
    after = segmenter.segment([frame])
    assert np.array_equal(before_arrays[0], after.labels[0])
    assert np.array_equal(before_arrays[1], after.overlay[0])


def test_a_restart_does_not_build_on_a_lost_context(
    small_content: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def lose(device: torch.device) -> None:
        raise RuntimeError(f'illegal memory access on {device}')

    def build() -> Any:
        built.append('backend')
        return object()

    # A mock: there is no GPU here whose context could be lost.
    monkeypatch.setattr(torch.cuda, 'synchronize', lose)
    segmenter = Segmenter(small_content, device='cpu', backend=build)
    segmenter.device = torch.device('cuda', 0)
    with pytest.raises(RuntimeError, match='illegal memory access on cuda:0'):
        segmenter.restart()
    assert built == ['backend']


@pytest.mark.parametrize('backend', ['torch_eager', 'openvino'])
def test_a_segmenter_is_gone_when_nobody_holds_it(
    small_content: Checkpoint, backend: str
) -> None:
    if backend == 'openvino':
        pytest.importorskip('openvino')
    segmenter = Segmenter(small_content, backend=backend, device='cpu')
    segmenter.warm_up((64, 96))
    gone = [weakref.ref(segmenter), weakref.ref(segmenter._backend)]
    gc.disable()
    try:
        del segmenter
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()
