"""Generating with a model of the zoo, and comparing logits."""

import itertools

import torch
from zoo import Text, Video

STEPS = 16


def generate(zoo, inputs, steps=STEPS, **options):
    settings = {"max_new_tokens": steps, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    return zoo.model.generate(**inputs, **settings | options)


def options_for(zoo, *rows):
    """InternVL is told the number of frames wherever a row has more than one video."""
    visuals = [[s for s in row if not isinstance(s, Text)] for row in rows]
    if not zoo.options or max(map(len, visuals)) < 2:
        return zoo.options
    return {"images_as_frames": [s.frames if isinstance(s, Video) else 1 for s in itertools.chain(*visuals)]}


def logits_of(output):
    """(B, steps, V)."""
    return torch.stack(output.logits, dim=1)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def hooks_of(model):
    """Every hook of every module, what has been set on the modules themselves, and their configs."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called", "_backward_hooks")
    modules = dict(model.named_modules())
    return (
        {(name, kind): list(getattr(module, kind)) for name, module in modules.items() for kind in kinds},
        {name: set(vars(module)) for name, module in modules.items()},
        {name: repr(module.config) for name, module in modules.items() if hasattr(module, "config")},
    )
