"""From a video file to frames, and the folder of what was computed from videos.

Reading order: frames (the way in), settings, record, sampling; containers, timeline, choice, pictures; pyav_decoder,
decord_decoder, torchcodec_decoder, decoders; channel, worker, workers.
"""

from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.frames import read_frames, sample_frames
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import frame_indices, time_instruction
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.workers import VideoWorkers

__all__ = [
    "ReadRecord",
    "ReadSettings",
    "SampledVideo",
    "VideoError",
    "VideoWorkers",
    "frame_indices",
    "read_frames",
    "sample_frames",
    "time_instruction",
]
