"""Makes torchvision importable beside a PyTorch for CPUs, where its compiled operators do not load: it declares them.

Nothing that vLLM's models need calls the operators. Run once in an environment; changes one installed file of it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

ANCHOR = "import torchvision.extension  # noqa: F401\n"
DECLARED = """
if not torchvision.extension._has_ops():
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).with_name("_meta_registrations.py")
    text = file.read_text(encoding="utf-8")
    if DECLARED not in text:
        assert ANCHOR in text, f"{file} is not the file that is known here"
        file.write_text(text.replace(ANCHOR, ANCHOR + DECLARED, 1), encoding="utf-8")


if __name__ == "__main__":
    main()
