"""Positions of pruned videos as the plugin for vLLM carries and places them, without vLLM, against plain loops."""

from __future__ import annotations

import pytest
import torch

from st_simdiff.serve.vllm.positions import (
    CHANNELS,
    add_position_channels,
    framed_positions,
    grid_positions,
    place_items,
    take_position_channels,
    whole_prompt,
)

TEXT, START, END, VISUAL, IMAGE = 1, 2, 3, 4, 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_positions_are_exact_in_every_dtype(dtype):
    """64 frames of 12 x 21 tokens with their times in text end beyond 1,900; a hundred times that is carried too."""
    positions = torch.stack([torch.arange(200_000), torch.arange(200_000) // 3, torch.arange(200_000) % 777])
    rows = add_position_channels(torch.zeros(200_000, 2, dtype=dtype), positions, visual=248_057, lead=9)
    assert rows.dtype == dtype
    _, own, item = take_position_channels(rows[150_000:])
    assert torch.equal(own, positions[:, 150_000:])
    assert item == (150_000, 248_057, 9)


def test_positions_of_a_grid():
    got = grid_positions((3, 2, 2), 1.5)
    want = [[int(t * 1.5), h, w] for t in range(3) for h in range(2) for w in range(2)]
    assert got.T.tolist() == want


def framed(frames, height, width, stamp=2):
    """Tokens of an item in Qwen3-VL's layout, and their positions by a plain loop."""
    ids, positions, at = [], [], 0
    for _ in range(frames):
        for token in [TEXT] * stamp + [START]:
            ids.append(token)
            positions.append([at] * 3)
            at += 1
        for place in range(height * width):
            ids.append(VISUAL)
            positions.append([at, at + place // width, at + place % width])
        at += max(height, width)
        ids.append(END)
        positions.append([at] * 3)
        at += 1
    return ids, torch.tensor(positions).T


def test_positions_of_frames_with_text_between():
    ids, want = framed(3, 2, 5)
    assert torch.equal(framed_positions(torch.tensor(ids) == VISUAL, 2, 5), want)


def pruned_prompt():
    """A prompt of text, an image, text, a pruned video with stamps, text; its positions and its items' rows.

    The text has tokens that look like media: a frame without any before the items, visual tokens behind them.

    Returns ids, positions with videos still provisional, the right ones, and (start, rows) of the items.
    """
    image = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]).T
    video_ids, video = framed(4, 2, 3)
    keep = torch.tensor([True if token != VISUAL else i % 3 == 0 for i, token in enumerate(video_ids)])
    ids, columns, items = [], [], []
    base = 0

    def text(tokens):
        nonlocal base
        for token in tokens:
            ids.append(token)
            columns.append([base] * 3)
            base += 1

    text([TEXT, START, END, TEXT, START])
    rows = add_position_channels(torch.arange(4.0)[:, None], image, IMAGE)
    items.append((len(ids), rows))
    ids.extend([IMAGE] * 4)
    columns.extend((image + base).T.tolist())
    base += 2
    text([END, IMAGE, TEXT, START, END, START])
    kept = video[:, keep]
    rows = add_position_channels(torch.arange(100.0, 100 + kept.shape[1])[:, None], kept, VISUAL, lead=3)
    items.append((len(ids), rows))
    # in a prompt, all visual tokens stand in the first frame
    visual = int((torch.tensor(video_ids)[keep] == VISUAL).sum())
    frame = [TEXT, TEXT, START, END]
    lumped = frame[:3] + [VISUAL] * visual + frame[3:] + 3 * frame
    ids.extend(lumped)
    columns.extend((kept + base).T.tolist())
    base += int(video.max()) + 1
    text([END, TEXT, START, VISUAL, END, TEXT])
    right = torch.tensor(columns).T
    provisional = right.clone()
    for start, rows in items:
        provisional[:, start : start + len(rows)] = 0
    return torch.tensor(ids), provisional, right, items


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
@pytest.mark.parametrize("first", [0, 5, 13])
def test_items_find_their_places_in_every_chunking(chunk, first):
    """first: where the prefill begins, the tokens before being cached."""
    ids, positions, right, items = pruned_prompt()

    embeddings = []
    for begin in range(first, len(ids), chunk):
        end = min(begin + chunk, len(ids))
        parts = [
            rows[max(begin - start, 0) : end - start]
            for start, rows in items
            if start < end and begin < start + len(rows)
        ]
        own, positions = place_items(parts, positions, begin, ids)
        embeddings += own
    touched = torch.ones(len(ids), dtype=torch.bool)
    touched[:first] = False
    for start, _ in items[:1]:
        touched[start:first] = False
    assert torch.equal(positions[:, touched], right[:, touched])
    expected = torch.cat(
        [rows[max(first - start, 0) :, :-CHANNELS] for start, rows in items if first < start + len(rows)]
    )
    assert torch.equal(torch.cat(embeddings), expected)


def test_the_whole_prompt_and_the_places_of_what_is_left():
    ids = [10, 11, 4, 4, 12, 5, 5, 5, 13]
    full, items, places = whole_prompt(ids, [(2, 2), (5, 3)], lambda index, tokens: list(tokens) * (3 - 2 * index))
    assert full == [10, 11, 4, 4, 4, 4, 4, 4, 12, 5, 5, 5, 13]
    assert items == [(2, 6), (9, 3)]
    assert [full[place] for place in places] == ids
    text = [0, 1, 4, 8]
    assert [places[i] for i in text] == [0, 1, 8, 12]
