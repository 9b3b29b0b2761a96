"""A method on lmms-eval's benchmarks: what `st-simdiff eval` starts, and the models that lmms-eval finds.

plan/ makes runs of what is asked for. launch, sweep, runs, journal, record, run_protocol carry them out and go on where
they stopped; evaluation and results say how it went. llava_video, nvila_video and twins/ are the models; answering and
turns put questions to one, videos/ has each video decoded and seen once. tasks/ with tasks_table, local_videos and
video_folders are the benchmarks; embedded needs no download.
"""
