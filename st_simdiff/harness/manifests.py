"""What lmms-eval finds through the entry-point group `lmms_eval.models`. Imported while lmms-eval itself is still
initialising, so it imports nothing else."""

from lmms_eval.models.registry_v2 import ModelManifest

LLAVA_VIDEO = ModelManifest(
    model_id="llava_video",
    simple_class_path="st_simdiff.harness.llava_video.LlavaVideo",
)
