"""From a video file to frames, and the folder of what was computed from videos."""

from st_simdiff.videos.frames import SampledVideo, VideoError, sample_frames, time_instruction

__all__ = ["SampledVideo", "VideoError", "sample_frames", "time_instruction"]
