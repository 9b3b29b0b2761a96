"""Several questions about one video, on one cache and each alone."""

import torch
from helpers import generate, options_for
from zoo import Text, Video

from st_simdiff import STSimDiff, compress
from st_simdiff.models.families import find_family

METHOD = STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.4)
PREFIX = [Text(5), Video(5), Text(3, 2)]
QUESTIONS = [Text(7, 1), Text(4, 3), Text(9, 4)]


def shared_length(zoo, prefix=PREFIX):
    """Positions of the prefix: every visual token has one, also where one id stands for all of a video."""
    prompt = zoo.prompt(prefix)
    unseen = sum(len(video.positions) - 1 for video in prompt.videos[0]) if zoo.one_placeholder else 0
    return prompt.inputs["input_ids"].shape[1] + unseen


def follow_up(zoo, question, cache, prefix=PREFIX, **options):
    """Another question on a cache that is cut back to the prefix."""
    shared = shared_length(zoo, prefix)
    cache.crop(shared - cache.get_seq_length())
    ids = zoo.prompt([*prefix, question]).inputs["input_ids"]
    mask = torch.ones_like(ids)
    if zoo.one_placeholder:
        ids = ids[:, zoo.prompt(prefix).inputs["input_ids"].shape[1] :]
        mask = torch.ones(1, shared + ids.shape[1], dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": mask}
    return generate(zoo, inputs, steps=4, past_key_values=cache, **options)


def together_and_alone(zoo, method, prefix=PREFIX):
    """The logits and kept tokens of three questions on one cache, and of each alone. And how much was fed."""
    options = options_for(zoo, prefix)
    lengths, kept = [], ([], [])
    layer = find_family(zoo.model).text_model(zoo.model).layers[0]
    with compress(zoo.model, method, share_prefix=True, **options) as trace:
        handle = layer.register_forward_pre_hook(
            lambda _, args, kwargs: lengths.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
            with_kwargs=True,
        )
        outputs = [generate(zoo, zoo.prompt([*prefix, QUESTIONS[0]]).inputs, steps=4)]
        kept[0].append([video.offsets.tolist() for video in trace.videos])
        for question in QUESTIONS[1:]:
            outputs.append(follow_up(zoo, question, outputs[-1].past_key_values, prefix))
            kept[0].append([video.offsets.tolist() for video in trace.videos])
        handle.remove()
    alone = []
    for question in QUESTIONS:
        with compress(zoo.model, method, **options) as trace:
            alone.append(generate(zoo, zoo.prompt([*prefix, question]).inputs, steps=4))
        kept[1].append([video.offsets.tolist() for video in trace.videos])
    return outputs, alone, kept, lengths
