"""Visual single-object trackers for robots: create a tracker, give it a box once, get a box for every frame.

    tracker = sot_ros.create_tracker("siamfc", weights="siamfc_alexnet_e50.pth")
    tracker.initialize(image, (x, y, w, h))
    estimate = tracker.track(next_image)
"""

from sot_ros.geometry import Box

__all__ = ["Box", "Estimate", "MultiTracker", "Tracker", "create_tracker", "list_models", "track_together"]


def __getattr__(name: str):
    # Torch takes seconds to import, and a controller that only wants sot_ros.msg should not wait for it.
    if name in __all__:
        import sot_ros.trackers

        return getattr(sot_ros.trackers, name)
    raise AttributeError(f"module 'sot_ros' has no attribute {name!r}")
