"""Makes training data of clips in which one box or more of each target were drawn."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", type=Path, help="CSV file: video,step,frames,target,frame,x,y,w,h of each box")
    parser.add_argument("--videos", type=Path, required=True, help="folder that the videos lie in")
    parser.add_argument("--out", type=Path, required=True, help="folder for frames and labels.json")
    parser.add_argument("--drawn", action="store_true", help="write sequences for `sot eval`, of drawn boxes alone")
    parser.add_argument("--model", help="a name from `sot models`; the shipped default by default")
    parser.add_argument("--weights", help="a checkpoint; the shipped weights by default")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; CUDA where there is one by default")


def run(args: argparse.Namespace) -> None:
    from sot_ros.trackers.models import DEFAULT_MODEL, create_tracker
    from sot_ros.training.label import label, read_clips, write_drawn

    clips = read_clips(args.clips)
    if args.drawn:
        if args.model or args.weights or args.device:
            raise ValueError("--drawn follows nothing: --model, --weights and --device are accepted without it")
        write_drawn(clips, args.videos, args.out)
        return
    tracker = create_tracker(args.model or DEFAULT_MODEL, args.weights, args.device)
    targets, boxes = label(clips, args.videos, args.out, tracker)
    print(f"{boxes} outlines of {targets} targets; {len(clips) - targets} were not followed for certain")
